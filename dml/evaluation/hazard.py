"""What the predicted risk group adds to what is known anyway: hazard ratios alone and beside clinical columns."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dml.evaluation.results import ModelResult, risk_groups

if TYPE_CHECKING:
    from lifelines import CoxPHFitter

log = logging.getLogger(__name__)

KNOWN = 0.8
"""A column joins the adjustment if this share of the test patients has it."""
SMALLEST_GROUP = 8
"""... and, if it is a label, each of its values has as many patients."""
EVENTS_PER_COLUMN = 5
HIGH = "high_risk"


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
    """The high-risk group's hazard ratio alone, and all rows of the model beside clinical columns.

    `p_added` is of the likelihood-ratio test that the group adds to those columns, `p_proportional` of the test that
    its hazard ratio in the joint model is the same at all times (Grambsch and Therneau, Biometrika 1994).
    """

    patients: int
    deaths: int
    alone: HazardRatio
    together: tuple[HazardRatio, ...]
    p_added: float
    p_proportional: float


def adjusted_hazard(model: ModelResult, patients: pd.DataFrame, columns: Sequence[str]) -> Adjusted | None:
    """Fit Cox models of the risk group, alone and beside those clinical columns that are known of most patients.

    Age counts per decade, sex as female, a label against its most frequent value. Patients with an unknown value are
    left out of all fits. None if the risk groups are unknown, a group is empty, deaths are too few for the columns, or
    a fit does not converge.
    """
    group = risk_groups(model)
    if group is None or group.nunique() < 2:
        return None
    joined = model.rows.assign(**{HIGH: group}).merge(patients, on="patient_id", suffixes=("", "_known"))
    table = pd.concat([joined[["days", "event", HIGH]].astype(float), _clinical(joined, columns)], axis=1).dropna()
    table = table.loc[:, table.nunique() > 1]
    deaths = int(table["event"].sum())
    if HIGH not in table or deaths < EVENTS_PER_COLUMN * (table.shape[1] - 2):
        return None
    try:
        alone, together = _fitted(table[["days", "event", HIGH]]), _fitted(table)
        added, steady = _added(together, table), _proportional(together, table)
    except ArithmeticError as error:
        log.warning("%s: no Cox model beside clinical columns, %s", model.name, error)
        return None
    return Adjusted(len(table), deaths, _ratios(alone)[0], _ratios(together), added, steady)


def _clinical(joined: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Age per decade, sex, and 0/1 columns of the labels."""
    found: dict[str, pd.Series] = {}
    for name in (name for name in columns if name in joined and joined[name].notna().mean() >= KNOWN):
        if name == "age":
            found["age, per 10 y"] = joined[name].astype(float) / 10
        elif name == "sex":
            found["female"] = joined[name].astype(float)
        else:
            found |= _indicators(joined[name].astype("string"), name)
    return pd.DataFrame(found, index=joined.index)


def _indicators(values: pd.Series, label: str) -> dict[str, pd.Series]:
    """0/1 columns of a label against its most frequent value; none if it has one value or a rare one."""
    counts = values.value_counts()
    if len(counts) < 2 or counts.min() < SMALLEST_GROUP:
        return {}
    first, *others = (str(value) for value in counts.index)
    known = values.notna()
    return {f"{label} {v}, against {first}": (values == v).astype(float).where(known, np.nan) for v in sorted(others)}


def _fitted(table: pd.DataFrame) -> "CoxPHFitter":
    """Fit a Cox model; ArithmeticError if it does not converge or is not finite."""
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            fitted = CoxPHFitter().fit(table, "days", "event")
        except (ConvergenceWarning, ConvergenceError) as error:
            raise ArithmeticError(f"it did not converge ({str(error).splitlines()[0]})") from None
    if not np.isfinite(fitted.summary[_COLUMNS].to_numpy(float)).all():
        raise ArithmeticError("a coefficient has no finite interval")
    return fitted


_COLUMNS = ["exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p"]


def _ratios(fitted: "CoxPHFitter") -> tuple[HazardRatio, ...]:
    return tuple(HazardRatio(str(column), *map(float, row)) for column, row in fitted.summary[_COLUMNS].iterrows())


def _added(together: "CoxPHFitter", table: pd.DataFrame) -> float:
    """Test by likelihood ratio whether the group adds to the others: p, one degree of freedom."""
    from scipy.stats import chi2

    statistic = together.log_likelihood_ratio_test().test_statistic
    clinical = table.drop(columns=HIGH)
    if clinical.shape[1] > 2:
        statistic -= _fitted(clinical).log_likelihood_ratio_test().test_statistic
    return float(chi2.sf(statistic, 1))


def _proportional(fitted: "CoxPHFitter", table: pd.DataFrame) -> float:
    from lifelines.statistics import proportional_hazard_test

    return float(proportional_hazard_test(fitted, table, time_transform="rank").summary.loc[HIGH, "p"])
