"""One fold of the real cohort where its stores are (data/tcga_gbmlgg, or DML_REAL_COHORT): teacher, then student."""

import os
import time
from pathlib import Path

from benchmarks.measuring import ROOT, repeated
from benchmarks.registry import Benchmark, Measured, NotHereError, register
from benchmarks.shapes import data_shape, made_batch, teacher, teacher_step

COHORT = Path(os.environ.get("DML_REAL_COHORT", ROOT / "data" / "tcga_gbmlgg"))
LENGTHS = [1, 4, 9, 16, 22, 30, 41, 55, 82, 120, 165, 262]
"""Quantiles of the real bags; a batch of 32 repeats them."""


def _step() -> Measured:
    """Time a step of the real cohort's shape: 32 patients, 192 wide, one magnification, no coordinates."""
    sizes = sorted((LENGTHS * 3)[:32])
    batch = made_batch(sizes, levels=1, token_width=192, located=False)
    return repeated(teacher_step(teacher(data_shape(1, 192)), batch), repeats=15)


def _fold() -> Measured:
    if not (COHORT / "splits.parquet").exists():
        raise NotHereError(f"no stores in {COHORT}: run dml cohort use tcga_gbmlgg && dvc repro split")
    import pandas as pd
    import yaml

    from dml import config
    from dml.training.folds import fold_of
    from dml.training.reading import read_cohort
    from dml.training.teaching import distil, teach

    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    own = yaml.safe_load((ROOT / "cohorts" / "tcga_gbmlgg.yaml").read_text())["params"]
    params = config.Params.model_validate(_with(raw | {"cohort": "tcga_gbmlgg"}, own))
    cohort = read_cohort(COHORT, params.embed.encoder, params.tiles.mpps)
    splits = pd.read_parquet(COHORT / "splits.parquet")
    if "part" not in splits:
        splits["part"] = (splits["role"] == "validation") - 1
    fold, wall, cpu = fold_of(cohort, splits, 0), time.perf_counter(), time.process_time()
    taught = teach(fold, params, "survival")
    teacher_wall = time.perf_counter() - wall
    distil(fold, params, "survival", taught.model)
    figures = {"teacher s": teacher_wall, "teacher epochs": float(len(taught.history))}
    return Measured(time.perf_counter() - wall, time.process_time() - cpu, figures)


def _with(base: dict[str, object], own: dict[str, object]) -> dict[str, object]:
    """Sections of a cohort over those of params.yaml; names may be dotted."""
    for name, value in own.items():
        head, _, tail = name.partition(".")
        inner = base.get(head)
        if tail:
            base[head] = _with(dict(inner) if isinstance(inner, dict) else {}, {tail: value})
        elif isinstance(value, dict) and isinstance(inner, dict) and head != "subgroups":
            base[head] = _with(dict(inner), value)
        else:
            base[head] = value
    return base


register(Benchmark("teacher step, real bags, B = 32", "4 real cohort", _step, threads=1))
register(Benchmark("teacher + student, one fold", "4 real cohort", _fold, threads=1, full=True))
