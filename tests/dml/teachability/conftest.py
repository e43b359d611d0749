"""Cohorts whose slides say all, half or nothing of the genes, with one Gaussian factor, so that answers are closed."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from dml.config import params as config
from dml.core.types import Bag, Case, Cohort, GeneGroups, Microns, Mpp, Survival

MPP = Mpp(0.5)
TUMOR, TME = ("T0", "T1", "T2"), ("M0", "M1", "M2")
WIDTH = 4


@dataclass(frozen=True)
class Planted:
    """A cohort with its folds, the first column of its slides, and the factor that its genes are."""

    cohort: Cohort
    patients: pd.DataFrame
    splits: pd.DataFrame
    shown: np.ndarray
    factor: np.ndarray

    @property
    def correlation(self) -> float:
        """Correlation of the slide's first column and the factor in this sample."""
        return float(np.corrcoef(self.shown, self.factor)[0, 1])


def planted(
    share: float, patients: int = 900, seed: int = 0, sites: int = 12, folds: int = 3, effect: float = 1.0
) -> Planted:
    """Genes are one factor; the slide's first column has correlation sqrt(share) with it; the outcome reads the factor.

    Survival is exponential with log hazard `effect` x factor, not censored; the label is drawn from its logistic.
    """
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=patients)
    shown = np.sqrt(share) * factor + np.sqrt(1 - share) * rng.normal(size=patients)
    genes = np.repeat(factor[:, None], len(TUMOR + TME), axis=1)
    days = rng.exponential(1000 * np.exp(-effect * factor)) + 1
    label = rng.random(patients) < 1 / (1 + np.exp(-2 * effect * factor))
    slides = np.concatenate([shown[:, None], rng.normal(size=(patients, WIDTH - 1))], axis=1)
    ids = [f"P{i:04d}" for i in range(patients)]
    cases = tuple(
        Case(
            patient_id=ids[i],
            site=f"S{i % sites}",
            bags={
                MPP: Bag(
                    torch.tensor(slides[i : i + 1]), None, torch.zeros(1, dtype=torch.long), MPP, Microns(128.0), "fake"
                )
            },
            expression=genes[i].astype(np.float32),
            survival=Survival(float(days[i]), True),
            labels={"grade": "high" if label[i] else "low"},
        )
        for i in range(patients)
    )
    cohort = Cohort("planted", cases, TUMOR + TME, "log2_tpm", GeneGroups(TUMOR, TME), {"grade": ("low", "high")})
    table = pd.DataFrame(
        {
            "patient_id": ids,
            "site": [case.site for case in cases],
            "survival_days": days,
            "event": True,
            "grade": [case.labels["grade"] for case in cases],
            "half": np.where(np.arange(patients) < patients // 2, "first", "second"),
        }
    )
    rows = [
        (ids[i], fold, "test" if turn[i] == fold else "train", -1 if turn[i] == fold else int(inner[i]), "all")
        for turn, inner in [(np.arange(patients) // sites % folds, rng.integers(4, size=patients))]
        for fold in range(folds)
        for i in range(patients)
    ]
    splits = pd.DataFrame(rows, columns=["patient_id", "fold", "role", "inner_fold", "stratum"])
    return Planted(cohort, table, splits, shown, factor)


@pytest.fixture(scope="session")
def plant():
    return planted


@pytest.fixture(scope="session")
def settings():
    """Parameters for the planted cohorts: little shrinkage, few resamples."""
    return config.Params(
        cohort="planted",
        tasks=("survival", "grade"),
        folds=(0, 1, 2),
        seed=3,
        tiles={"mpps": (0.5,)},
        baselines=config.Baselines(components=4, penalty=1e-3),
        evaluation=config.Evaluation(resamples=100),
        teachability=config.Teachability(gene_components=1, min_set_genes=3),
        split=config.Split(stratify=("event",)),
    )


@pytest.fixture(scope="session")
def once(settings):
    """The same on the cohort's folds only."""
    update = {"teachability": settings.teachability.model_copy(update={"unseen_sites": False})}
    return settings.model_copy(update=update)
