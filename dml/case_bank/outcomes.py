"""Outcomes of similar patients: Kaplan-Meier curve, shares of classes, or mean, with intervals.

Shape legend: k neighbours, t days.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from dml.case_bank.bank import DAYS, EVENT
from dml.core.tasks import INTERVAL_ENDS, Task, horizon_days
from dml.evaluation.intervals import rounded, wilson_interval
from dml.evaluation.metrics.kaplan_meier import KaplanMeier, kaplan_meier

CONFIDENCE = 0.95


def describe_outcomes(neighbours: pd.DataFrame, task: Task, years: Sequence[float]) -> dict[str, Any]:
    """Summarise the neighbours' outcomes of a task.

    Parameters
    ----------
    neighbours : DataFrame
        Rows of `CaseBank.cases`.
    years : sequence of float
        Horizons of survival.

    Returns
    -------
    dict
        ``n`` (neighbours whose outcome is known), and for survival ``deaths``, ``horizons`` (per year: survival,
        ci_low, ci_high, at_risk; None beyond the last follow-up) and ``curve`` (days, survival, ci_low, ci_high,
        at_risk); for a label ``classes`` (class to share, ci_low, ci_high); for a number mean and quantiles.
    """
    if task.kind == "survival":
        return _survival(neighbours, years)
    known = neighbours[task.name].dropna() if task.name in neighbours else pd.Series(dtype=object)
    if task.kind == "classification":
        return {
            "n": len(known),
            "classes": {name: _share(int((known == name).sum()), len(known)) for name in task.classes},
        }
    values = known.to_numpy(float)
    low, high = np.quantile(values, INTERVAL_ENDS) if len(values) else (np.nan, np.nan)
    mean = float(values.mean()) if len(values) else np.nan
    return {"n": len(known), "mean": rounded(mean), "low": rounded(float(low)), "high": rounded(float(high))}


def known_follow_up(neighbours: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return days and event of the neighbours whose follow-up is known."""
    known = neighbours[neighbours[DAYS].notna()]
    return known[DAYS].to_numpy(float), known[EVENT].to_numpy(bool)


def _survival(neighbours: pd.DataFrame, years: Sequence[float]) -> dict[str, Any]:
    days, event = known_follow_up(neighbours)
    if not len(days):
        return {"n": 0, "deaths": 0, "horizons": {f"{year:g}": None for year in years}, "curve": None}
    curve = kaplan_meier(days, event, CONFIDENCE)
    horizons = {f"{year:g}": _at(curve, horizon_days(year), float(days.max())) for year in years}
    names = {"days": curve.days, "survival": curve.survival, "ci_low": curve.low, "ci_high": curve.high}
    steps = {name: [rounded(float(value)) for value in values] for name, values in names.items()}
    at_risk = {"at_risk": [int(n) for n in curve.at_risk]}
    return {"n": len(days), "deaths": int(event.sum()), "horizons": horizons, "curve": steps | at_risk}


def _at(curve: KaplanMeier, day: float, last_day: float) -> dict[str, float | int | None] | None:
    """Survival on a day, with its interval and how many are at risk then; None if nobody was followed for as long."""
    if day > last_day:
        return None
    step = int(np.searchsorted(curve.days, day, side="right")) - 1
    values = [(1.0, 1.0, 1.0)] if step < 0 else [(curve.survival[step], curve.low[step], curve.high[step])]
    at_risk = curve.at_risk[step + 1] if step + 1 < len(curve.at_risk) else 0
    survival, low, high = (rounded(float(value)) for value in values[0])
    return {"survival": survival, "ci_low": low, "ci_high": high, "at_risk": int(at_risk)}


def _share(count: int, n: int) -> dict[str, float | None]:
    """Share with Wilson's interval (Journal of the American Statistical Association 1927)."""
    if not n:
        return {"share": None, "ci_low": None, "ci_high": None}
    low, high = wilson_interval(count, n, CONFIDENCE)
    return {"share": rounded(count / n), "ci_low": rounded(low), "ci_high": rounded(high)}


def mean_survival(curve: KaplanMeier, tau: float) -> float:
    """Return the restricted mean survival time: the area under a curve up to `tau` days.

    Examples
    --------
    >>> mean_survival(kaplan_meier(np.array([100.0, 300.0]), np.array([True, True])), 200.0)
    150.0
    """
    inside = curve.days < tau
    edges: Float[np.ndarray, t] = np.concatenate([[0.0], curve.days[inside], [tau]])
    return float((np.diff(edges) * np.concatenate([[1.0], curve.survival[inside]])).sum())
