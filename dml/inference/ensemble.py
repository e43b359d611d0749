"""The fold models of one registered version as one model: predictions averaged, their disagreement reported.

Risks of different folds live on different scales (each fold has its own time bins), so each is first centred on the
median and divided by the standard deviation of its own training risks; 0 is then the cut-off between the risk groups.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dml.core.errors import InputError
from dml.core.files import digest
from dml.core.tasks import survival_column
from dml.core.types import Cohort, Kind
from dml.training.checkpoint import FoldModel, ModelSpec

FILES = ("weights.safetensors", "model.json")
"""What is packed of each fold."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The fold models of one version.

    Examples
    --------
    >>> from dml.data.example_cohort import example_cohort
    >>> from dml.training.example_model import example_model
    >>> Ensemble((example_model(),)).predict(example_cohort(20)).columns.tolist()
    ['patient_id', 'p_low', 'p_high', 'spread', 'prediction']
    """

    folds: tuple[FoldModel, ...]

    @classmethod
    def load(cls, folder: Path) -> "Ensemble":
        """Read every ``fold-*`` of a folder.

        Raises
        ------
        InputError
            If there is none, one cannot be loaded, or they differ in task or inputs.
        """
        folds = tuple(FoldModel.load(path) for path in fold_folders(folder))
        if len({_input_settings(fold.spec) for fold in folds}) != 1:
            raise InputError(
                folder, "folds differ in task, encoder, resolutions or unit", "Train them again: dvc repro"
            )
        return cls(folds)

    @property
    def spec(self) -> ModelSpec:
        """What all folds have in common is read from the first."""
        return self.folds[0].spec

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the numeric columns that `predict` returns, in order."""
        horizons = [survival_column(year) for year in self.spec.years]
        return (*self.spec.preprocessor.task.output_columns(horizons), "spread")

    @property
    def decisions(self) -> tuple[str, ...]:
        """Name of the text column that `predict` returns: the likeliest class, the risk group; none of a number."""
        return {"classification": ("prediction",), "survival": ("risk_group",), "regression": ()}[self._kind]

    @property
    def _kind(self) -> Kind:
        return self.spec.preprocessor.task.kind

    def predict(self, cohort: Cohort) -> pd.DataFrame:
        """Predict every patient of a cohort that has tokens.

        Returns
        -------
        DataFrame
            patient_id, the `outputs`, and the `decisions`. ``spread`` is the standard deviation over the folds of the
            risk, of the probability of the predicted class, or of the number.
        """
        return self.average(self.predict_folds(cohort))

    def predict_folds(self, cohort: Cohort) -> list[pd.DataFrame]:
        """Predict every patient by each fold alone, on the fold's own scale."""
        return [fold.predict(cohort) for fold in self.folds]

    def average(self, each: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """Return what `predict` does from the predictions of each fold."""
        table = pd.DataFrame({"patient_id": each[0]["patient_id"]})
        for name in self.outputs[:-1]:
            table[name] = np.mean([rows[name].to_numpy(float) for rows in self._standardise(each)], axis=0)
        if self._kind == "regression":
            return table.assign(spread=np.std([rows["value"].to_numpy(float) for rows in each], axis=0))
        deviation, decision = self._decide(table, each)
        return table.assign(spread=deviation, **dict.fromkeys(self.decisions, decision))

    def _standardise(self, each: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
        if self._kind != "survival":
            return list(each)
        return [
            rows.assign(risk=(rows["risk"] - fold.spec.train_cutoff) / fold.spec.train_risk_deviation)
            for rows, fold in zip(each, self.folds, strict=True)
        ]

    def _decide(self, table: pd.DataFrame, each: Sequence[pd.DataFrame]) -> tuple[np.ndarray, np.ndarray]:
        if self._kind == "survival":
            risks = np.array([rows["risk"].to_numpy(float) for rows in self._standardise(each)])
            return risks.std(axis=0), np.where(table["risk"].to_numpy() > 0, "high", "low").astype(object)
        names = list(self.outputs[:-1])
        best = table[names].to_numpy().argmax(axis=1)
        of_best = np.array([rows[names].to_numpy()[np.arange(len(best)), best] for rows in each])
        return of_best.std(axis=0), np.array(self.spec.preprocessor.task.classes, dtype=object)[best]


def fold_folders(folder: Path) -> list[Path]:
    """Folders of the trained folds in order.

    Raises
    ------
    InputError
        If there is none.
    """
    folds = sorted(folder.glob("fold-*"), key=lambda path: int(path.name.removeprefix("fold-")))
    if not folds:
        raise InputError(folder, "no trained fold (fold-0, fold-1, ...)", "Train first: dvc repro")
    return folds


def weights_digest(folder: Path) -> str:
    """Hash of everything that is packed of a model's folds; equal for equal models, whenever and wherever trained."""
    total = hashlib.blake2b(digest_size=16)
    for fold in fold_folders(folder):
        for name in FILES:
            total.update(f"{fold.name}/{name}:".encode())
            total.update(hashlib.blake2b((fold / name).read_bytes()).digest())
    return total.hexdigest()


def select_folds(ensemble: Ensemble, patient_id: str) -> tuple[FoldModel, ...]:
    """Return the models that never saw a patient: of the fold it is tested in, or all for one of another cohort.

    Raises
    ------
    InputError
        If every model was trained with the patient.
    """
    known = digest(patient_id)
    unseen = tuple(fold for fold in ensemble.folds if known not in fold.spec.training_patient_hashes)
    if not unseen:
        raise InputError(
            f"patient {patient_id}", "every model was trained with it", "Maps are made out of fold: give all folds"
        )
    return unseen


def _input_settings(spec: ModelSpec) -> tuple[object, ...]:
    """Return what all folds must have in common to read the same patient."""
    prepared = spec.preprocessor
    return (
        spec.name,
        prepared.task.name,
        prepared.task.kind,
        prepared.task.classes,
        prepared.encoder,
        prepared.mpps,
        prepared.unit,
        spec.years,
    )
