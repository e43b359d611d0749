import numpy as np
import pytest

from dml.core.errors import InputError
from dml.linear_models.logistic import Logistic


def test_it_learns_and_a_class_absent_from_training_gets_nothing():
    random = np.random.default_rng(0)
    columns = random.normal(size=(90, 2))
    label = np.where(columns[:, 0] > 0, 2, 0)
    model = Logistic.fit(columns, label, ("a", "b", "c"), 0.1)
    probabilities = model.probabilities(columns)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities[:, 1] == 0).all()
    assert (probabilities.argmax(axis=1) == label).mean() > 0.9
    assert model.describe()["classes"] == ["a", "c"]


def test_classes_count_alike():
    label = np.r_[np.zeros(90, int), np.ones(10, int)]
    columns = np.random.default_rng(1).normal(size=(100, 1)) * 1e-3
    assert Logistic.fit(columns, label, ("a", "b"), 0.1).probabilities(columns).mean(axis=0) == pytest.approx(
        0.5, abs=0.01
    )


def test_one_class_only_is_refused_by_name():
    with pytest.raises(InputError, match="all its training patients are b"):
        Logistic.fit(np.zeros((3, 1)), np.ones(3, int), ("a", "b"), 0.1)
