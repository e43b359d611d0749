"""The trained models of one task, ``models/<cohort>/<task>/<model>/fold-<k>``: every path, and a reader for each."""

from pathlib import Path
from typing import Any

import pandas as pd

from dml.core.files import atomic
from dml.core.predictions import read_predictions, write_predictions
from dml.training.checkpoint import FoldModel
from dml.training.training_result import TrainingResult

MODELS = Path("models")
"""Where trained models are stored."""


class ModelStore:
    """Paths and readers of the models of one task of one cohort.

    Parameters
    ----------
    folder : Path
        ``models/<cohort>/<task>``.

    Examples
    --------
    >>> store = ModelStore.of("demo", "survival")
    >>> store.predictions_path("abmil-clinical", 2).as_posix()
    'models/demo/survival/abmil-clinical/fold-2/predictions.parquet'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, cohort: str, task: str, root: Path = MODELS) -> "ModelStore":
        """Return the store of a cohort's task by name."""
        return cls(root / cohort / task)

    def model_folder(self, model: str) -> Path:
        """Return the folder of all folds of a model."""
        return self.folder / model

    def fold_folder(self, model: str, fold: int) -> Path:
        """Return the folder of one fold of a model."""
        return self.folder / model / f"fold-{fold}"

    def predictions_path(self, model: str, fold: int) -> Path:
        """Return the file of predictions of one fold of a model."""
        return self.fold_folder(model, fold) / "predictions.parquet"

    def history_path(self, model: str, fold: int) -> Path:
        """Return the table of training epochs of one fold of a model."""
        return self.fold_folder(model, fold) / "history.csv"

    def fold_model(self, model: str, fold: int) -> FoldModel:
        """Load one fold of a trained model.

        Raises
        ------
        InputError
            If it is missing, damaged, or from an incompatible version.
        """
        return FoldModel.load(self.fold_folder(model, fold))

    def predictions(self, model: str, fold: int) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Read the predictions of one fold of a model, with their metadata."""
        return read_predictions(self.predictions_path(model, fold))

    def write(
        self, model: str, fold: int, result: TrainingResult, rows: pd.DataFrame, metadata: dict[str, Any]
    ) -> None:
        """Write weights, description, training history and predictions of one fold of a model."""
        result.model.save(self.fold_folder(model, fold))
        with atomic(self.history_path(model, fold)) as temporary:
            result.history.to_csv(temporary, index=False, float_format="%.8g")
        write_predictions(self.predictions_path(model, fold), rows, metadata)
