import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from dml.linear_models.kernel_ridge import PENALTIES, KernelRidge


@pytest.fixture
def data(rng):
    columns = rng.normal(size=(40, 60)) @ rng.normal(size=(60, 60)) + 5
    targets = columns[:, :3] @ rng.normal(size=(3, 5)) / 10 + rng.normal(size=(40, 5))
    return columns, targets


def penalty_of(model: KernelRidge, columns: np.ndarray, target: int) -> float:
    """Penalty of a ridge regression on the standardised columns."""
    scaled = StandardScaler().fit_transform(columns)
    return float(model.penalty[target] * np.linalg.eigvalsh(scaled @ scaled.T).mean())


def test_predictions_are_those_of_ridge_regression(data, rng):
    columns, targets = data
    model, others = KernelRidge.fit(columns, targets), rng.normal(size=(7, 60)) + 5
    scaler = StandardScaler().fit(columns)
    for k in range(targets.shape[1]):
        ridge = Ridge(penalty_of(model, columns, k)).fit(scaler.transform(columns), targets[:, k])
        np.testing.assert_allclose(model(others)[:, k], ridge.predict(scaler.transform(others)), atol=1e-6)


def test_the_penalty_is_that_of_least_leave_one_out_error(data):
    columns, targets = data
    model, scaled = KernelRidge.fit(columns, targets), StandardScaler().fit_transform(columns)
    scale = np.linalg.eigvalsh(scaled @ scaled.T).mean()

    def error(penalty: float, k: int) -> float:
        left_out = [np.delete(np.arange(40), i) for i in range(40)]
        fits = [Ridge(penalty * scale).fit(scaled[rows], targets[rows, k]) for rows in left_out]
        return sum((targets[i, k] - fits[i].predict(scaled[i : i + 1])[0]) ** 2 for i in range(40))

    for k in range(2):
        best = PENALTIES[np.argmin([error(penalty, k) for penalty in PENALTIES])]
        assert model.penalty[k] == best


def test_the_order_of_patients_and_of_targets_does_not_matter(data, rng):
    columns, targets = data
    order = rng.permutation(len(columns))
    one, other = KernelRidge.fit(columns, targets), KernelRidge.fit(columns[order], targets[order][:, ::-1])
    np.testing.assert_allclose(one(columns), other(columns)[:, ::-1], atol=1e-8)


def test_noise_is_shrunk_to_the_mean(rng):
    columns, targets = rng.normal(size=(200, 50)), rng.normal(size=(200, 20))
    predicted = KernelRidge.fit(columns, targets)(rng.normal(size=(100, 50)))
    assert np.median((predicted - targets.mean(axis=0)).std(axis=0)) < 0.1


def test_components_before_the_regression(data):
    columns, targets = data
    assert KernelRidge.fit(columns, targets, components=5).weights.shape == (5, 5)


def test_a_target_that_is_not_finite_is_refused(data):
    columns, targets = data
    targets[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite: False"):
        KernelRidge.fit(columns, targets)
    with pytest.raises(ValueError, match="2 training patients"):
        KernelRidge.fit(columns[:2], targets[1:3])
