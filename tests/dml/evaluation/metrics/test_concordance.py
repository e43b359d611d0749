import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines.utils import concordance_index
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw

from dml.evaluation.metrics import pairs, unweighted
from dml.evaluation.metrics.concordance import count_pairs, harrell_c, uno_c
from dml.evaluation.metrics.kaplan_meier import censoring_curve

HAND_COMPUTED = {
    # name: (days, event, risk, (concordant, discordant, tied_risk, tied_time))
    "perfect order": ([1, 2, 3, 4], [1, 1, 1, 1], [4, 3, 2, 1], (6, 0, 0, 0)),
    "reversed order": ([1, 2, 3, 4], [1, 1, 1, 1], [1, 2, 3, 4], (0, 6, 0, 0)),
    "one risk for all": ([1, 2, 3, 4], [1, 1, 1, 1], [7, 7, 7, 7], (0, 0, 6, 0)),
    "the first is censored and starts no pair": ([1, 2, 3], [0, 1, 1], [9, 2, 1], (1, 0, 0, 0)),
    "the last is censored and still compared": ([1, 2, 3], [1, 1, 0], [3, 1, 2], (2, 1, 0, 0)),
    "two deaths on one day are not comparable": ([5, 5, 9], [1, 1, 0], [2, 1, 0], (2, 0, 0, 0)),
    "a death precedes a censoring of its day": ([5, 5, 9], [1, 0, 0], [2, 1, 3], (1, 1, 0, 1)),
    "two censored on the day of two deaths": ([5, 5, 5, 5], [1, 1, 0, 0], [4, 1, 1, 3], (2, 1, 1, 4)),
    "tied risk and tied day": ([3, 3, 8], [1, 0, 1], [1, 1, 1], (0, 0, 2, 1)),
}


@pytest.mark.parametrize("case", HAND_COMPUTED.values(), ids=HAND_COMPUTED)
def test_the_pairs_are_counted_as_by_hand(case):
    days, event, risk, expected = case
    arrays = np.array(days), np.array(event, bool), np.array(risk, float)
    counts = count_pairs(*arrays, np.zeros(len(days), int))
    assert (counts.concordant, counts.discordant, counts.tied_risk, counts.tied_time) == expected
    theirs = concordance_index_censored(arrays[1], arrays[0], arrays[2])
    assert theirs[1:] == expected
    assert counts.index == pytest.approx(theirs[0], abs=1e-12)


def test_the_pairs_of_folds_are_pooled_and_never_mixed():
    days, event = np.array([1, 2, 3, 1, 2]), np.ones(5, bool)
    risk, fold = np.array([3.0, 2, 1, 50, 60]), np.array([0, 0, 0, 1, 1])
    counts = count_pairs(days, event, risk, fold)
    assert (counts.concordant, counts.discordant, counts.comparable) == (3, 1, 4)
    assert counts.index == 0.75


def test_harrell_agrees_with_lifelines_and_scikit_survival(sample):
    ours = harrell_c(
        unweighted(len(sample)), days=sample.days, event=sample.event, risk=sample.risk, fold=sample.one_fold
    )
    theirs = concordance_index_censored(sample.event, sample.days, sample.risk)
    counts = count_pairs(sample.days, sample.event, sample.risk, sample.one_fold)
    assert (counts.concordant, counts.discordant, counts.tied_risk, counts.tied_time) == theirs[1:]
    assert ours[0] == pytest.approx(theirs[0], abs=1e-8)
    assert ours[0] == pytest.approx(concordance_index(sample.days, -sample.risk, sample.event), abs=1e-8)
    assert ours[0] == counts.index


def test_uno_agrees_with_scikit_survival(sample):
    train = np.roll(sample.structured, 7)
    uncensored = censoring_curve(train["days"], train["event"]).at(sample.days)
    for tau in np.quantile(sample.days, [0.4, 0.7, 0.85]):
        ours = uno_c(
            unweighted(len(sample)), days=sample.days, event=sample.event, risk=sample.risk, fold=sample.one_fold,
            uncensored=uncensored, tau=tau,
        )  # fmt: skip
        assert ours[0] == pytest.approx(concordance_index_ipcw(train, sample.structured, sample.risk, tau)[0], abs=1e-8)


def test_unos_pairs_of_folds_are_pooled_and_never_mixed(sample):
    """The slow twin: every comparable pair of a fold, weighted by the square of who died."""
    fold, tau = np.arange(len(sample)) % 3, float(np.quantile(sample.days, 0.7))
    uncensored = censoring_curve(sample.days, sample.event).at(sample.days)
    won, counted = 0.0, 0.0
    for i in np.flatnonzero(sample.event & (sample.days < tau)):
        later = (sample.days > sample.days[i]) | ((sample.days == sample.days[i]) & ~sample.event)
        for j in np.flatnonzero(later & (fold == fold[i])):
            higher = (sample.risk[i] > sample.risk[j]) + 0.5 * (sample.risk[i] == sample.risk[j])
            won, counted = won + higher / uncensored[i] ** 2, counted + 1 / uncensored[i] ** 2
    ours = uno_c(
        unweighted(len(sample)), days=sample.days, event=sample.event, risk=sample.risk, fold=fold,
        uncensored=uncensored, tau=tau,
    )  # fmt: skip
    assert ours[0] == pytest.approx(won / counted, abs=1e-8)


def test_uno_without_censoring_is_harrell():
    random = np.random.default_rng(3)
    days, risk, fold = random.uniform(1, 9, 50), random.normal(size=50), random.integers(0, 2, 50)
    event, weights = np.ones(50, bool), random.integers(0, 3, (5, 50))
    same = {"days": days, "event": event, "risk": risk, "fold": fold}
    np.testing.assert_allclose(uno_c(weights, **same, uncensored=np.ones(50), tau=99.0), harrell_c(weights, **same))


def test_integer_weights_are_repeated_patients(sample):
    random = np.random.default_rng(0)
    fold = random.integers(0, 3, len(sample))
    weights = random.integers(0, 4, (3, len(sample)))
    ours = harrell_c(weights, days=sample.days, event=sample.event, risk=sample.risk, fold=fold)
    for row, value in zip(weights, ours, strict=True):
        index = np.repeat(np.arange(len(sample)), row)
        repeated = count_pairs(sample.days[index], sample.event[index], sample.risk[index], fold[index])
        assert value == pytest.approx(repeated.index, abs=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_order_of_patients_and_monotone_transforms_change_nothing(seed):
    random = np.random.default_rng(seed)
    days, event = random.integers(1, 9, 20), random.random(20) < 0.5
    risk, fold = random.integers(0, 6, 20).astype(float), random.integers(0, 2, 20)
    counts = count_pairs(days, event, risk, fold)
    shuffled = random.permutation(20)
    assert count_pairs(days[shuffled], event[shuffled], risk[shuffled], fold[shuffled]) == counts
    assert count_pairs(days, event, np.exp(3 * risk) - 5, fold) == counts
    mirrored = count_pairs(days, event, -risk, fold)
    assert (mirrored.concordant, mirrored.tied_risk) == (counts.discordant, counts.tied_risk)


def test_without_a_comparable_pair_there_is_no_number():
    nobody_died = harrell_c(
        unweighted(3), days=np.array([1, 2, 3]), event=np.zeros(3, bool), risk=np.arange(3.0), fold=np.zeros(3, int)
    )
    assert np.isnan(nobody_died).all()
    assert np.isnan(count_pairs(np.array([1]), np.array([True]), np.array([0.0]), np.array([0])).index)


def test_blocks_and_merges_count_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    days, event, fold = rng.integers(1, 40, 300), rng.random(300) < 0.4, rng.integers(0, 2, 300)
    risk, weights = rng.integers(0, 30, 300) / 7, rng.integers(0, 4, (5, 300))
    as_one_matrix = harrell_c(weights, days=days, event=event, risk=risk, fold=fold)
    for block in (1, 2, 8, 64):
        monkeypatch.setattr(pairs, "BLOCK", block)
        merged = harrell_c(weights, days=days, event=event, risk=risk, fold=fold)
        assert np.array_equal(merged, as_one_matrix), block
    monkeypatch.setattr(pairs, "MAX_ELEMENTS", 500)
    assert np.array_equal(harrell_c(weights, days=days, event=event, risk=risk, fold=fold), as_one_matrix)
