"""What the predicted risk group adds to what is known anyway: hazard ratios alone and beside clinical columns."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dml.evaluation.results import ModelResult, risk_groups

log = logging.getLogger(__name__)

KNOWN = 0.8
"""A label joins the adjustment if this share of the test patients has it."""
SMALLEST_GROUP = 8
"""... and each of its values has as many patients."""
EVENTS_PER_COLUMN = 5


@dataclass(frozen=True, slots=True)
class HazardRatio:
    """One row of a Cox model: exponentiated coefficient with its Wald interval and p-value."""

    column: str
    ratio: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class Adjusted:
    """The high-risk group's hazard ratio alone, and all rows of the model beside clinical columns."""

    patients: int
    deaths: int
    alone: HazardRatio
    together: tuple[HazardRatio, ...]


def adjusted_hazard(model: ModelResult, patients: pd.DataFrame, labels: Sequence[str]) -> Adjusted | None:
    """Fit Cox models of the risk group, alone and with age (per decade), sex and the labels known of most patients.

    Patients with an unknown value are left out of both. None if the risk groups are unknown, a group is empty, deaths
    are too few for the columns, or a fit does not converge.
    """
    group = risk_groups(model)
    if group is None or group.nunique() < 2:
        return None
    joined = model.rows.assign(high_risk=group).merge(patients, on="patient_id", suffixes=("", "_known"))
    columns = _clinical(joined, labels)
    table = pd.concat([joined[["days", "event", "high_risk"]].astype(float), columns], axis=1).dropna()
    table = table.loc[:, table.nunique() > 1]
    deaths = int(table["event"].sum())
    if "high_risk" not in table or deaths < EVENTS_PER_COLUMN * (table.shape[1] - 2):
        return None
    alone, together = (_fitted(part) for part in (table[["days", "event", "high_risk"]], table))
    if alone is None or together is None:
        log.warning("%s: the Cox model beside clinical columns did not converge, it is left out", model.name)
        return None
    return Adjusted(len(table), deaths, alone[0], together)


def _clinical(joined: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Age per decade, sex, and 0/1 columns of the labels against their most frequent value."""
    columns = {}
    if "age" in joined and joined["age"].notna().mean() >= KNOWN:
        columns["age, per 10 y"] = joined["age"].astype(float) / 10
    if "sex" in joined and joined["sex"].notna().mean() >= KNOWN:
        columns["female"] = joined["sex"].astype(float)
    for label in (name for name in labels if name in joined):
        values = joined[label].astype("string")
        counts = values.value_counts()
        if values.notna().mean() < KNOWN or len(counts) < 2 or counts.min() < SMALLEST_GROUP:
            continue
        for value in sorted(str(value) for value in counts.index[1:]):
            columns[f"{label} {value}"] = (values == value).astype(float).where(values.notna(), np.nan)
    return pd.DataFrame(columns, index=joined.index)


def _fitted(table: pd.DataFrame) -> tuple[HazardRatio, ...] | None:
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            summary = CoxPHFitter().fit(table, "days", "event").summary
        except (ConvergenceWarning, ConvergenceError):
            return None
    names = ["exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p"]
    if not np.isfinite(summary[names].to_numpy(float)).all():
        return None
    return tuple(HazardRatio(str(column), *map(float, row)) for column, row in summary[names].iterrows())
