"""What a training returns: the model of a fold, its history, its out-of-fold predictions."""

from dataclasses import dataclass

import pandas as pd

from dml.training.checkpoint import FoldModel


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A fold's model, its training history, and its predictions of patients by members that did not train on them.

    Attributes
    ----------
    model : FoldModel
        All members, shrunk towards the linear reference where the parameters ask for it.
    history : DataFrame
        One block of epochs per member.
    out_of_fold : DataFrame
        As `FoldModel.predict` returns, of the validation patients of all members with a known target; at epochs that
        were not chosen on them (`dml.training.cross_fitted_epoch`).
    validation_loss : float
        Mean negative log-likelihood of these predictions.
    """

    model: FoldModel
    history: pd.DataFrame
    out_of_fold: pd.DataFrame
    validation_loss: float
