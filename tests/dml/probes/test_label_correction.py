"""Correction of labels: thresholds by hand, the limit per class, and known flips between separate classes."""

import numpy as np
import pytest

from dml.probes.label_correction import (
    MAX_SHARE,
    ROUNDS,
    class_thresholds,
    cleanlab_is_there,
    cleanlab_issues,
    correct_labels,
)

P = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55], [0.3, 0.7], [0.7, 0.3]])
LABELS = np.array([0, 0, 0, 0, 1, 1])


def two_classes(n: int, flips: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Well-separated predictions of `n` patients a class, true and recorded labels, `flips` in each class."""
    random = np.random.default_rng(seed)
    truth = np.repeat([0, 1], n)
    high = random.uniform(0.95, 0.99, 2 * n)
    p = np.where(truth[:, None] == [0, 1], high[:, None], 1 - high[:, None])
    recorded = truth.copy()
    for y in (0, 1):
        members = random.choice(np.flatnonzero(truth == y), flips, replace=False)
        recorded[members] = 1 - y
    return p, truth, recorded


def test_thresholds_are_the_means_of_the_patients_labelled_so() -> None:
    assert class_thresholds(P, LABELS) == pytest.approx([(0.9 + 0.6 + 0.2 + 0.45) / 4, (0.7 + 0.3) / 2])
    assert class_thresholds(P, np.zeros(6, int))[1] == np.inf


def test_candidates_change_in_the_order_of_their_margin() -> None:
    """Thresholds 0.5375 and 0.5: labelled 0 but confidently 1 are the third (margin 0.6) and the fourth (0.1)."""
    assert correct_labels(P, LABELS, max_share=0.25).tolist() == [0, 0, 1, 0, 1, 1]
    assert correct_labels(P, LABELS, max_share=0.5).tolist() == [0, 0, 1, 1, 1, 0]
    assert correct_labels(P, LABELS, np.arange(6) == 2, max_share=0.25).tolist() == [0, 0, 0, 1, 1, 1]


def test_a_rare_class_has_a_threshold_of_its_own() -> None:
    """Nobody reaches 0.5 for the rare class; its own threshold, 0.3, is reached by the mislabelled patient."""
    p = np.array([[0.9, 0.1]] * 18 + [[0.6, 0.4], [0.7, 0.3], [0.7, 0.3]])
    labels = np.array([0] * 19 + [1, 1])
    assert correct_labels(p, labels, max_share=0.1).tolist() == [0] * 18 + [1, 1, 1]


def test_three_classes_change_to_the_likeliest_confident_one() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.05, 0.15, 0.8]])
    assert correct_labels(p, np.array([0, 1, 2, 1]), max_share=0.5).tolist() == [0, 1, 2, 2]


def test_known_flips_of_separate_classes_are_corrected_and_no_other() -> None:
    p, truth, recorded = two_classes(100, 5)
    assert (recorded != truth).sum() == 10
    assert correct_labels(p, recorded).tolist() == truth.tolist()


def test_more_flips_than_the_limit_are_corrected_in_part_and_without_error() -> None:
    p, truth, recorded = two_classes(100, 20)
    once = correct_labels(p, recorded)
    changed = once != recorded
    assert changed.sum() == 10
    assert (once[changed] == truth[changed]).all()
    twice = correct_labels(p, once, fixed=changed)
    assert ((twice != recorded).sum(), (twice[changed] == truth[changed]).all()) == (20, True)


def test_nothing_changes_where_separate_classes_have_no_flip() -> None:
    p, truth, _ = two_classes(100, 0)
    assert (correct_labels(p, truth) == truth).all()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_predicted_at_most_the_limit_of_a_class_changes(seed: int) -> None:
    """Predictions without any relation to the labels: the harm of all rounds is bounded."""
    random = np.random.default_rng(seed)
    labels = random.choice(3, 300, p=[0.7, 0.25, 0.05])
    first, fixed = labels.copy(), np.zeros(300, bool)
    for _ in range(ROUNDS):
        before = labels.copy()
        labels = correct_labels(random.dirichlet(np.ones(3), 300), labels, fixed)
        for y in range(3):
            assert (labels[before == y] != y).sum() <= MAX_SHARE * (before == y).sum()
        assert (labels[fixed] == before[fixed]).all()
        fixed |= labels != first


def test_a_class_of_fewer_than_twenty_is_never_changed() -> None:
    p, _, recorded = two_classes(9, 1)
    assert (correct_labels(p, recorded) == recorded).all()


@pytest.mark.skipif(not cleanlab_is_there(), reason="the extra label-noise is not installed")
def test_cleanlab_would_remove_the_flipped_labels() -> None:
    p, truth, recorded = two_classes(100, 10)
    assert (cleanlab_issues(p, recorded) == (recorded != truth)).all()
