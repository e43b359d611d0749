"""Run one benchmark and print what was found as one line of JSON: `python -m benchmarks.worker NAME`."""

import json
import sys

from benchmarks.measuring import forget_peak, peak_bytes, product
from benchmarks.registry import NotHereError, benchmarks


def main(name: str) -> None:
    """Measure one benchmark after the unit; memory is counted from what is held before it starts."""
    import torch

    from dml.training.memory import keep_freed_memory

    benchmark = benchmarks()[name]
    torch.set_num_threads(benchmark.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    unit = product()
    start = forget_peak()
    try:
        measured = benchmark.run()
    except NotHereError as reason:
        print(json.dumps({"skipped": str(reason)}))
        return
    found = {
        "wall": measured.wall,
        "cpu": measured.cpu,
        "product_wall": unit.wall,
        "product_cpu": unit.cpu,
        "peak": peak_bytes() - start,
        "figures": dict(measured.figures),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
