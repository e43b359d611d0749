"""Small cohorts in memory with planted factors, and batches of any shape."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from dml.cohorts.expression import ExpressionMatrix, write_expression
from dml.cohorts.patients import write_patients
from dml.core.files import write_json, write_parquet
from dml.core.types import (
    Bag,
    Batch,
    Case,
    ClassTarget,
    Cohort,
    Expression,
    GeneGroups,
    MagnificationTokens,
    Microns,
    Mpp,
    Survival,
    SurvivalTarget,
)
from dml.data.cohort_store import CohortStore
from dml.data.feature_store import write_bag
from dml.training.folds import Fold, make_fold

WIDTH = 12
TUMOR, TME = tuple(f"T{i}" for i in range(5)), tuple(f"M{i}" for i in range(7))
FINE, COARSE, TILE_UM = Mpp(0.5), Mpp(1.0), 128.0


def grid_bags(side: int, rng: np.random.Generator, signal: float = 0.0, has_coords: bool = True) -> dict[Mpp, Bag]:
    """A square of `side` x `side` coarse tiles and their 2 x 2 children, one slide."""
    bags = {}
    for mpp, n, tile in ((FINE, 2 * side, TILE_UM), (COARSE, side, 2 * TILE_UM)):
        x, y = np.meshgrid(np.arange(n), np.arange(n))
        coords = torch.tensor((np.stack([x.ravel(), y.ravel()], 1) + 0.5) * tile, dtype=torch.float32)
        tokens = rng.normal(size=(n * n, WIDTH)).astype(np.float16)
        tokens[:, 0] += signal
        slide = torch.zeros(n * n, dtype=torch.long)
        bags[mpp] = Bag(torch.from_numpy(tokens), coords if has_coords else None, slide, mpp, Microns(tile), "fake")
    return bags


def cohort(patients: int, seed: int = 0, has_coords: bool = True, absent: int = 0) -> Cohort:
    """Patients whose tumor factor shows in tokens and tumor genes, TME factor in TME genes, and both in survival."""
    rng = np.random.default_rng(seed)
    cases = []
    for i in range(patients):
        tumor, tme = rng.normal(size=2)
        genes = np.concatenate([tumor + 0.3 * rng.normal(size=len(TUMOR)), tme + 0.3 * rng.normal(size=len(TME))])
        time = rng.exponential(1000 * np.exp(-1.2 * tumor - 0.6 * tme))
        limit = rng.uniform(200, 4000)
        cases.append(
            Case(
                patient_id=f"P{i:03d}",
                site=f"S{i % 3}",
                bags=grid_bags(int(rng.integers(1, 4)), rng, 2.0 * tumor, has_coords),
                expression=None if i < absent else genes.astype(np.float32),
                survival=Survival(float(min(time, limit)), bool(time <= limit)),
                labels={"grade": "high" if tumor > 0 else "low"},
                covariates={"age": float(50 + 10 * rng.normal())},
            )
        )
    return Cohort(
        "synthetic", tuple(cases), TUMOR + TME, "log2_tpm", GeneGroups(TUMOR, TME), {"grade": ("low", "high")}
    )


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


def make_splits(data: Cohort, n_inner_folds: int = 3) -> pd.DataFrame:
    """One fold: of five patients one is tested, the others are in inner folds 0 (validation), 1, ..."""
    roles, inner_folds = ["train", "train", "train", "validation", "test"], [1, 2, 1, 0, -1]
    rows = [
        (c.patient_id, 0, roles[i % 5], min(inner_folds[i % 5], n_inner_folds - 1)) for i, c in enumerate(data.cases)
    ]
    return pd.DataFrame(rows, columns=["patient_id", "fold", "role", "inner_fold"])


def fold(data: Cohort) -> Fold:
    """Training and validation patients of the fold of `make_splits`."""
    return make_fold(data, make_splits(data), 0)


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
            **{label: [c.labels.get(label) for c in data.cases] for label in data.classes},
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
