"""Ridge regression against scikit-learn, and its interval against refits without each patient."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Reference

from dml.core.errors import InputError
from dml.linear_models.ridge import Ridge


@pytest.fixture
def data(rng) -> tuple[np.ndarray, np.ndarray]:
    columns = rng.normal(size=(60, 5)) * [1, 10, 0.1, 1, 1] + 3
    return columns, 200 + 7 * (columns[:, 0] - 0.2 * columns[:, 1]) + rng.normal(size=60)


def test_it_is_that_of_scikit_learn_on_standardised_columns(data) -> None:
    columns, values = data
    ours = Ridge.fit(columns, values, 0.3)
    scaled = (columns - columns.mean(0)) / columns.std(0)
    reference = Reference(alpha=60 * 0.3).fit(scaled, values)
    np.testing.assert_allclose(ours.predict(columns)[:, 0], reference.predict(scaled))
    np.testing.assert_allclose(ours.coefficients * columns.std(0), reference.coef_)


def test_units_do_not_matter(data) -> None:
    columns, values = data
    one = Ridge.fit(columns, values, 0.1).predict(columns)
    other = Ridge.fit(columns * 1000 - 4, values / 50 + 1, 0.1).predict(columns * 1000 - 4)
    np.testing.assert_allclose((other - 1) * 50, one)


def test_the_interval_is_of_residuals_of_refits_without_each_patient(rng) -> None:
    columns = rng.normal(size=(400, 3))
    values = columns[:, 0] + rng.normal(size=400)
    fitted = Ridge.fit(columns, values, 0.1)
    residuals = []
    for i in range(400):
        rest = np.arange(400) != i
        residuals.append(values[i] - Ridge.fit(columns[rest], values[rest], 0.1).predict(columns[i : i + 1])[0, 0])
    np.testing.assert_allclose(fitted.ends, np.quantile(residuals, [0.1, 0.9]), atol=0.01)


def test_it_covers_the_share_that_it_should(rng) -> None:
    columns = rng.normal(size=(4_100, 10))
    values = columns @ rng.normal(size=10) + rng.exponential(size=4_100)
    value, low, high = Ridge.fit(columns[:100], values[:100], 0.01).predict(columns[100:]).T
    assert np.mean((values[100:] >= low) & (values[100:] <= high)) == pytest.approx(0.8, abs=0.08)
    assert ((low <= value) & (value <= high)).all()


@pytest.mark.parametrize("values", [np.full(8, 3.0), np.zeros(0)], ids=["constant", "nobody"])
def test_numbers_that_do_not_vary_are_refused(values) -> None:
    with pytest.raises(InputError, match=r"have the number 3|no training patient"):
        Ridge.fit(np.zeros((len(values), 2)), values, 0.1)


def test_a_constant_column_has_no_influence(data) -> None:
    columns, values = data
    columns = np.concatenate([columns, np.full((60, 1), 5.0)], axis=1)
    assert Ridge.fit(columns, values, 0.1).coefficients[-1] == 0
