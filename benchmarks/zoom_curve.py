"""Cost and gain of zoom: metric, tiles read and agreement of maps by the share of coarse tiles zoomed into.

`python -m benchmarks.zoom_curve --task survival --seeds 1,2,3 --out FILE` on the cohort of params.yaml, after
`dvc repro check_features split`. Students are the cells of `dml ablate`, trained where they are missing. Tiles read: of
the test patients' finer tiles the share that one network reads, and that all networks of the folds read together (what
a registered version encodes). Agreement: Spearman correlation of the contributions of coarse tiles with those of the
student that reads everything, mean over patients and subspaces.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from dml.attribution.attribute import attribute
from dml.config import params as config
from dml.core.types import SUBSPACES, Case, Cohort
from dml.data.batches import collate
from dml.experiments.ablation import Ablation, Cell, score_variants
from dml.experiments.ablation_variants import FULL, Variant
from dml.models.student import Student
from dml.training.checkpoint import FoldModel
from dml.training.folds import select_test_patients

SHARES = (0.05, 0.1, 0.2, 0.4, 0.7)
MAPS = 20
"""Test patients of the first seed whose maps are compared."""


def list_students() -> dict[str, Variant]:
    """Return the student that reads everything, and one for each share."""
    zoomed = {f"zoom {s:g}": Variant(f"zoom {s:g}", "student", {"distillation": {"zoom": s}}) for s in SHARES}
    return {"all": FULL["student"], **zoomed}


def fine_masks(model: FoldModel, cohort: Cohort, case: Case) -> np.ndarray:
    """Return which of a patient's finest tiles each network reads (members n)."""
    batch = collate([model.reader(cohort)(case)], model.spec.preprocessor)
    students = [member for member in model.members if isinstance(member, Student)]
    return np.stack([student.select_tokens(batch).levels[0].mask[0].numpy() for student in students])


def tiles_read(ablation: Ablation, variant: Variant, seed: int) -> tuple[float, float]:
    """Return the mean share of fine tiles that a network reads, and that the networks of all folds read."""
    models = load_models(ablation, variant, seed)
    cases = [case for case in ablation.cohort.cases if case.has_slide]
    masks = [np.concatenate([fine_masks(model, ablation.cohort, case) for model in models]) for case in cases]
    return float(np.mean([m.mean() for m in masks])), float(np.mean([m.any(0).mean() for m in masks]))


def load_models(ablation: Ablation, variant: Variant, seed: int) -> list[FoldModel]:
    """Return the models of all folds."""
    return [FoldModel.load(ablation.folder(Cell(variant, seed, fold))) for fold in ablation.params.folds]


def coarse_maps(ablation: Ablation, variant: Variant, seed: int) -> list[np.ndarray]:
    """Return the contributions of coarse tiles to the first output, per test patient and subspace."""
    maps = []
    for fold, model in zip(ablation.params.folds, load_models(ablation, variant, seed), strict=True):
        test = select_test_patients(ablation.cohort, ablation.splits, fold)
        for case in [case for case in test.cases if case.has_slide][: MAPS // len(ablation.params.folds)]:
            result = attribute([model], test.subset({case.patient_id}))
            coarsest = max(float(mpp) for mpp in case.bags)
            maps += [result.part(subspace, coarsest).contribution[:, 0] for subspace in SUBSPACES]
    return maps


def curve(task: str, seeds: list[int]) -> list[dict[str, Any]]:
    """Return a row per share."""
    ablation = Ablation.read(config.load(), task)
    students = list_students()
    scored = {row["variant"]: row for row in score_variants(ablation, list(students.values()), seeds)}
    whole = coarse_maps(ablation, students["all"], seeds[0])
    rows = []
    for name, variant in students.items():
        network, version = tiles_read(ablation, variant, seeds[0])
        maps = coarse_maps(ablation, variant, seeds[0])
        rho = [float(spearmanr(one, other).statistic) for one, other in zip(maps, whole, strict=True)]
        extra = {"read_by_network": network, "read_by_version": version, "map_agreement": float(np.nanmean(rho))}
        rows.append({"student": name, **scored[variant.name], **extra})
    return rows


def main() -> None:
    """Write the curve as JSON and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="survival")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = curve(arguments.task, [int(seed) for seed in arguments.seeds.split(",")])
    arguments.out.write_text(json.dumps(rows, indent=2))
    print(pd.DataFrame(rows).to_string())


if __name__ == "__main__":
    main()
