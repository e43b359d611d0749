"""How the checks and comparisons of a cohort grow with its patients: CPU seconds at three sizes, and their exponent."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.measurement import time_repeats
from benchmarks.registry import Benchmark, Measurement, register
from dml.checks.bag_summaries import summarise_bag
from dml.checks.drift import compare_genes_of_groups
from dml.checks.near_duplicates import duplicate_profiles, near_duplicate_bags
from dml.checks.run import check_features
from dml.cohorts.patients import write_patients
from dml.cohorts.store_files import ExpressionMatrix
from dml.config.params import Params
from dml.core.files import write_parquet
from dml.data import feature_store
from dml.data.feature_store import bag_path, write_bag
from dml.evaluation.intervals import bootstrap_weights
from dml.evaluation.metrics.concordance import harrell_c

SIZES = (600, 2_000, 6_000)
GROUP = "10 growth with patients"
ENCODER, MPP = "benchmark", 0.5


def _time_sizes(prepare: Callable[[int], Callable[[], object]]) -> Measurement:
    """Time the work that is prepared for each size; the line shows the largest, the exponent is a fit to all."""
    results = [time_repeats(prepare(size), repeats=1, warm=1 if size == SIZES[0] else 0) for size in SIZES]
    seconds = [max(result.cpu_s, 1e-4) for result in results]
    exponent = float(np.polyfit([math.log(size) for size in SIZES], [math.log(each) for each in seconds], 1)[0])
    figures = {f"CPU s at {size:,}": each for size, each in zip(SIZES, seconds, strict=True)}
    return Measurement(results[-1].wall_s, results[-1].cpu_s, {"exponent": exponent, **figures})


def _near_duplicates(size: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    bags = {f"S{i}": rng.normal(rng.normal(size=256), 1.0, (24, 256)).astype(np.float16) for i in range(size)}
    summaries = [summarise_bag(slide, f"P{slide}", tokens) for slide, tokens in bags.items()]
    return lambda: near_duplicate_bags(summaries, bags.__getitem__)


def _profiles(size: int) -> Callable[[], object]:
    values = np.random.default_rng(0).normal(size=(size, 1_000))
    return lambda: duplicate_profiles(tuple(f"P{i}" for i in range(size)), values)


def _drift(size: int) -> Callable[[], object]:
    values = np.random.default_rng(0).normal(size=(size, 500)).astype(np.float32)
    patients = tuple(f"P{i:05d}" for i in range(size))
    matrix = ExpressionMatrix(patients, tuple(f"G{i:05d}" for i in range(500)), values, "log2_tpm", "benchmark")
    sites = {patient: f"site {i % 30:02d}" for i, patient in enumerate(patients)}
    return lambda: compare_genes_of_groups(matrix, sites)


def _concordance(size: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    days, event, risk = rng.exponential(1000, size).round(), rng.random(size) < 0.4, rng.normal(size=size)
    fold = np.arange(size) % 5
    weights = bootstrap_weights(fold, 200, 0)
    return lambda: harrell_c(weights, days=days, event=event, risk=risk, fold=fold)


def _time_checks(slides: int, tokens: int, width: int) -> Measurement:
    """Check generated features; bytes read are those of every bag that is opened."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        _write_cohort(folder, slides, tokens, width)
        params = Params.model_validate(
            {"cohort": "x", "tasks": ["survival"], "folds": [0, 1], "embed": {"encoder": ENCODER, "source": "import"}}
        )
        read: list[int] = []
        whole = feature_store._read

        def count(path: Path, *arguments: Any, **options: Any) -> Any:
            read.append(path.stat().st_size)
            return whole(path, *arguments, **options)

        with mock.patch.object(feature_store, "_read", count):
            result = time_repeats(lambda: check_features(folder, params, Path(temporary) / "out"), repeats=1, warm=0)
        stored = sum(path.stat().st_size for path in (folder / "features" / ENCODER).rglob("*.parquet"))
        share = sum(read) / stored
        return Measurement(result.wall_s, result.cpu_s, {"bytes read per byte stored": share})


def _write_cohort(folder: Path, slides: int, tokens: int, width: int) -> None:
    rng = np.random.default_rng(0)
    ids = [f"P{i:05d}" for i in range(slides)]
    sites = [f"site {i % 10}" for i in range(slides)]
    patients = pd.DataFrame({"patient_id": ids, "site": sites, "event": True, "survival_days": 1.0})
    write_patients(folder / "patients.parquet", patients, {}, "x")
    axes = rng.normal(size=(12, width)).astype(np.float32)  # tokens vary mostly in a few directions, as tissue does
    for patient in ids:
        bag = rng.normal(size=(tokens, 12)).astype(np.float32) @ axes + rng.normal(0, 0.3, (tokens, width))
        meta = {"encoder": ENCODER, "mpp": MPP, "tile_um": 128.0, "slide_id": patient}
        write_bag(bag_path(folder / "features", ENCODER, MPP, patient), bag.astype(np.float16), None, meta)
    manifest = pd.DataFrame({"slide_id": ids, "patient_id": ids, "mpp": MPP, "tiles": tokens, "status": "ok"})
    manifest["reason"] = None
    write_parquet(folder / "features/manifest.parquet", pa.Table.from_pandas(manifest, preserve_index=False))


register(Benchmark("near duplicates, 6,000 slides", GROUP, lambda: _time_sizes(_near_duplicates)))
register(Benchmark("same transcriptome, 6,000 x 1,000", GROUP, lambda: _time_sizes(_profiles)))
register(Benchmark("drift of 30 sites, 6,000 x 500", GROUP, lambda: _time_sizes(_drift)))
register(Benchmark("Harrell C, 6,000 x 200 resamples", GROUP, lambda: _time_sizes(_concordance)))
register(Benchmark("check_features, 200 x 24 tokens of 1,024", GROUP, lambda: _time_checks(200, 24, 1024)))
register(Benchmark("check_features, 2,000 x 24 tokens of 1,024", GROUP, lambda: _time_checks(2_000, 24, 1024)))
register(Benchmark("check_features, 60 x 5,000 of 1,024", GROUP, lambda: _time_checks(60, 5_000, 1024), full=True))
