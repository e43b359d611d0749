"""Run one benchmark and print its result as one line of JSON: `python -m benchmarks.worker NAME`."""

import json
import sys

from benchmarks.measurement import read_peak_bytes, reset_peak_bytes, time_matrix_product
from benchmarks.registry import SkipBenchmark, benchmarks


def main(name: str) -> None:
    """Measure the matrix product, then one benchmark; memory is the peak above that before it starts."""
    import torch

    from dml.training.runtime import keep_freed_memory

    benchmark = benchmarks()[name]
    torch.set_num_threads(benchmark.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    unit = time_matrix_product()
    start_bytes = reset_peak_bytes()
    try:
        measured = benchmark.run()
    except SkipBenchmark as reason:
        print(json.dumps({"skipped": str(reason)}))
        return
    result = {
        "wall": measured.wall_s,
        "cpu": measured.cpu_s,
        "product_wall": unit.wall_s,
        "product_cpu": unit.cpu_s,
        "peak": read_peak_bytes() - start_bytes,
        "figures": dict(measured.figures),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
