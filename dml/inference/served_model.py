"""The file MLflow runs to rebuild a registered model ("models from code"): nothing is unpickled."""

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class ServedModel(PythonModel):
    """All folds of one model; answers for slides or feature files, one row per patient."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights of every fold."""
        from dml.inference.ensemble import Ensemble
        from dml.inference.predictor import Answering

        self.answering = Answering(Ensemble.load(Path(context.artifacts["folds"])))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer a table of slides; see `dml.inference.predictor.Answering`."""
        return self.answering(model_input, **(params or {}))


set_model(ServedModel())
