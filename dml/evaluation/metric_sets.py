"""Which metrics a task is judged by: each model's predictions bound into functions of patient weights."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from dml.core.predictions import class_column, survival_column
from dml.evaluation.horizons import Horizons
from dml.evaluation.metrics import Metric, brier, calibration, classification, recalibration
from dml.evaluation.metrics.concordance import harrell_c, uno_c
from dml.evaluation.metrics.pairs import Ranked
from dml.evaluation.metrics.time_dependent import dynamic_auc

ONLY_OVERALL = ("calibration_slope", "ibs_null")
"""Not repeated in subgroups: costly or uninformative there."""
LOWER_IS_BETTER = ("ibs", "ibs_null", "brier", "ece")
PRIMARY = {"survival": "c_index", "classification": "auc"}
"""The metric that leads tables and figures."""


def leading_metric(rows: pd.DataFrame, kind: str, classes: Sequence[str]) -> Metric:
    """Harrell's C of survival predictions, the macro AUC of class probabilities (rows as for the panels)."""
    if kind == "survival":
        return partial(harrell_c, **ranked(rows))
    return class_panel(rows, classes)[PRIMARY["classification"]]


def ranked(rows: pd.DataFrame) -> Ranked:
    """Columns days, event, risk and fold as arrays."""
    days, risk = (rows[name].to_numpy(float) for name in ("days", "risk"))
    return {"days": days, "event": rows["event"].to_numpy(bool), "risk": risk, "fold": rows["fold"].to_numpy(int)}


def survival_panel(rows: pd.DataFrame, horizons: Horizons) -> dict[str, Metric]:
    """Metrics of survival predictions.

    Parameters
    ----------
    rows : DataFrame
        One row a patient: fold, days, event, risk, survival_<days>.
    horizons : Horizons
        Where survival is judged.

    Returns
    -------
    dict
        c_index, c_uno, ibs, ibs_null, calibration_slope, and auc_<y>y, oe_<y>y for every horizon.
    """
    order = ranked(rows)
    days, event, fold = order["days"], order["event"], order["fold"]
    panel: dict[str, Metric] = {"c_index": partial(harrell_c, **order)}
    if horizons.tau is None or horizons.primary is None:
        return panel
    uncensored = horizons.uncensored(fold, days)
    panel["c_uno"] = partial(uno_c, **order, uncensored=uncensored, tau=horizons.tau)
    survival = rows[[survival_column(year) for year in horizons.years]].to_numpy(float)
    for year, horizon, predicted in zip(horizons.years, horizons.days, survival.T, strict=True):
        panel[f"auc_{year:g}y"] = partial(dynamic_auc, **order, uncensored=uncensored, horizon=horizon)
        panel[f"oe_{year:g}y"] = partial(
            calibration.observed_to_expected, days=days, event=event, survival=predicted, horizon=horizon
        )
    at = horizons.uncensored(fold, np.broadcast_to(horizons.days, survival.shape))
    terms = partial(
        brier.brier_terms, days=days, event=event, horizons=horizons.days, uncensored=uncensored, uncensored_at=at
    )
    for name, predicted in {"ibs": survival, "ibs_null": horizons.null_survival(fold)}.items():
        whole = brier.integrated(terms(survival=predicted), horizons.days)
        panel[name] = partial(brier.weighted_mean, terms=whole)
    predictor = calibration.log_cumulative_hazard(survival[:, horizons.years.index(horizons.primary)])
    panel["calibration_slope"] = partial(
        calibration.calibration_slope, days=days, event=event, predictor=predictor, fold=fold
    )
    return panel


def class_panel(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Metric]:
    """Metrics of class probabilities.

    Parameters
    ----------
    rows : DataFrame
        One row a patient: fold, label, p_<class>.
    classes : sequence of str
        The label's values in order.

    Returns
    -------
    dict
        auc (macro), balanced_accuracy, f1 (macro), ece, brier, calibration_slope, recall_<class>, oe_<class>; with more
        than two classes auc_<class>.
    """
    label = rows["label"].map({name: k for k, name in enumerate(classes)}).to_numpy(int)
    probabilities = rows[[class_column(name) for name in classes]].to_numpy(float)
    fold = rows["fold"].to_numpy(int)
    hard = {"label": label, "predicted": probabilities.argmax(axis=1), "classes": len(classes)}
    panel: dict[str, Metric] = {
        "auc": partial(classification.macro_auc, label=label, probabilities=probabilities, fold=fold),
        "balanced_accuracy": partial(classification.balanced_accuracy, **hard),
        "f1": partial(classification.macro_f1, **hard),
        "ece": partial(classification.expected_calibration_error, label=label, probabilities=probabilities),
        "brier": partial(brier.weighted_mean, terms=classification.brier_terms(label, probabilities)),
        "calibration_slope": partial(recalibration.calibration_slope, label=label, probabilities=probabilities),
    }
    for k, name in enumerate(classes):
        panel[f"recall_{name}"] = partial(classification.recall, **hard, positive=k)
        panel[f"oe_{name}"] = partial(
            classification.observed_to_expected, inside=label == k, probability=probabilities[:, k]
        )
        if len(classes) > 2:
            panel[f"auc_{name}"] = partial(
                classification.one_vs_rest_auc, label=label, score=probabilities[:, k], fold=fold, positive=k
            )
    return panel
