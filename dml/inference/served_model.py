"""The file MLflow runs to rebuild a registered model ("models from code"): nothing is unpickled."""

import os
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

with warnings.catch_warnings():  # of type hints in MLflow's own classes
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    from mlflow.models import set_model
    from mlflow.pyfunc.model import PythonModel, PythonModelContext


class ServedModel(PythonModel):
    """All folds of one model; predicts from slide or feature files below one folder, one row per patient."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights of every fold."""
        from dml.inference.ensemble import Ensemble, weights_digest
        from dml.inference.file_access import FileAccess
        from dml.inference.prediction_log import LOG_FOLDER, PredictionLog
        from dml.inference.predictor import Predictor
        from dml.inference.similar_patients import read_bank

        folds = Path(context.artifacts["folds"])
        self.predictor = Predictor(Ensemble.load(folds), FileAccess.of_server(), read_bank(folds))
        log = os.environ.get(LOG_FOLDER)
        self.log = PredictionLog(Path(log), weights_digest(folds)) if log else None

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict from a table of slides; see `dml.inference.predictor.Predictor`."""
        if self.log is None:
            return self.predictor(model_input, **(params or {}))
        predicted = self.predictor(model_input, **{**(params or {}), "inputs": True})
        self.log.write(predicted, model_input)
        return predicted if (params or {}).get("inputs") else predicted.drop(columns="inputs")


set_model(ServedModel())
