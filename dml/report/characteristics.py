"""Who the patients are, those tested beside all of the cohort: the table that a clinical reader looks for first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dml.core.tasks import DAYS_PER_YEAR
from dml.evaluation.metrics.kaplan_meier import survival_curve
from dml.evaluation.results import Results


def characteristics(results: Results, patients: pd.DataFrame, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Describe age, sex, follow-up, sites and labels of the test patients and of all patients.

    Returns
    -------
    list of dict
        ``characteristic``, ``tested`` and ``all`` as text, in order; unknown values are counted, not hidden.
    """
    tested = patients[patients["patient_id"].isin(results.patients["patient_id"])]
    rows = [{"characteristic": "patients", "tested": str(len(tested)), "all": str(len(patients))}]
    values = {label: sorted(patients[label].dropna().unique()) for label in labels}
    for one, other in zip(_lines(tested, values), _lines(patients, values), strict=True):
        rows.append({"characteristic": one[0], "tested": one[1], "all": other[1]})
    return rows


def _lines(rows: pd.DataFrame, values: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    if "age" in rows:
        yield "age in years, median (quartiles)", _quartiles(rows["age"])
    if "sex" in rows:
        yield "female", _share(rows["sex"] == 1, rows["sex"].notna())
    if {"survival_days", "event"} <= set(rows):
        known = rows[rows["survival_days"].notna() & rows["event"].notna()]
        days, event = known["survival_days"].to_numpy(float), known["event"].to_numpy(bool)
        yield "deaths", _share(pd.Series(event), pd.Series(np.ones(len(event), bool)))
        yield "years followed, median (reverse Kaplan-Meier)", _median_years(days, ~event)
        yield "years survived, median (Kaplan-Meier)", _median_years(days, event)
    yield "sites", str(rows["site"].nunique())
    for label, known_values in values.items():
        for value in known_values:
            yield f"{label} {value}", _share(rows[label] == value, rows[label].notna())


def _quartiles(values: pd.Series) -> str:
    if not values.notna().any():
        return "-"
    low, middle, high = np.nanquantile(values.to_numpy(float), [0.25, 0.5, 0.75])
    return f"{middle:.0f} ({low:.0f} to {high:.0f}){_unknown(values.isna())}"


def _share(inside: pd.Series, known: pd.Series) -> str:
    if not known.any():
        return "-"
    return f"{int(inside.sum())} of {int(known.sum())} ({inside.sum() / known.sum():.0%}){_unknown(~known)}"


def _unknown(missing: pd.Series) -> str:
    return f", {int(missing.sum())} unknown" if missing.any() else ""


def _median_years(days: np.ndarray, ended: np.ndarray) -> str:
    curve = survival_curve(days, ended)
    below = np.flatnonzero(curve.values <= 0.5)
    return f"{curve.days[below[0]] / DAYS_PER_YEAR:.1f}" if len(below) else "not reached"
