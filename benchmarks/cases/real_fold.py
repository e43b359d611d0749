"""Teacher and student on folds of the real cohort, if its raw data exist (../shared/data, or DML_SHARED_DATA)."""

import contextlib
import os
import time
from pathlib import Path

from benchmarks.measurement import ROOT, read_cpu_seconds, time_repeats
from benchmarks.registry import Benchmark, Measurement, SkipBenchmark, register
from benchmarks.repository_copy import copy_repository, run_command
from benchmarks.shapes import make_batch, make_dims, make_teacher, make_teacher_step

COHORT = "tcga_gbmlgg"
LENGTHS = [1, 4, 9, 16, 22, 30, 41, 55, 82, 120, 165, 262]
"""Quantiles of the real bags; a batch of 32 repeats them."""


def _time_step() -> Measurement:
    """Time a step on bags of the real cohort's sizes: 32 patients, 192 wide, one magnification, no coordinates."""
    sizes = sorted((LENGTHS * 3)[:32])
    batch = make_batch(sizes, levels=1, token_width=192, has_coords=False)
    return time_repeats(make_teacher_step(make_teacher(make_dims(1, 192)), batch), repeats=15)


def _prepare_copy() -> Path:
    """Return a copy of the repository in which the real cohort is imported and split; the next run reuses it."""
    source = Path(os.environ.get("DML_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (source / COHORT).exists():
        raise SkipBenchmark(f"the cohort's raw data are not in {source / COHORT} (set DML_SHARED_DATA)")
    copy = copy_repository(ROOT / ".work" / "benchmarks" / COHORT)
    run_command(copy, "dml", "cohort", "import", COHORT, "--source", str(source))
    run_command(copy, "dml", "cohort", "use", COHORT)
    run_command(copy, "dvc", "repro", "split")
    return copy


def _time_folds(count: int, student: bool = True) -> Measurement:
    """Train the teachers, and the students, of some folds, one fold after the other."""
    with contextlib.chdir(_prepare_copy()):
        from dml.config import params as config
        from dml.core.files import read_parquet
        from dml.data.cohort_store import CohortStore
        from dml.training.folds import make_fold
        from dml.training.train import distill_student, train_teacher

        params = config.load()
        cohort = CohortStore.of(COHORT).cohort(params.embed.encoder, params.tiles.mpps)
        splits = read_parquet(Path("data") / COHORT / "splits.parquet")[0].to_pandas()
        start, cpu, teacher_s, epochs = time.perf_counter(), read_cpu_seconds(), 0.0, 0
        for index in range(count):
            fold, fold_start = make_fold(cohort, splits, index), time.perf_counter()
            result = train_teacher(fold, params, "survival")
            teacher_s, epochs = teacher_s + time.perf_counter() - fold_start, epochs + len(result.history)
            if student:
                distill_student(fold, params, "survival", result.model)
        figures = {
            "teachers s": teacher_s,
            "teacher epochs": float(epochs),
            "members": params.optimisation.ensemble_size,
        }
        return Measurement(time.perf_counter() - start, read_cpu_seconds() - cpu, figures)


def _time_linear_baselines() -> Measurement:
    """Fit every linear baseline of a fold, on all training patients and without each inner fold."""
    with contextlib.chdir(_prepare_copy()):
        from dml.config import params as config
        from dml.models import registry
        from pipelines.inputs import Job, read_inputs
        from pipelines.train_linear_baselines import fit

        job = Job(config.load(), "survival", 0)
        inputs = read_inputs(job)
        result = time_repeats(lambda: [fit(job, inputs, name) for name in registry.linear_names()], repeats=1, warm=0)
        return Measurement(result.wall_s, result.cpu_s, {"models": len(registry.linear_names())})


GROUP = "4 real cohort"
register(Benchmark("teacher step, real bags, B = 32", GROUP, _time_step))
register(Benchmark("classical baselines, one fold", GROUP, _time_linear_baselines, full=True))
register(Benchmark("teacher, one fold", GROUP, lambda: _time_folds(1, student=False), seconds=60, full=True))
register(Benchmark("teacher + student, one fold", GROUP, lambda: _time_folds(1), full=True))
register(Benchmark("teacher + student, five folds", GROUP, lambda: _time_folds(5), seconds=600, full=True))
