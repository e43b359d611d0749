"""Expression of 10,000 samples x 20,000 genes: a gzipped table to the store, and the store to memory."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measurement import time_repeats
from benchmarks.registry import Benchmark, Measurement, register
from dml.cohorts.store_files import ExpressionMatrix, read_expression, write_expression
from dml.readers.table_files import read_table

SAMPLES, GENES = 10_000, 20_000
TEXT_SAMPLES = 500
"""Samples of the text table: a twentieth, since text is 20 times the work."""


def _make_matrix() -> ExpressionMatrix:
    values = np.random.default_rng(0).gamma(2.0, 2.0, (SAMPLES, GENES)).astype(np.float32)
    patients = tuple(f"P{i:05d}" for i in range(SAMPLES))
    return ExpressionMatrix(patients, tuple(f"G{i:05d}" for i in range(GENES)), values, "log2_tpm", "benchmark")


def _time_write() -> Measurement:
    matrix = _make_matrix()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "expression.parquet"
        result = time_repeats(lambda: write_expression(path, matrix), repeats=1, warm=0)
        return Measurement(result.wall_s, result.cpu_s, {"MB": path.stat().st_size / 1e6})


def _time_read() -> Measurement:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "expression.parquet"
        write_expression(path, _make_matrix())
        return time_repeats(lambda: read_expression(path), repeats=3, warm=0)


def _time_text() -> Measurement:
    values = np.random.default_rng(0).gamma(2.0, 2.0, (GENES, TEXT_SAMPLES)).round(3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "expression.csv"
        frame = pd.DataFrame(values, columns=[f"P{i:05d}" for i in range(TEXT_SAMPLES)])
        frame.insert(0, "gene", [f"G{i:05d}" for i in range(GENES)])
        frame.to_csv(path, index=False)
        result = time_repeats(lambda: read_table(path, numeric=True), repeats=1, warm=0)
        return Measurement(
            result.wall_s, result.cpu_s, {"s for 10,000 samples": result.wall_s * SAMPLES / TEXT_SAMPLES}
        )


GROUP = "7 tables"
register(Benchmark("expression to the store, 10,000 x 20,000", GROUP, _time_write, full=True))
register(Benchmark("expression from the store, 10,000 x 20,000", GROUP, _time_read, full=True))
register(Benchmark("expression from text, 500 x 20,000", GROUP, _time_text))
