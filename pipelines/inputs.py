"""What the stages teach, distil and baseline share: reading the inputs of a fold, writing its outputs."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dml.config import params as config
from dml.core.files import atomic, read_parquet
from dml.core.predictions import write_predictions
from dml.core.types import Cohort
from dml.data.load_cohort import read_cohort
from dml.training.ensemble_trainer import TrainingResult
from dml.training.fold_predictions import judged
from dml.training.folds import Fold, fold_of, held_out


@dataclass(frozen=True, slots=True)
class Job:
    """One task and fold of the current cohort."""

    params: config.Params
    task: str
    fold: int

    @classmethod
    def from_command_line(cls) -> "Job":
        """Read ``--task`` and ``--fold`` and params.yaml."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--task", required=True)
        parser.add_argument("--fold", required=True, type=int)
        arguments = parser.parse_args()
        return cls(config.load(), arguments.task, arguments.fold)

    def folder(self, model: str) -> Path:
        """Where a model of this fold lives."""
        return Path("models") / self.params.cohort / self.task / model / f"fold-{self.fold}"


@dataclass(frozen=True, slots=True)
class Inputs:
    """A cohort, its splits, and the learning parts of one fold."""

    cohort: Cohort
    splits: pd.DataFrame
    fold: Fold


def read_stores(params: config.Params) -> tuple[Cohort, pd.DataFrame]:
    """Read the patients of the current cohort with all that is known of them, and its splits."""
    folder = Path("data") / params.cohort
    cohort = read_cohort(folder, params.embed.encoder, params.tiles.mpps)
    return cohort, read_parquet(folder / "splits.parquet")[0].to_pandas()


def read_inputs(job: Job) -> Inputs:
    """Read the stores of the current cohort and cut out the learning parts of the job's fold."""
    cohort, splits = read_stores(job.params)
    return Inputs(cohort, splits, fold_of(cohort, splits, job.fold))


def save(trained: TrainingResult, inputs: Inputs, job: Job, name: str) -> None:
    """Write weights, description, history and predictions of a fold's model."""
    folder = job.folder(name)
    trained.model.save(folder)
    with atomic(folder / "history.csv") as temporary:
        trained.history.to_csv(temporary, index=False, float_format="%.8g")
    test = held_out(inputs.cohort, inputs.splits, job.fold)
    rows, metadata = judged(trained.model, inputs.fold, test, name)
    write_predictions(folder / "predictions.parquet", rows, metadata)
