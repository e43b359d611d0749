import numpy as np
import pytest
from sksurv.metrics import cumulative_dynamic_auc

from dml.evaluation.metrics import unweighted
from dml.evaluation.metrics.concordance import dynamic_auc
from dml.evaluation.metrics.kaplan_meier import censoring_curve


def test_by_hand():
    # dead by day 10: risks 3 and 1; alive after it: risks 2 and 1; censored before it: counts for nothing
    value = dynamic_auc(
        unweighted(5), days=np.array([4, 10, 11, 30, 6]), event=np.array([1, 1, 1, 0, 0], bool),
        risk=np.array([3.0, 1, 2, 1, 9]), fold=np.zeros(5, int), uncensored=np.array([1, 0.5, 1, 1, 1]), horizon=10.0,
    )  # fmt: skip
    assert value[0] == pytest.approx((1 + 1 + 2 * (0 + 0.5)) / (1 + 1 + 2 + 2))


def test_agrees_with_scikit_survival(sample):
    horizons = np.unique(np.quantile(sample.days, [0.25, 0.5, 0.75]))
    longest = int(np.argmax(sample.days))  # scikit-survival needs training follow-up as long as the test's
    train = np.r_[np.roll(sample.structured, 5)[: len(sample) // 2], sample.structured[[longest]]]
    train["event"][-1] = True
    theirs, _ = cumulative_dynamic_auc(train, sample.structured, sample.risk, horizons)
    uncensored = censoring_curve(train["days"], train["event"]).at(sample.days)
    for horizon, expected in zip(horizons, theirs, strict=True):
        ours = dynamic_auc(
            unweighted(len(sample)), days=sample.days, event=sample.event, risk=sample.risk, fold=sample.one_fold,
            uncensored=uncensored, horizon=horizon,
        )  # fmt: skip
        assert ours[0] == pytest.approx(expected, abs=1e-8)


def test_pairs_of_folds_are_pooled_and_never_mixed(sample):
    """The slow twin: every pair of a case and a control of its fold, weighted by the case."""
    fold, horizon = np.arange(len(sample)) % 3, float(np.median(sample.days))
    uncensored = censoring_curve(sample.days, sample.event).at(sample.days)
    won, counted = 0.0, 0.0
    for i in np.flatnonzero(sample.event & (sample.days <= horizon)):
        for j in np.flatnonzero((sample.days > horizon) & (fold == fold[i])):
            higher = (sample.risk[i] > sample.risk[j]) + 0.5 * (sample.risk[i] == sample.risk[j])
            won, counted = won + higher / uncensored[i], counted + 1 / uncensored[i]
    ours = dynamic_auc(
        unweighted(len(sample)), days=sample.days, event=sample.event, risk=sample.risk, fold=fold,
        uncensored=uncensored, horizon=horizon,
    )  # fmt: skip
    assert ours[0] == pytest.approx(won / counted, abs=1e-8)


def test_without_cases_there_is_no_number(sample):
    value = dynamic_auc(
        unweighted(len(sample)), days=sample.days, event=sample.event, risk=sample.risk, fold=sample.one_fold,
        uncensored=np.ones(len(sample)), horizon=0.0,
    )  # fmt: skip
    assert np.isnan(value).all()
