"""Weights of patients: what the slide predicts of their genes counts, and nobody is in the fit of the own share."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from dml.core.types import Survival
from dml.data.preprocessing import Preprocessor
from dml.linear_models.kernel_ridge import KernelRidge
from dml.linear_models.patient_weights import LEAST, fit_patient_weights, predicted_shares
from tests.synthetic import PARAMS, cohort, fold

DATA = cohort(200, absent=10)
INNER = np.arange(90) % 3


def planted(told: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Slides of 6 columns and 20 genes of 2 factors, which the slide has in part."""
    rng = np.random.default_rng(seed)
    factors, other = rng.normal(size=(2, 90, 2))
    slide = np.concatenate([factors, rng.normal(size=(90, 4))], 1)
    mixed = told * factors + (1 - told) * other
    return slide, mixed @ rng.normal(size=(2, 20)) + 0.1 * rng.normal(size=(90, 20))


def weights_of(learning, outcomes=None) -> dict[str, float]:
    preprocessor = Preprocessor.fit(outcomes or learning, PARAMS, "survival")
    return fit_patient_weights(learning, preprocessor, {c.patient_id: i % 3 for i, c in enumerate(learning.cases)})


def test_a_share_is_what_a_regression_of_the_other_inner_folds_predicts() -> None:
    slide, genes = planted(0.7)
    shares = predicted_shares(slide, genes, INNER)
    rest = INNER != 1
    low, high = np.quantile(genes[rest], [0.01, 0.99], axis=0)
    clipped = np.clip(genes, low, high)
    scaled = (clipped - clipped[rest].mean(0)) / clipped[rest].std(0)
    pca = PCA(3).fit(scaled[rest])
    scores = pca.transform(scaled)
    predicted = KernelRidge.fit(slide[rest], scores[rest])(slide)
    expected = 1 - ((scores - predicted) ** 2).sum(1) / (scores**2).sum(1)
    np.testing.assert_allclose(shares[INNER == 1], np.maximum(expected, 0)[INNER == 1], rtol=1e-6)


def test_all_nothing_and_in_between() -> None:
    all_of_it, half, nothing = (predicted_shares(*planted(told), INNER).mean() for told in (1.0, 0.5, 0.0))
    assert all_of_it > 0.9
    assert 0.3 < half < 0.7
    assert nothing < 0.1


def test_no_patient_is_in_the_fit_of_its_inner_fold() -> None:
    slide, genes = planted(0.7)
    changed = genes.copy()
    changed[4] += 5.0  # of inner fold 1
    before, after = (predicted_shares(slide, each, INNER) for each in (genes, changed))
    others = (INNER == 1) & (np.arange(90) != 4)
    assert np.array_equal(before[others], after[others]), "fitted without inner fold 1"
    assert not np.array_equal(before[INNER == 0], after[INNER == 0]), "fitted with the patient"


def test_few_patients_and_missing_values() -> None:
    slide, genes = planted()
    assert not predicted_shares(slide[:30], genes[:30], INNER[:30]).any(), "20 patients are too few to fit to"
    slide[3], genes[5, 0] = np.nan, np.nan
    shares = predicted_shares(slide, genes, INNER)
    assert np.isfinite(shares).all()
    assert shares[3] < 0.1, "the mean is predicted"


def test_weights_have_mean_one_are_bounded_and_follow_the_slide() -> None:
    learning = fold(DATA).learning
    wrong = {c.patient_id for c in learning.cases[1::4]}
    bags = [c.bags for c in learning.cases if c.patient_id in wrong]
    swapped = iter([*bags[7:], *bags[:7]])
    mixed = [replace(c, bags=next(swapped)) if c.patient_id in wrong else c for c in learning.cases]
    weights = weights_of(replace(learning, cases=tuple(mixed)))
    assert set(weights) == {c.patient_id for c in learning.cases if c.has_expression}
    values = np.array(list(weights.values()))
    assert values.mean() == pytest.approx(1)
    assert LEAST / (LEAST + 1) <= values.min() < values.max() <= (LEAST + 1) / LEAST
    inside = np.array([patient in wrong for patient in weights])
    assert values[~inside].mean() > values[inside].mean() + 0.1, "slides of another patient predict less"


def test_no_outcome_counts_and_nothing_is_weighted_without_pairs() -> None:
    learning = fold(DATA).learning
    other = replace(
        learning,
        cases=tuple(replace(c, survival=Survival(10.0 + i, True), labels={}) for i, c in enumerate(learning.cases)),
    )
    assert weights_of(other, learning) == weights_of(learning)
    nobody = replace(learning, cases=tuple(replace(c, expression=None) for c in learning.cases))
    assert weights_of(nobody, learning) == {}
