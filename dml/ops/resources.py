"""What a piece of work cost: wall and processor time, peak memory."""

import resource
import sys
import time

_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the operating system counts the resident set."""


class Resources:
    """Start counting at creation; costs nothing while the work runs."""

    def __init__(self) -> None:
        self._wall, self._processor = time.monotonic(), time.process_time()

    def spent(self) -> dict[str, float]:
        """Return seconds and MiB under MLflow's names for system metrics, peaks for the whole process."""
        found = {
            "system/wall_seconds": time.monotonic() - self._wall,
            "system/cpu_seconds": time.process_time() - self._processor,
            "system/peak_memory_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT / 2**20,
        }
        return found | _gpu()


def _gpu() -> dict[str, float]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {"system/gpu_peak_memory_megabytes": torch.cuda.max_memory_allocated() / 2**20}
