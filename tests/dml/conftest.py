"""Follow-up with ties and heavy censoring, and what lifelines and scikit-survival want of it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dml.core.predictions import write_predictions
from dml.core.tasks import class_column, horizon_days, survival_column


@dataclass(frozen=True)
class FollowUp:
    days: np.ndarray
    event: np.ndarray
    risk: np.ndarray
    survival: np.ndarray

    def __len__(self) -> int:
        return len(self.days)

    @property
    def structured(self) -> np.ndarray:
        return np.array(list(zip(self.event, self.days, strict=True)), dtype=[("event", bool), ("days", float)])

    @property
    def one_fold(self) -> np.ndarray:
        return np.zeros(len(self), int)


def follow_up(seed: int, patients: int = 150, censored: float = 0.6, distinct: int | None = 40) -> FollowUp:
    """Random follow-up; `distinct` days make ties, risks are rounded so that they tie too."""
    random = np.random.default_rng(seed)
    risk = np.round(random.normal(size=patients), 1)
    death = random.exponential(1000 * np.exp(-risk))
    dropout = random.exponential(np.quantile(death, 1 - censored), size=patients)
    days = np.minimum(death, dropout) + 1
    if distinct:
        days = np.ceil(days / (np.quantile(days, 0.9) / distinct))
    horizons = np.quantile(days, [0.2, 0.4, 0.6])
    survival = np.exp(-horizons[None, :] / np.median(days) * np.exp(0.7 * risk[:, None]))
    return FollowUp(days, death <= dropout, risk, survival)


@pytest.fixture(params=range(6), ids=lambda seed: f"seed{seed}")
def sample(request: pytest.FixtureRequest) -> FollowUp:
    seed = request.param
    return follow_up(seed, patients=60 + 40 * seed, censored=(0.3, 0.6, 0.85)[seed % 3], distinct=(None, 25)[seed % 2])


CLASSES = ("G2", "G3", "G4")
SKILL = {"teacher": 0.9, "student": 0.75, "student_undistilled": 0.6, "linear_slide": 0.5, "null": 0.0}


@dataclass(frozen=True)
class Invented:
    """Patients whose prognosis is known, and models that see it through noise."""

    patients: pd.DataFrame
    latent: np.ndarray
    fold: np.ndarray

    @classmethod
    def of(cls, seed: int, patients: int = 120, folds: int = 3) -> "Invented":
        random = np.random.default_rng(seed)
        latent = random.normal(size=patients)
        death, dropout = random.exponential(900 * np.exp(-latent)), random.exponential(2500, size=patients)
        table = pd.DataFrame(
            {
                "patient_id": [f"P{i:03d}" for i in range(patients)],
                "site": [f"S{i % 3}" for i in range(patients)],
                "survival_days": np.minimum(death, dropout) + 1,
                "event": death <= dropout,
                "age": 55 + 4 * latent + random.normal(size=patients),
                "sex": (random.random(patients) < 0.5).astype(float),
                "grade": np.array(CLASSES)[np.digitize(latent + random.normal(size=patients), [-0.6, 0.6])],
            }
        )
        return cls(table, latent, random.permutation(patients) % folds)

    @property
    def purity(self) -> np.ndarray:
        """A number that the latent prognosis tells in part."""
        return 40 + 10 * self.latent + 3 * np.random.default_rng(11).normal(size=len(self.latent))

    def seen(self, skill: float, seed: int) -> np.ndarray:
        if not skill:
            return np.zeros(len(self.latent))
        noise = np.random.default_rng(seed).normal(size=len(self.latent))
        return skill * self.latent + np.sqrt(1 - skill**2) * noise

    def rows(self, kind: str, name: str, skill: float, fold: int, seed: int = 1) -> tuple[pd.DataFrame, dict]:
        judged = (self.fold == fold) | (self.fold == (fold + 1) % (self.fold.max() + 1))
        score, known = self.seen(skill, seed), self.patients[judged]
        rows = known[["patient_id", "site"]].reset_index(drop=True)
        rows = rows.assign(fold=fold, role=np.where(self.fold[judged] == fold, "test", "validation"), model=name)
        if kind == "survival":
            survival = {
                survival_column(year): np.exp(-horizon_days(year) / 900 * np.exp(skill * score[judged]))
                for year in (1.0, 2.0, 3.0, 5.0)
            }
            truth = {"days": known["survival_days"].to_numpy(), "event": known["event"].to_numpy()}
            train = self.patients[~judged]
            follow_up = {"train_days": train["survival_days"].tolist(), "train_event": train["event"].tolist()}
            cutoff = float(np.median(score[~judged]))
            metadata = {"task": "survival", "kind": kind, "classes": [], "train_cutoff": cutoff, **follow_up}
            return rows.assign(risk=score[judged], **survival, **truth), metadata
        if kind == "regression":
            value, half = 40 + 10 * score[judged], 10 * 1.2815515655446004
            columns = {"value": value, "value_lower": value - half, "value_upper": value + half}
            metadata = {"task": "purity", "kind": kind, "classes": [], "train_cutoff": None}
            return rows.assign(**columns, target=self.purity[judged]), metadata
        odds = np.exp(np.outer(score[judged], [-1.5, 0, 1.5]))
        p = odds / odds.sum(axis=1, keepdims=True)
        columns = {class_column(value): p[:, k] for k, value in enumerate(CLASSES)}
        metadata = {"task": "grade", "kind": kind, "classes": list(CLASSES), "train_cutoff": None}
        return rows.assign(**columns, label=known["grade"].to_numpy()), metadata

    def write(self, folder: Path, kind: str, skills: dict[str, float] = SKILL) -> Path:
        for seed, (name, skill) in enumerate(skills.items()):
            for fold in range(self.fold.max() + 1):
                rows, metadata = self.rows(kind, name, skill, fold, seed)
                write_predictions(folder / name / f"fold-{fold}" / "predictions.parquet", rows, metadata)
        return folder


@pytest.fixture
def invented() -> Invented:
    return Invented.of(seed=5)


@pytest.fixture(scope="session")
def invent():
    return Invented.of
