"""A small cohort in memory with known factors, for examples and tests.

A tumor factor shows in tokens and tumor genes, a microenvironment factor in its genes, and both in survival; the grade
is the sign of the tumor factor, and the score is a number that both factors tell in part.
"""

import numpy as np
import pandas as pd
import torch

from dml.core.types import Bag, Case, Cohort, GeneGroups, Microns, Mpp, Survival

TOKEN_WIDTH, TILE_UM = 12, 128.0
FINE, COARSE = Mpp(0.5), Mpp(1.0)
TUMOR, TME = tuple(f"T{i}" for i in range(5)), tuple(f"M{i}" for i in range(7))
"""Genes of the two groups."""


def example_bags(side: int, rng: np.random.Generator, signal: float = 0.0, has_coords: bool = True) -> dict[Mpp, Bag]:
    """Return one slide: a square of `side` x `side` coarse tiles and their 2 x 2 children."""
    bags = {}
    for mpp, n, tile in ((FINE, 2 * side, TILE_UM), (COARSE, side, 2 * TILE_UM)):
        x, y = np.meshgrid(np.arange(n), np.arange(n))
        coords = torch.tensor((np.stack([x.ravel(), y.ravel()], 1) + 0.5) * tile, dtype=torch.float32)
        tokens = rng.normal(size=(n * n, TOKEN_WIDTH)).astype(np.float16)
        tokens[:, 0] += signal
        slide = torch.zeros(n * n, dtype=torch.long)
        bags[mpp] = Bag(torch.from_numpy(tokens), coords if has_coords else None, slide, mpp, Microns(tile), "fake")
    return bags


def example_cohort(patients: int, seed: int = 0, has_coords: bool = True, absent: int = 0) -> Cohort:
    """Return random patients, the first `absent` of them without transcriptome.

    Examples
    --------
    >>> cohort = example_cohort(3, absent=1)
    >>> [case.has_expression for case in cohort.cases], cohort.classes
    ([False, True, True], {'grade': ('low', 'high'), 'score': ()})
    """
    rng, noise = np.random.default_rng(seed), np.random.default_rng([seed, 1])
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
                bags=example_bags(int(rng.integers(1, 4)), rng, 2.0 * tumor, has_coords),
                expression=None if i < absent else genes.astype(np.float32),
                survival=Survival(float(min(time, limit)), bool(time <= limit)),
                labels={"grade": "high" if tumor > 0 else "low"},
                covariates={"age": float(50 + 10 * rng.normal())},
                values={"score": float(20 + 4 * tumor + 2 * tme + 2 * noise.normal())},
            )
        )
    groups = GeneGroups(TUMOR, TME)
    return Cohort("synthetic", tuple(cases), TUMOR + TME, "log2_tpm", groups, {"grade": ("low", "high"), "score": ()})


def example_splits(cohort: Cohort) -> pd.DataFrame:
    """Return one fold in which every fifth patient is tested; the others are in three inner folds."""
    roles, inner_folds = ["train", "train", "train", "validation", "test"], [1, 2, 1, 0, -1]
    rows = [(c.patient_id, 0, roles[i % 5], inner_folds[i % 5]) for i, c in enumerate(cohort.cases)]
    return pd.DataFrame(rows, columns=["patient_id", "fold", "role", "inner_fold"])
