"""What the stages teach, distil and baseline share: reading the inputs of a fold, writing its outputs."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dml import config
from dml.files import atomic, read_parquet
from dml.predictions import write_predictions
from dml.training.bundle import FoldModel
from dml.training.folds import Fold, Trained, fold_of, held_out
from dml.training.reading import read_cohort
from dml.types import Case, Cohort


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


def read_inputs(job: Job) -> Inputs:
    """Read the stores of the current cohort."""
    folder = Path("data") / job.params.cohort
    cohort = read_cohort(folder, job.params.embed.encoder, job.params.tiles.mpps)
    splits = read_parquet(folder / "splits.parquet")[0].to_pandas()
    return Inputs(cohort, splits, fold_of(cohort, splits, job.fold))


def save(trained: Trained, inputs: Inputs, job: Job, name: str) -> None:
    """Write weights, description, history and predictions of a fold's model."""
    folder = job.folder(name)
    trained.model.save(folder)
    with atomic(folder / "history.csv") as temporary:
        trained.history.to_csv(temporary, index=False, float_format="%.8g")
    rows = pd.concat(
        judged(trained.model, part, role, name, job)
        for role, part in (
            ("validation", inputs.fold.validation),
            ("test", held_out(inputs.cohort, inputs.splits, job.fold)),
        )
    )
    follow_up = [case.survival for case in inputs.fold.training.cases if case.survival is not None]
    spec = trained.model.spec
    metadata = {
        "task": job.task,
        "kind": spec.preparation.kind,
        "classes": list(spec.preparation.classes),
        "train_cutoff": spec.train_cutoff,
        "train_days": [s.days for s in follow_up],
        "train_event": [s.event for s in follow_up],
    }
    write_predictions(folder / "predictions.parquet", rows.reset_index(drop=True), metadata)


def judged(model: FoldModel, part: Cohort, role: str, name: str, job: Job) -> pd.DataFrame:
    """Predict the patients of a part whose truth is known, and put the truth beside."""
    known = {case.patient_id: case for case in part.cases if _truth(case, job.task)}
    predicted = model.predict(part.only(set(known)))
    cases = [known[patient] for patient in predicted["patient_id"]]
    truth = pd.DataFrame([_truth(case, job.task) for case in cases])
    sites = [case.site for case in cases]
    return predicted.assign(site=sites, fold=job.fold, role=role, model=name, **truth)


def _truth(case: Case, task: str) -> dict[str, object]:
    if task != "survival":
        return {"label": case.labels[task]} if task in case.labels else {}
    return {} if case.survival is None else {"days": case.survival.days, "event": case.survival.event}
