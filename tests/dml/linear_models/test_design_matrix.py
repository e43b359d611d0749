from dataclasses import replace

import numpy as np
import pytest

from dml.linear_models.design_matrix import DesignMatrix, Reduction, source_matrix
from tests.synthetic import COARSE, FINE, TME, TUMOR, WIDTH, cohort


def test_tokens_are_averaged_per_resolution_and_put_side_by_side():
    invented = cohort(4, seed=1)
    matrix = source_matrix(invented, invented.cases, "slide")
    assert matrix.shape == (4, 2 * WIDTH)
    bags = invented.cases[2].bags
    means = [bags[mpp].tokens.double().numpy().mean(axis=0) for mpp in (FINE, COARSE)]
    np.testing.assert_allclose(matrix[2], np.concatenate(means), atol=1e-12)


def test_a_missing_resolution_is_unknown_and_filled_with_the_mean():
    invented = cohort(6, seed=1)
    first = invented.cases[0]
    lacking = replace(first, bags={FINE: first.bags[FINE]})
    matrix = source_matrix(invented, [lacking, *invented.cases[1:]], "slide")
    assert np.isnan(matrix[0, WIDTH:]).all()
    scaled = Reduction.fit(matrix, None)(matrix)
    assert (scaled[0, WIDTH:] == 0).all()


def test_only_genes_of_the_groups_are_used_in_the_order_of_the_cohort():
    invented = cohort(3)
    wider = replace(
        invented,
        genes=("OTHER", *invented.genes),
        cases=tuple(replace(c, expression=np.r_[np.float32(9), c.expression]) for c in invented.cases),
    )
    np.testing.assert_array_equal(
        source_matrix(wider, wider.cases, "genes"), source_matrix(invented, invented.cases, "genes")
    )
    assert source_matrix(invented, invented.cases, "genes").shape == (3, len(TUMOR) + len(TME))


def test_which_sources_a_patient_has():
    invented = cohort(2, absent=1)
    lacking, whole = invented.cases
    assert [lacking.has(source) for source in ("slide", "genes", "clinical")] == [True, False, True]
    assert whole.has("genes")
    assert not replace(whole, bags={}).has("slide")
    assert not replace(whole, covariates={}).has("clinical")


def test_an_unknown_age_takes_the_training_mean():
    invented = cohort(10, seed=2)
    design = DesignMatrix.fit(invented, invented.cases, ("clinical",), 15)
    unknown = replace(invented.cases[0], covariates={"sex": 1.0})
    assert design(invented, [unknown])[0, 0] == 0


def test_components_are_uncorrelated_with_unit_variance_and_a_fixed_sign():
    values = np.random.default_rng(3).normal(size=(40, 6)) @ np.random.default_rng(4).normal(size=(6, 6))
    reduced = Reduction.fit(values, 4)(values)
    np.testing.assert_allclose(np.cov(reduced.T, bias=True), np.eye(4), atol=1e-10)
    mirrored = Reduction.fit(values[::-1], 4)(values)
    np.testing.assert_allclose(mirrored, reduced, atol=1e-8)


@pytest.mark.parametrize(("patients", "columns"), [(1, 5), (3, 50), (30, 2)])
def test_never_more_components_than_the_data_have(patients, columns):
    values = np.random.default_rng(5).normal(size=(patients, columns))
    reduced = Reduction.fit(values, 15)(values)
    assert reduced.shape[1] <= min(15, max(patients - 1, 1), columns)
    assert np.isfinite(reduced).all()


def test_a_constant_or_unmeasured_column_counts_for_nothing():
    values = np.random.default_rng(6).normal(size=(20, 3))
    values[:, 1], values[:, 2] = 4.0, np.nan
    reduction = Reduction.fit(values, None)
    assert reduction(np.array([[0.0, 1000.0, 5.0]])).shape == (1, 1)
    assert reduction(np.array([[0.3, 1.0, 5.0]])) == reduction(np.array([[0.3, 2.0, np.nan]]))
    assert reduction.describe()["deviation"][1:] == [None, None]
