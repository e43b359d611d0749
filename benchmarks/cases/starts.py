"""What a command or a stage costs before its own work begins: cold predictions, and the imports of the stages."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.measurement import ROOT, time_command
from benchmarks.registered_model import FEATURES, NAME, SLIDE, write_inputs, write_registered_model
from benchmarks.registry import Benchmark, Measurement, register
from benchmarks.repository_copy import BIN

GROUP = "11 starts"
LIBRARIES = "import torch, pandas, pyarrow.parquet"
STAGES = ("split", "check_features", "train_teacher", "register")


def _time_prediction(file: str) -> Callable[[], Measurement]:
    def run() -> Measurement:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_registered_model(folder)
            write_inputs(folder)
            words = ["predict", "--model", f"{NAME}@challenger", "--slides", file, "--out", "out.csv"]
            return time_command([str(BIN / "dml"), *words], cwd=folder)

    return run


def _time_imports(code: str) -> Callable[[], Measurement]:
    return lambda: time_command([sys.executable, "-c", code], cwd=ROOT)


register(Benchmark("dml predict, one feature file, cold", GROUP, _time_prediction(FEATURES)))
register(Benchmark("dml predict, one slide of 64 tiles, cold", GROUP, _time_prediction(SLIDE)))
register(Benchmark("imports of torch, pandas and pyarrow", GROUP, _time_imports(LIBRARIES)))
for name in STAGES:
    register(Benchmark(f"imports of stage {name}", GROUP, _time_imports(f"import pipelines.{name}")))
