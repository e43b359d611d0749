"""Survival of a patient's neighbours: its Brier score, whether its interval holds, and what it adds to the model.

Shape legend: p test patients, t horizons.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dml.case_bank.dichotomy import Dichotomy
from dml.core.tasks import horizon_columns
from dml.evaluation.horizons import select_horizons
from dml.evaluation.intervals import rounded
from dml.evaluation.metric_sets import survival_metrics
from dml.evaluation.metrics import Metric
from dml.evaluation.metrics.kaplan_meier import kaplan_meier
from dml.evaluation.results import ModelResult, Results, Training
from dml.probes.paired_scorer import PairedScorer

MEASURES = ("c_index", "ibs")


def probe_survival(
    neighbours: pd.DataFrame,
    model: pd.DataFrame,
    scorer: PairedScorer,
    years: Sequence[float],
    k: int,
    training: Mapping[int, Training],
) -> dict[str, Any]:
    """Measure the neighbours' curves, and their mixture with the model's by halving.

    Parameters
    ----------
    neighbours, model : DataFrame
        Predictions of all test patients in the order of ids.
    training : mapping
        Follow-up of each fold's learning patients, for censoring weights.

    Returns
    -------
    dict
        ``ibs`` of neighbours and model with their ``difference``; ``coverage`` of the neighbours' interval with
        ``groups``; ``dichotomy``: ``weights`` (mean weight of the neighbours over nodes and folds) and, for c_index and
        ibs, value and difference from the model.
    """
    mixed, weight = mix(neighbours, model, scorer, years)
    tables = {"model": model, "neighbours": neighbours, "dichotomy": mixed}
    merged = {
        name: scorer.outcomes.merge(rows, on="patient_id", validate="one_to_one") for name, rows in tables.items()
    }
    results = Results("survival", "survival", (), {n: ModelResult(n, rows, training) for n, rows in merged.items()})
    horizons = select_horizons(results, years)
    metrics = {name: survival_metrics(rows, horizons) for name, rows in merged.items()}
    mixture = {
        m: _against(metrics["dichotomy"], metrics["model"], m, scorer) for m in MEASURES if m in metrics["model"]
    }
    return {
        "ibs": _against(metrics["neighbours"], metrics["model"], "ibs", scorer) if "ibs" in metrics["model"] else None,
        "model_ibs": scorer.value(metrics["model"]["ibs"]) if "ibs" in metrics["model"] else None,
        "coverage": interval_coverage(merged["neighbours"], years, k),
        "dichotomy": {"weight": rounded(weight), **mixture},
    }


def mix(
    neighbours: pd.DataFrame, model: pd.DataFrame, scorer: PairedScorer, years: Sequence[float]
) -> tuple[pd.DataFrame, float]:
    """Return model and neighbours mixed by halving, weights fitted on the other folds; and the mean weight."""
    outcomes, columns = scorer.outcomes, list(horizon_columns(years))
    horizons = [float(day) for day in horizon_columns(years).values()]
    fold, days = outcomes["fold"].to_numpy(int), outcomes["days"].to_numpy(float)
    event = outcomes["event"].to_numpy(bool)
    one, other = (rows[columns].to_numpy(float) for rows in (model, neighbours))
    survival, weights = one.copy(), []
    for number in np.unique(fold):
        rest, here = fold != number, fold == number
        if rest.any():
            fitted = Dichotomy.fit(one[rest], other[rest], days[rest], event[rest], horizons)
            survival[here] = fitted(one[here], other[here])
            weights += list(fitted.weights.values())
    risk = -np.trapezoid(np.concatenate([np.ones((len(survival), 1)), survival], axis=1), [0.0, *horizons], axis=1)
    table = pd.DataFrame({"patient_id": model["patient_id"], "risk": risk})
    return table.assign(**dict(zip(columns, survival.T, strict=True))), float(np.mean(weights)) if weights else 0.0


def interval_coverage(rows: pd.DataFrame, years: Sequence[float], k: int, confidence: float = 0.95) -> dict[str, Any]:
    """Return how often the observed survival of k like patients is inside the interval that k neighbours give.

    Test patients are sorted by the neighbours' survival and cut into groups of k; their Kaplan-Meier estimate and the
    group's mean prediction have the same n, so a difference of both is compared with the sum of Greenwood's variances
    on the scale of log(-log S).
    """
    from scipy.stats import norm

    covered: list[bool] = []
    for column, day in horizon_columns(years).items():
        ordered = rows.sort_values(column, kind="stable")
        for start in range(0, len(ordered) - k + 1, k):
            group = ordered.iloc[start : start + k]
            curve = kaplan_meier(group["days"].to_numpy(float), group["event"].to_numpy(bool), confidence)
            step = int(np.searchsorted(curve.days, day, side="right")) - 1
            predicted = float(group[column].mean())
            if step < 0 or not 0 < curve.survival[step] < 1 or not 0 < predicted < 1 or curve.days[-1] < day:
                continue
            scale = [np.log(-np.log(value)) for value in (curve.survival[step], curve.low[step], predicted)]
            deviation = abs(scale[1] - scale[0]) / norm.ppf(0.5 + confidence / 2)
            covered.append(bool(abs(scale[2] - scale[0]) <= norm.ppf(0.5 + confidence / 2) * np.sqrt(2) * deviation))
    share = rounded(float(np.mean(covered))) if covered else None
    return {"confidence": confidence, "groups": len(covered), "share": share}


def _against(one: dict[str, Metric], other: dict[str, Metric], name: str, scorer: PairedScorer) -> dict[str, Any]:
    return {"value": scorer.value(one[name]), "difference": scorer.difference(one[name], other[name])}
