"""Hazard ratios of the predicted risk group, unadjusted and adjusted for clinical columns."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dml.evaluation.results import ModelResult, assign_risk_groups

if TYPE_CHECKING:
    from lifelines import CoxPHFitter

log = logging.getLogger(__name__)

MIN_COVERAGE = 0.8
"""A column is adjusted for if it is known of this share of the test patients."""
MIN_PATIENTS_PER_VALUE = 8
"""... and, if it is a label, each of its values has as many patients."""
MIN_DEATHS_PER_COLUMN = 5
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
class HazardRatios:
    """The high-risk group's unadjusted hazard ratio, and all rows of the model that adjusts for clinical columns.

    `p_added` is of the likelihood-ratio test that the group adds to those columns, `p_proportional` of the test that
    its adjusted hazard ratio is the same at all times (Grambsch and Therneau, Biometrika 1994).
    """

    patients: int
    deaths: int
    unadjusted: HazardRatio
    adjusted: tuple[HazardRatio, ...]
    p_added: float
    p_proportional: float


def fit_hazard_ratios(model: ModelResult, patients: pd.DataFrame, columns: Sequence[str]) -> HazardRatios | None:
    """Fit Cox models of the risk group, alone and with those clinical columns that are known of most patients.

    Age counts per decade, sex as female, a label against its most frequent value. Patients with an unknown value are
    left out of all fits. None if the risk groups are unknown, a group is empty, deaths are too few for the columns, or
    a fit does not converge.
    """
    group = assign_risk_groups(model)
    if group is None or group.nunique() < 2:
        return None
    joined = model.rows.assign(**{HIGH: group}).merge(patients, on="patient_id", suffixes=("", "_known"))
    table = pd.concat([joined[["days", "event", HIGH]].astype(float), _clinical(joined, columns)], axis=1).dropna()
    table = table.loc[:, table.nunique() > 1]
    deaths = int(table["event"].sum())
    if HIGH not in table or deaths < MIN_DEATHS_PER_COLUMN * (table.shape[1] - 2):
        return None
    try:
        unadjusted, adjusted = _fit(table[["days", "event", HIGH]]), _fit(table)
        p_added, p_proportional = _p_added(adjusted, table), _p_proportional(adjusted, table)
    except ArithmeticError as error:
        log.warning("%s: no Cox model with clinical columns, %s", model.name, error)
        return None
    return HazardRatios(len(table), deaths, _ratios(unadjusted)[0], _ratios(adjusted), p_added, p_proportional)


def _clinical(joined: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Age per decade, sex, numbers per standard deviation, and 0/1 columns of the labels."""
    covariates: dict[str, pd.Series] = {}
    for name in (name for name in columns if name in joined and joined[name].notna().mean() >= MIN_COVERAGE):
        if name == "age":
            covariates["age, per 10 y"] = joined[name].astype(float) / 10
        elif name == "sex":
            covariates["female"] = joined[name].astype(float)
        elif joined[name].dtype == float:
            covariates[f"{name}, per standard deviation"] = joined[name] / (joined[name].std() or 1.0)
        else:
            covariates |= _indicators(joined[name].astype("string"), name)
    return pd.DataFrame(covariates, index=joined.index)


def _indicators(values: pd.Series, label: str) -> dict[str, pd.Series]:
    """0/1 columns of a label against its most frequent value; none if it has one value or a rare one."""
    counts = values.value_counts()
    if len(counts) < 2 or counts.min() < MIN_PATIENTS_PER_VALUE:
        return {}
    first, *others = (str(value) for value in counts.index)
    known = values.notna()
    return {f"{label} {v}, against {first}": (values == v).astype(float).where(known, np.nan) for v in sorted(others)}


def _fit(table: pd.DataFrame) -> "CoxPHFitter":
    """Fit a Cox model; ArithmeticError if it does not converge or is not finite."""
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model = CoxPHFitter().fit(table, "days", "event")
        except (ConvergenceWarning, ConvergenceError) as error:
            raise ArithmeticError(f"it did not converge ({str(error).splitlines()[0]})") from None
    if not np.isfinite(model.summary[_COLUMNS].to_numpy(float)).all():
        raise ArithmeticError("a coefficient has no finite interval")
    return model


_COLUMNS = ["exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p"]


def _ratios(model: "CoxPHFitter") -> tuple[HazardRatio, ...]:
    return tuple(HazardRatio(str(column), *map(float, row)) for column, row in model.summary[_COLUMNS].iterrows())


def _p_added(adjusted: "CoxPHFitter", table: pd.DataFrame) -> float:
    """Test by likelihood ratio whether the group adds to the others: p, one degree of freedom."""
    from scipy.stats import chi2

    statistic = adjusted.log_likelihood_ratio_test().test_statistic
    clinical = table.drop(columns=HIGH)
    if clinical.shape[1] > 2:
        statistic -= _fit(clinical).log_likelihood_ratio_test().test_statistic
    return float(chi2.sf(statistic, 1))


def _p_proportional(model: "CoxPHFitter", table: pd.DataFrame) -> float:
    from lifelines.statistics import proportional_hazard_test

    return float(proportional_hazard_test(model, table, time_transform="rank").summary.loc[HIGH, "p"])
