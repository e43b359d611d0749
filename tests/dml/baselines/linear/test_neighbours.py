"""Neighbours: curves of lifelines, shares and means of the nearest, in a fold like any linear baseline."""

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time

from dml.baselines.linear.fit import fit_baseline
from dml.baselines.linear.neighbours import (
    MODELS,
    N_NEIGHBOURS,
    NeighbourCurves,
    NeighbourNumbers,
    NeighbourShares,
)
from dml.baselines.linear.regression import make_regression
from dml.config import params as config
from dml.data.example_cohort import example_cohort
from dml.models import registry


@pytest.fixture
def columns() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(90, 3))


def nearest(columns: np.ndarray, row: np.ndarray) -> np.ndarray:
    return np.argsort(np.linalg.norm(columns - row, axis=1))[:N_NEIGHBOURS]


def test_curve_and_risk_are_those_of_the_nearest(columns: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    days, event = rng.integers(10, 2000, 90).astype(float), rng.random(90) < 0.5
    model, query = NeighbourCurves.fit(columns, days, event), np.array([[0.2, -0.1, 0.4], [2.0, 2.0, -1.0]])
    tau = days[event].max()
    for row, curve, risk in zip(query, model.survival(query, [365, 1096]), model.risk(query), strict=True):
        near = nearest(columns, row)
        fitted = KaplanMeierFitter().fit(days[near], event[near])
        assert curve == pytest.approx(fitted.survival_function_at_times([365, 1096]).to_numpy())
        assert risk == pytest.approx(-restricted_mean_survival_time(fitted, tau) / 365.25)


def test_shares_are_never_nothing(columns: np.ndarray) -> None:
    label = (columns[:, 0] > 0).astype(int)
    model = NeighbourShares.fit(columns, label, ("no", "yes"))
    (far,) = model.probabilities(np.array([[5.0, 0.0, 0.0]]))
    near = label[nearest(columns, np.array([5.0, 0.0, 0.0]))]
    assert far == pytest.approx([((1 - near).sum() + 1 - label.mean()) / 31, (near.sum() + label.mean()) / 31])
    assert 0 < far[0] < 0.1


def test_a_number_is_within_its_interval(columns: np.ndarray) -> None:
    values = np.exp(3 * columns[:, 0])
    value, lower, upper = NeighbourNumbers.fit(columns, values).predict(columns).T
    assert (lower <= value).all()
    assert (value <= upper).all()
    assert value[0] == pytest.approx(values[nearest(columns, columns[0])].mean())


@pytest.mark.parametrize("task", ["survival", "grade", "score"])
@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_neighbours_are_a_baseline_of_every_task(name: str, task: str) -> None:
    cohort = example_cohort(60)
    ids = [case.patient_id for case in cohort.cases]
    regression = make_regression(task, cohort.classes, (1.0, 2.0))
    parts = cohort.subset(set(ids[:45])), {"test": cohort.subset(set(ids[45:]))}
    result = fit_baseline(name, *parts, regression, config.Baselines())
    assert result is not None
    assert len(result.rows) == 15
    assert result.description["model"]["neighbours"] == 22, "half of a small training set"
    assert name in registry.linear_names()
