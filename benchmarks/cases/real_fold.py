"""Folds of the real cohort, where its raw data are (../shared/data, or DML_SHARED_DATA): teacher, then student."""

import contextlib
import os
import time
from pathlib import Path

from benchmarks.clones import clone, run
from benchmarks.measuring import ROOT, cpu_seconds, repeated
from benchmarks.registry import Benchmark, Measured, NotHereError, register
from benchmarks.shapes import data_shape, made_batch, teacher, teacher_step

COHORT = "tcga_gbmlgg"
LENGTHS = [1, 4, 9, 16, 22, 30, 41, 55, 82, 120, 165, 262]
"""Quantiles of the real bags; a batch of 32 repeats them."""


def _step() -> Measured:
    """Time a step of the real cohort's shape: 32 patients, 192 wide, one magnification, no coordinates."""
    sizes = sorted((LENGTHS * 3)[:32])
    batch = made_batch(sizes, levels=1, token_width=192, has_coords=False)
    return repeated(teacher_step(teacher(data_shape(1, 192)), batch), repeats=15)


def _place() -> Path:
    """Return a copy of the repository in which the real cohort was read and split; it stays for the next run."""
    source = Path(os.environ.get("DML_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (source / COHORT).exists():
        raise NotHereError(f"the cohort's raw data are not in {source / COHORT} (set DML_SHARED_DATA)")
    place = clone(ROOT / ".work" / "benchmarks" / COHORT)
    run(place, "dml", "cohort", "import", COHORT, "--source", str(source))
    run(place, "dml", "cohort", "use", COHORT)
    run(place, "dvc", "repro", "split")
    return place


def _folds(count: int, student: bool = True) -> Measured:
    """Train the teachers, and the students, of some folds, one fold after the other."""
    with contextlib.chdir(_place()):
        from dml.config import params as config
        from dml.core.files import read_parquet
        from dml.data.load_cohort import read_cohort
        from dml.training.folds import fold_of
        from dml.training.train import distil, teach

        params = config.load()
        cohort = read_cohort(Path("data") / COHORT, params.embed.encoder, params.tiles.mpps)
        splits = read_parquet(Path("data") / COHORT / "splits.parquet")[0].to_pandas()
        start, cpu, teaching, epochs = time.perf_counter(), cpu_seconds(), 0.0, 0
        for index in range(count):
            fold, begun = fold_of(cohort, splits, index), time.perf_counter()
            taught = teach(fold, params, "survival")
            teaching, epochs = teaching + time.perf_counter() - begun, epochs + len(taught.history)
            if student:
                distil(fold, params, "survival", taught.model)
        figures = {
            "teachers s": teaching,
            "teacher epochs": float(epochs),
            "members": params.optimisation.ensemble_size,
        }
        return Measured(time.perf_counter() - start, cpu_seconds() - cpu, figures)


def _classical() -> Measured:
    """Fit every classical reference of a fold, on all learning patients and without each inner part."""
    with contextlib.chdir(_place()):
        from dml.baselines.linear.fit import BASELINES
        from dml.config import params as config
        from pipelines.inputs import Job, read_inputs
        from pipelines.train_linear_baselines import reference

        job = Job(config.load(), "survival", 0)
        inputs = read_inputs(job)
        found = repeated(lambda: [reference(job, inputs, name) for name in BASELINES], repeats=1, warm=0)
        return Measured(found.wall, found.cpu, {"references": len(BASELINES)})


GROUP = "4 real cohort"
register(Benchmark("teacher step, real bags, B = 32", GROUP, _step))
register(Benchmark("classical baselines, one fold", GROUP, _classical, full=True))
register(Benchmark("teacher, one fold", GROUP, lambda: _folds(1, student=False), seconds=60, full=True))
register(Benchmark("teacher + student, one fold", GROUP, lambda: _folds(1), full=True))
register(Benchmark("teacher + student, five folds", GROUP, lambda: _folds(5), seconds=600, full=True))
