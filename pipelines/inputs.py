"""Shared by the training stages: the inputs of a fold, and training, saving and tracking one model of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dml.config import params as config
from dml.core.files import write_json
from dml.core.types import Cohort
from dml.data.cohort_store import CohortStore
from dml.tracking.fold_run import fold_run
from dml.training.folds import Fold, make_fold, predict_fold, select_test_patients
from dml.training.model_store import ModelStore
from dml.training.training_result import TrainingResult
from pipelines.stage import parse_arguments


@dataclass(frozen=True, slots=True)
class Job:
    """One task and fold of the current cohort."""

    params: config.Params
    task: str
    fold: int

    @classmethod
    def from_command_line(cls) -> "Job":
        """Read ``--task`` and ``--fold`` and params.yaml."""
        arguments = parse_arguments("task", "fold")
        return cls(config.load(), arguments["task"], int(arguments["fold"]))

    @property
    def models(self) -> ModelStore:
        """Where the models of the task are stored."""
        return ModelStore.of(self.params.cohort, self.task)

    def folder(self, model: str) -> Path:
        """Folder of a model of this fold."""
        return self.models.fold_folder(model, self.fold)


@dataclass(frozen=True, slots=True)
class Inputs:
    """A cohort, its splits, and the training patients of one fold."""

    cohort: Cohort
    splits: pd.DataFrame
    fold: Fold


def read_stores(params: config.Params) -> tuple[Cohort, pd.DataFrame]:
    """Read the patients of the current cohort with all their data, and its splits."""
    store = CohortStore.of(params.cohort)
    return store.cohort(params.embed.encoder, params.tiles.mpps), store.splits()


def read_inputs(job: Job) -> Inputs:
    """Read the stores of the current cohort and select the training patients of the job's fold."""
    cohort, splits = read_stores(job.params)
    return Inputs(cohort, splits, make_fold(cohort, splits, job.fold))


def train_model(job: Job, inputs: Inputs, name: str, train: Callable[[], TrainingResult | None]) -> None:
    """Train one model of a fold in a run of its own; write weights, description, history and predictions.

    Of a model that has no patients to train on (`train` returns None), model.json says so and nothing else is written.
    """
    folder = job.folder(name)
    with fold_run(job.params, job.task, name, job.fold) as run:
        trained = train()
        if trained is None:
            reason = "no training or no validation patient has a target and the model's inputs"
            write_json(folder / "model.json", {"name": name, "left_out": reason})
            return
        test = select_test_patients(inputs.cohort, inputs.splits, job.fold)
        job.models.write(name, job.fold, trained, *predict_fold(trained, inputs.fold, test, name))
        run.log_epochs(trained.history)
        run.log_artifacts(folder)
