"""Evidence that may be looked at every week: false alarms over 200 weeks are as rare as promised, changes are found."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dml.core.tasks import ClassificationTask, RegressionTask, SurvivalTask
from dml.monitoring import e_processes as e
from dml.monitoring.conformal_martingales import conformal_p_values, log_martingale
from dml.monitoring.drift_tests import watch_quantities
from dml.monitoring.outcome_table import ENTRY, EVENT, LABEL, TARGET, TIME
from dml.monitoring.performance import Check, OutcomeChecks, concordant_pairs, deaths, mean_evidence
from dml.monitoring.quantities import Quantity

LEVEL, WEEKS = 0.05, 200


def most_alarms(streams: int, level: float) -> float:
    """Share of streams above which a true rate of `level` is refuted (one in a thousand)."""
    return float(stats.binom.ppf(0.999, streams, level)) / streams


@pytest.mark.parametrize("reference", [20, 100])
@pytest.mark.parametrize("discrete", [False, True])
def test_over_200_weeks_without_drift_alarms_are_as_rare_as_promised(reference: int, discrete: bool) -> None:
    rng, streams, quantities, patients = np.random.default_rng(0), 200, 3, 2 * WEEKS
    common = rng.standard_t(2, size=(streams, 1, reference + patients))
    values = common + rng.normal(size=(streams, quantities, reference + patients))  # quantities depend on each other
    values = values.round() if discrete else values
    p_values = conformal_p_values(values[..., :reference], values[..., reference:], rng)
    capital = np.logaddexp.reduce(log_martingale(p_values), axis=1) - np.log(quantities)
    alarms = (capital.max(axis=1) >= np.log(1 / LEVEL)).mean()
    assert alarms <= most_alarms(streams, LEVEL)


def test_ranks_are_uniform_and_independent_without_drift() -> None:
    rng = np.random.default_rng(1)
    p_values = conformal_p_values(rng.normal(size=(4000, 20)), rng.normal(size=(4000, 30)), rng)
    assert stats.kstest(p_values[:, 0], "uniform").pvalue > 1e-3
    assert stats.kstest(p_values[:, -1], "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(p_values[:, -2], p_values[:, -1])[0, 1]) < 0.06


def test_outputs_of_one_fold_are_like_test_predictions_of_cross_validation() -> None:
    """Ridge regressions of five folds, that overfit; new patients are predicted by one fold of each at random."""
    rng, patients, columns, folds, streams = np.random.default_rng(6), 200, 150, 5, 200
    reference, stream = [], []
    for _ in range(streams):
        weight = rng.normal(size=columns) / np.sqrt(columns)
        x, fold = rng.normal(size=(patients, columns)), np.arange(patients) % folds
        y, fitted = x @ weight + rng.normal(size=patients), np.empty((folds, columns))
        for k in range(folds):
            a = x[fold != k]
            fitted[k] = np.linalg.solve(a.T @ a + 5 * np.eye(columns), a.T @ y[fold != k])
        reference.append((x * fitted[fold]).sum(axis=1))
        new = rng.normal(size=(2 * WEEKS, columns))
        stream.append((new * fitted[rng.integers(folds, size=len(new))]).sum(axis=1))
    capital = log_martingale(conformal_p_values(np.array(reference), np.array(stream), rng))
    assert (capital.max(axis=1) >= np.log(1 / LEVEL)).mean() <= most_alarms(streams, LEVEL)


def test_a_planted_drift_is_found_in_the_weeks_after_it() -> None:
    rng, patients = np.random.default_rng(2), 300
    stream = rng.normal(size=patients) + np.where(np.arange(patients) >= 150, 1.5, 0.0)
    moved, still = Quantity("scan", "moved", rng.normal(size=100), stream), None
    still = Quantity("tissue", "still", rng.normal(size=100), rng.normal(size=patients))
    weeks = [f"2026-W{i // 5:02d}" for i in range(patients)]
    drift = watch_quantities([moved, still], weeks, seed=3, recent=50)
    first = drift.first_week(LEVEL / 2)
    assert first is not None
    assert "2026-W30" <= first <= "2026-W45"
    assert {each.label: each.log_capital[-1] > 3 for each in drift.quantities} == {"moved": True, "still": False}


def test_a_quantity_that_is_rarely_known_keeps_its_capital_in_between() -> None:
    stream = np.where(np.arange(40) % 2 == 0, 9.0, np.nan)
    drift = watch_quantities([Quantity("a", "rare", np.zeros(30), stream)], [f"W{i:02d}" for i in range(40)], 0, 5)
    capital = drift.quantities[0].log_capital
    assert (capital[1::2] == capital[0::2]).all()
    assert capital[-1] > np.log(20)


@pytest.mark.parametrize("border", [0.8, 1.0, 1.25])
def test_evidence_on_a_rate_is_one_on_average_at_its_border(border: float) -> None:
    expected, counts = 12.0, np.arange(200)
    chance = stats.poisson.pmf(counts, border * expected)
    for evidence in (e.log_e_rate_above, e.log_e_rate_below):
        assert (chance * np.exp(evidence(counts, expected, border))).sum() == pytest.approx(1.0, abs=1e-6)


def test_evidence_on_a_share_is_one_on_average_at_its_border_and_less_within() -> None:
    trials, hits = 40, np.arange(41)
    for evidence, border, within in ((e.log_e_share_below, 0.6, 0.7), (e.log_e_share_above, 0.1, 0.05)):
        value = np.exp(evidence(hits, trials, border))
        assert (stats.binom.pmf(hits, trials, border) * value).sum() == pytest.approx(1.0)
        assert (stats.binom.pmf(hits, trials, within) * value).sum() < 0.7


def test_evidence_on_a_shift_is_one_on_average_at_its_border() -> None:
    probability, tolerance = np.array([0.6, 0.7, 0.9, 0.55]), 0.25
    outcomes = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(bool)
    for side, shift in ((0, tolerance), (1, -tolerance)):
        actual = 1 / (1 + np.exp(-(np.log(probability / (1 - probability)) + shift)))
        chance = np.where(outcomes, actual, 1 - actual).prod(axis=1)
        values = [np.exp(e.log_e_shift(outcome, probability, tolerance)[side]) for outcome in outcomes]
        assert (chance * values).sum() == pytest.approx(1.0)


def test_over_200_weeks_of_outcomes_alarms_are_as_rare_as_promised_and_intervals_hold() -> None:
    """Deaths come as predicted and pairs as promised; both are looked at every week."""
    rng, streams, floor = np.random.default_rng(4), 400, 0.65
    expected = np.cumsum(rng.gamma(2.0, 0.4, size=(streams, WEEKS)), axis=1)
    observed = np.cumsum(rng.poisson(np.diff(expected, axis=1, prepend=0.0)), axis=1)
    pairs = np.cumsum(rng.poisson(1.5, size=(streams, WEEKS)), axis=1)
    hits = np.cumsum(rng.binomial(np.diff(pairs, axis=1, prepend=0), floor), axis=1)
    rate = np.logaddexp(e.log_e_rate_above(observed, expected, 1.0), e.log_e_rate_below(observed, expected, 1.0))
    evidence = np.logaddexp(rate - np.log(2), e.log_e_share_below(hits, pairs, floor)) - np.log(2)
    assert (evidence.max(axis=1) >= np.log(1 / LEVEL)).mean() <= most_alarms(streams, LEVEL)
    few = range(60)
    missed = [
        any(not low <= 1 <= high for low, high in map(e.rate_interval, observed[i], expected[i], [LEVEL] * WEEKS))
        for i in few
    ]
    assert np.mean(missed) <= most_alarms(len(few), LEVEL)


def test_what_is_broken_is_found() -> None:
    assert np.exp(e.log_e_rate_above(90, 45.0, 1.25)) > 20
    assert np.exp(e.log_e_rate_below(10, 45.0, 0.8)) > 20
    assert np.exp(e.log_e_share_below(100, 200, 0.65)) > 20
    low, high = e.rate_interval(90, 45.0, 0.05)
    assert 1.25 < low < 2 < high


def survivors(risk: list[float], time: list[float], event: list[bool]) -> pd.DataFrame:
    return pd.DataFrame({"risk": risk, TIME: time, EVENT: event, ENTRY: 0.0, "survival_365": 0.8, "survival_730": 0.6})


def test_pairs_are_neighbours_whose_order_of_death_is_known() -> None:
    rows = survivors(
        [2, 1, 1, 2, 0, 9, 5, 5],
        [10, 20, 10, 20, 30, 40, np.nan, 3],
        [True, False, True, True, False, True, False, True],
    )
    assert concordant_pairs(rows, SurvivalTask()).tolist() == [True, False]
    late = rows.assign(**{ENTRY: 15.0})
    assert concordant_pairs(late, SurvivalTask()).tolist() == [], "not at risk together"


def test_pairs_of_classes_and_numbers() -> None:
    task = ClassificationTask("grade", ("G2", "G3"))
    rows = pd.DataFrame({"p_G2": [0.9, 0.2, 0.4, 0.3], "p_G3": [0.1, 0.8, 0.6, 0.7], LABEL: ["G2", "G3", "G3", "G3"]})
    assert concordant_pairs(rows, task).tolist() == [True]
    numbers = pd.DataFrame({"value": [1.0, 2.0, 5.0, 4.0], TARGET: [1.0, 3.0, 1.0, 3.0]})
    assert concordant_pairs(numbers, RegressionTask("purity")).tolist() == [True, False]


def test_expected_deaths_follow_the_predicted_curve_to_the_last_horizon() -> None:
    rows = survivors([0.0, 0.0], [365.0, 9000.0], [True, True])
    observed, expected = deaths(rows, (1.0, 2.0))
    assert observed == 1, "a death after the last horizon is not counted"
    assert expected == pytest.approx(-np.log(0.8) - np.log(0.6))
    entered = rows.assign(**{ENTRY: 365.0})
    assert deaths(entered, (1.0, 2.0))[1] == pytest.approx(np.log(0.8) - np.log(0.6))


def test_weights_of_checks_need_not_be_used_up() -> None:
    def check(log_e: float, weight: float) -> Check:
        return Check("x", "", 1, 0.0, 0.0, 0.0, "", log_e, weight)

    assert mean_evidence([]) == 0.0
    assert mean_evidence([check(np.log(81.0), 0.5)]) == pytest.approx(np.log(41.0))


@pytest.mark.parametrize("task", [ClassificationTask("grade", ("G2", "G3")), RegressionTask("purity")])
def test_checks_of_other_tasks_hold_and_break(task: ClassificationTask | RegressionTask) -> None:
    rng, n = np.random.default_rng(5), 400
    probability = rng.uniform(0.1, 0.9, n)
    target = rng.normal(size=n)
    rows = pd.DataFrame(
        {
            "p_G2": 1 - probability,
            "p_G3": probability,
            LABEL: np.where(rng.random(n) < probability, "G3", "G2"),
            TARGET: target,
            "value": target + rng.normal(size=n),
            "value_lower": target - 1.3 + rng.normal(size=n),
            "value_upper": target + 1.3 + rng.normal(size=n),
        }
    )
    checks = OutcomeChecks(task, (), 0.55, 0.05)
    for check in checks.of(rows, 1.0):
        assert check.low <= check.estimate <= check.high
    broken = rows.assign(**{LABEL: rows[LABEL].map({"G2": "G3", "G3": "G2"}), TARGET: -5 * target})
    assert all(check.log_e > np.log(20) for check in checks.of(broken, 1.0))
