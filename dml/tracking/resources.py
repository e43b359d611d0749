"""What a piece of work cost, processes that it started and that have ended included."""

import resource
import sys
import time

_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the operating system counts the resident set."""


class Resources:
    """Start counting at creation; costs nothing while the work runs."""

    def __init__(self) -> None:
        self._wall, self._processor = time.monotonic(), _processor()

    def spent(self) -> dict[str, float]:
        """Return seconds and MiB under MLflow's names for system metrics, peaks for the largest process."""
        found = {
            "system/wall_seconds": time.monotonic() - self._wall,
            "system/cpu_seconds": _processor() - self._processor,
            "system/peak_memory_megabytes": max(u.ru_maxrss for u in _usages()) * _UNIT / 2**20,
        }
        return found | _gpu()


def _usages() -> tuple[resource.struct_rusage, ...]:
    return resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)


def _processor() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in _usages())


def _gpu() -> dict[str, float]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {"system/gpu_peak_memory_megabytes": torch.cuda.max_memory_allocated() / 2**20}
