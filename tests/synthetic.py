"""The example cohort, its fold and parameters, batches of any shape, and the cohort written to a store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from dml.cohorts.patients import write_patients
from dml.cohorts.store_files import ExpressionMatrix, write_expression
from dml.config import params as config
from dml.core.files import write_json, write_parquet
from dml.core.types import Batch, ClassTarget, Cohort, Expression, MagnificationTokens, SurvivalTarget
from dml.data.cohort_store import CohortStore
from dml.data.dims import ModelDims
from dml.data.example_cohort import COARSE as COARSE
from dml.data.example_cohort import FINE as FINE
from dml.data.example_cohort import TILE_UM as TILE_UM
from dml.data.example_cohort import TME as TME
from dml.data.example_cohort import TOKEN_WIDTH as WIDTH
from dml.data.example_cohort import TUMOR as TUMOR
from dml.data.example_cohort import example_bags as grid_bags
from dml.data.example_cohort import example_cohort as cohort
from dml.data.example_cohort import example_splits as splits
from dml.data.feature_store import write_bag
from dml.training.folds import Fold, make_fold

__all__ = ["COARSE", "FINE", "TILE_UM", "TME", "TUMOR", "WIDTH", "cohort", "grid_bags", "splits"]

DIMS = ModelDims(
    kind="survival", token_width=WIDTH, levels=2, tumor_genes=len(TUMOR), tme_genes=len(TME), covariates=0, outputs=4
)
"""Dimensions of a survival model of the example cohort."""
PARAMS = config.Params(
    cohort="synthetic",
    tasks=("survival", "grade"),
    folds=(0, 1),
    model=config.Model(
        width=16, heads=2, n_queries=3, gene_width=16, dropout=0.1, linear_offset=config.LinearOffset(components=0)
    ),
    optimisation=config.Optimisation(epochs=12, batch_size=8, learning_rate=3e-3, patience=12, device="cpu"),
)
"""A small model, trained long enough to learn the known factors."""


def change(params: config.Params, **sections: Mapping[str, Any]) -> config.Params:
    """Return parameters with other values in some sections."""
    update = {name: getattr(params, name).model_copy(update=dict(values)) for name, values in sections.items()}
    return params.model_copy(update=update)


def quiet(params: config.Params) -> config.Params:
    """Return parameters without random numbers, and without losses that are not a sum over patients."""
    return change(
        params,
        model={"dropout": 0.0, "token_dropout": 0.0},
        teacher={"use_gradient_coordination": False, "modality_dropout": 0.0, "consistency_weight": 0.0},
    )


def concordance(predicted: pd.DataFrame, data: Cohort) -> float:
    """Harrell's C of predicted risks, pair by pair."""
    risk = predicted.set_index("patient_id")["risk"]
    pairs = [
        (risk[a.patient_id] > risk[b.patient_id]) + 0.5 * (risk[a.patient_id] == risk[b.patient_id])
        for a in data.cases
        for b in data.cases
        if a.survival.event and a.survival.days < b.survival.days
    ]
    return float(np.mean(pairs))


def fold(data: Cohort) -> Fold:
    """Return training and validation patients of the fold of `splits`."""
    return make_fold(data, splits(data), 0)


def batch(sizes: list[tuple[int, int]], seed: int = 0, kind: str = "survival", outputs: int = 4) -> Batch:
    """A batch of random tokens: (fine, coarse) real tokens per patient."""
    g = torch.Generator().manual_seed(seed)
    levels = []
    for index, mpp in enumerate((FINE, COARSE)):
        longest = max(max(size[index] for size in sizes), 1)
        tokens = torch.randn(len(sizes), longest, WIDTH, generator=g)
        coords = torch.rand(len(sizes), longest, 2, generator=g) * 4000
        mask = torch.arange(longest)[None] < torch.tensor([size[index] for size in sizes])[:, None]
        coarse = torch.tensor([size[1] for size in sizes])[:, None]
        drawn = torch.randint(0, 10_000, (len(sizes), longest), generator=g)
        parent = torch.where(mask & (coarse > 0), drawn % coarse.clamp_min(1), -1) if index == 0 else None
        levels.append(MagnificationTokens(mpp, tokens, mask, coords, torch.ones(len(sizes), dtype=torch.bool), parent))
    n = len(sizes)
    genes = Expression(
        torch.randn(n, len(TUMOR), generator=g), torch.randn(n, len(TME), generator=g), torch.ones(n, dtype=torch.bool)
    )
    label = torch.randint(0, outputs, (n,), generator=g)
    known = torch.ones(n, dtype=torch.bool)
    event = torch.rand(n, generator=g) < 0.6
    target = (
        SurvivalTarget(label, event, label * 300.0 + 10, known) if kind == "survival" else ClassTarget(label, known)
    )
    return Batch(tuple(f"P{i}" for i in range(n)), tuple(levels), genes, torch.zeros(n, 0), target)


def write_store(data: Cohort, folder: Path) -> CohortStore:
    """Write a cohort as the stages of a cohort write it, features of encoder ``fake`` included."""
    store = CohortStore(folder)
    patients = pd.DataFrame(
        {
            "patient_id": [c.patient_id for c in data.cases],
            "site": [c.site for c in data.cases],
            "survival_days": [c.survival.days if c.survival else np.nan for c in data.cases],
            "event": pd.array([c.survival.event if c.survival else None for c in data.cases], dtype="boolean"),
            "age": [c.covariates.get("age", np.nan) for c in data.cases],
            **{label: [c.target(label) for c in data.cases] for label in data.classes},
        }
    )
    write_patients(store.patients_path, patients, data.classes, data.name)
    expressed = [c for c in data.cases if c.expression is not None]
    values = np.array([c.expression for c in expressed], np.float32).reshape(len(expressed), len(data.genes))
    ids = tuple(c.patient_id for c in expressed)
    write_expression(store.expression_path, ExpressionMatrix(ids, data.genes, values, data.unit, "synthetic"))
    write_json(store.gene_groups_path, {"tumor": data.groups.tumor, "tme": data.groups.tme, "provenance": ""})
    rows = []
    for case in data.cases:
        for mpp, bag in case.bags.items():
            slide = f"slide-{case.patient_id}"
            meta = {"encoder": bag.encoder, "mpp": mpp, "tile_um": bag.tile_um, "slide_id": slide}
            coords = None if bag.coords_um is None else bag.coords_um.numpy()
            write_bag(store.bag_path(bag.encoder, mpp, slide), bag.tokens.numpy(), coords, meta)
            rows.append(
                {"slide_id": slide, "patient_id": case.patient_id, "mpp": mpp, "tiles": len(bag), "status": "ok"}
            )
    write_parquet(store.manifest_path, pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False))
    return store
