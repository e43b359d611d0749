"""A study whose best value is given, scored without training."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from dml.config.params import Params
from dml.core.types import Cohort
from dml.experiments.tuning.objective import Score
from dml.experiments.tuning.studies import StudyJob
from dml.training.trainer import EpochCallback

ROOT = Path(__file__).resolve().parents[1]
CONTENT: dict[str, Any] = {
    "cohort": "synthetic",
    "tasks": ["survival", "grade"],
    "folds": [0, 1],
    "model": {"width": 8, "heads": 2, "n_queries": 2, "gene_width": 8},
    "optimisation": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "device": "cpu"},
    "tuning": {
        "n_startup_trials": 1,
        "teacher": {"optimisation.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
        "student": {"distillation.feature_weight": {"type": "float", "low": 0.0, "high": 2.0}},
    },
}
PARAMS = Params.model_validate(CONTENT)


class Planted:
    """Scores a learning rate by its distance from 0.01, without training."""

    folds = (0, 1)

    def __init__(self, fail: Callable[[Params], None] = lambda params: None) -> None:
        self.fail, self.scored = fail, []

    def score(self, params: Params, fold: int, on_epoch: EpochCallback | None = None) -> Score:
        self.fail(params)
        self.scored.append((params.optimisation.learning_rate, fold))
        loss = abs(params.optimisation.learning_rate - 0.01) + fold
        for epoch in range(params.optimisation.epochs) if on_epoch else ():
            on_epoch(epoch, loss)
        costed = params.tuning.second_objective != "none"
        return Score(loss, gflops=round(params.optimisation.learning_rate * 1000, 1) if costed else None)


def tuned(**changes: Any) -> Params:
    """Parameters of the planted study with other settings of the tuning."""
    return PARAMS.model_copy(update={"tuning": PARAMS.tuning.model_copy(update=changes)})


def job(trials: int = 4, **changes: Any) -> StudyJob:
    fields = {"params": PARAMS, "kind": "teacher", "task": "survival", "trials": trials, "name": "s", **changes}
    return StudyJob(**fields)


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


def splits(data: Cohort, folds: Sequence[int] = (0, 1)) -> pd.DataFrame:
    roles = ["train", "train", "validation", "test"]
    parts = {"train": 1, "validation": 0, "test": -1}
    roles_of = [(c.patient_id, fold, roles[(i + fold) % 4]) for fold in folds for i, c in enumerate(data.cases)]
    rows = [(patient, fold, role, parts[role]) for patient, fold, role in roles_of]
    return pd.DataFrame(rows, columns=["patient_id", "fold", "role", "inner_fold"])
