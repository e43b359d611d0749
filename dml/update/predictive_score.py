"""Log-likelihood of each patient's outcome from the columns of predictions: of any model of a task, whatever its bins.

Survival is the density of continuous time, the cumulative hazard being straight between the horizons and following the
last one's rate until the end of follow-up; a number is taken for normal with the predicted interval.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from dml.core.tasks import INTERVAL_ENDS, Task, class_column, horizon_days, survival_column

MIN_PROBABILITY = 1e-4
"""Of a class, and of survival over a year: one confident error must not decide alone."""


def log_scores(rows: pd.DataFrame, task: Task, years: Sequence[float]) -> np.ndarray:
    """Return the log-likelihood of each row (predictions and targets).

    Examples
    --------
    >>> from dml.core.tasks import ClassificationTask
    >>> rows = pd.DataFrame({"p_low": [0.5], "p_high": [0.5], "label": ["low"]})
    >>> log_scores(rows, ClassificationTask("grade", ("low", "high")), ()).round(3).tolist()
    [-0.693]
    """
    if task.kind == "survival":
        return _survival(rows, sorted(years))
    if task.kind == "regression":
        value, lower, upper = (rows[name].to_numpy(float) for name in ("value", "value_lower", "value_upper"))
        width = stats.norm.ppf(INTERVAL_ENDS[1]) - stats.norm.ppf(INTERVAL_ENDS[0])
        return np.asarray(stats.norm.logpdf(rows["target"].to_numpy(float), value, (upper - lower).clip(1e-9) / width))
    chosen = [row[class_column(label)] for row, label in zip(rows.to_dict("records"), rows["label"], strict=True)]
    return np.asarray(np.log(np.clip(np.array(chosen, float), MIN_PROBABILITY, 1.0)))


def _survival(rows: pd.DataFrame, years: Sequence[float]) -> np.ndarray:
    days = np.array([0.0, *(horizon_days(year) for year in years)])
    survival = rows[[survival_column(year) for year in years]].to_numpy(float)
    least, most = np.diff(days) * 1e-7, -np.log(MIN_PROBABILITY) * np.diff(days) / 365.25
    steps = np.diff(-np.log(np.clip(survival, 1e-12, 1.0)), axis=1, prepend=0.0).clip(least, most)
    rates = steps / np.diff(days)
    time, event = rows["days"].to_numpy(float), rows["event"].to_numpy(bool)
    part = np.clip(np.searchsorted(days, time, side="right") - 1, 0, len(years) - 1)
    before = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(steps, axis=1)], axis=1)
    one = np.arange(len(rows))
    cumulative = before[one, part] + rates[one, part] * (time - days[part])
    return np.asarray(np.where(event, np.log(rates[one, part]), 0.0) - cumulative)
