import numpy as np
import pytest

from dml.evaluation.metrics.decision import net_benefit, net_benefit_survival


def test_by_hand():
    # at 0.5: acts on three, two of them right, of five: (2 - 1 * 0.5/0.5) / 5; at 0.2: acts on four, two right
    probability, outcome = np.array([0.9, 0.8, 0.7, 0.3, 0.1]), np.array([True, False, True, False, True])
    found = net_benefit(probability, outcome, np.array([0.5, 0.2]))
    assert found == pytest.approx([(2 - 1) / 5, (2 - 2 * 0.25) / 5])


def test_without_censoring_survival_is_the_same():
    random = np.random.default_rng(0)
    days, probability = random.uniform(1, 100, 60), random.random(60)
    thresholds = np.linspace(0.05, 0.95, 10)
    same = net_benefit(probability, days <= 40, thresholds)
    ours = net_benefit_survival(probability, days, np.ones(60, bool), 40.0, thresholds)
    np.testing.assert_allclose(ours, same, atol=1e-12)


def test_acting_on_no_one_gains_nothing():
    found = net_benefit_survival(np.full(3, 0.1), np.arange(3.0), np.ones(3, bool), 2.0, np.array([0.5]))
    assert found == 0
