import numpy as np
import pytest
from sksurv.metrics import brier_score, integrated_brier_score

from dml.evaluation.metrics import unweighted
from dml.evaluation.metrics.brier import brier_terms, integrate, weighted_mean
from dml.evaluation.metrics.kaplan_meier import censoring_curve


def _train(sample):
    train = np.roll(sample.structured, 11)
    train["days"][0] = sample.days.max() + 1
    return train


def _terms(sample, train, horizons):
    censoring = censoring_curve(train["days"], train["event"])
    at = np.broadcast_to(censoring.at(horizons), sample.survival.shape)
    return brier_terms(
        days=sample.days, event=sample.event, survival=sample.survival, horizons=horizons,
        uncensored=censoring.at(sample.days), uncensored_at=at,
    )  # fmt: skip


def test_by_hand():
    terms = brier_terms(
        days=np.array([2, 9, 3]), event=np.array([True, True, False]), survival=np.array([[0.3], [0.6], [0.5]]),
        horizons=np.array([5]), uncensored=np.array([0.5, 0.1, 0.1]), uncensored_at=np.full((3, 1), 0.8),
    )  # fmt: skip
    np.testing.assert_allclose(terms[:, 0], [0.3**2 / 0.5, 0.4**2 / 0.8, 0])


def test_agrees_with_scikit_survival(sample):
    horizons = np.unique(np.quantile(sample.days, [0.3, 0.5, 0.8]))
    train = _train(sample)
    terms = _terms(sample, train, horizons)
    ours = [weighted_mean(unweighted(len(sample)), terms=column)[0] for column in terms.T]
    np.testing.assert_allclose(ours, brier_score(train, sample.structured, sample.survival, horizons)[1], atol=1e-8)
    whole = weighted_mean(unweighted(len(sample)), terms=integrate(terms, horizons))[0]
    assert whole == pytest.approx(integrated_brier_score(train, sample.structured, sample.survival, horizons), abs=1e-8)


def test_weights_are_repeated_patients(sample):
    horizons = np.quantile(sample.days, [0.3, 0.5, 0.8])
    terms = integrate(_terms(sample, _train(sample), horizons), horizons)
    weights = np.random.default_rng(2).integers(0, 3, (5, len(sample)))
    repeated = [np.repeat(terms, row).mean() for row in weights]
    np.testing.assert_allclose(weighted_mean(weights, terms=terms), repeated)
