import numpy as np
import pytest

from dml.evaluation.metrics.dependence import distance_correlation


def slow(one, other):
    """Bias-corrected distance correlation as Szekely and Rizzo write it, sum by sum."""

    def centred(rows):
        n = len(rows)
        d = [[float(np.linalg.norm(a - b)) for b in rows] for a in rows]
        total = sum(map(sum, d))
        return [
            [0 if i == j else d[i][j] - sum(d[i]) / (n - 2) - sum(d[j]) / (n - 2) + total / ((n - 1) * (n - 2))
             for j in range(n)]
            for i in range(n)
        ]  # fmt: skip

    def product(a, b):
        return sum(x * y for r, s in zip(a, b, strict=True) for x, y in zip(r, s, strict=True))

    a, b = centred(one), centred(other)
    return product(a, b) / (product(a, a) * product(b, b)) ** 0.5


def test_agrees_with_the_slow_twin():
    random = np.random.default_rng(0)
    one = random.normal(size=(12, 3))
    other = np.c_[one[:, :1] ** 2, random.normal(size=12)]
    assert distance_correlation(one, other) == pytest.approx(slow(one, other), abs=1e-10)


def test_independent_is_zero_on_average_and_equal_is_one():
    random = np.random.default_rng(1)
    found = [distance_correlation(random.normal(size=(20, 30)), random.normal(size=(20, 30))) for _ in range(200)]
    assert abs(np.mean(found)) < 0.01
    rows = random.normal(size=(20, 4))
    turn = np.linalg.qr(random.normal(size=(4, 4)))[0]
    assert distance_correlation(rows, 3 * rows @ turn + 1) == pytest.approx(1)


def test_dependence_without_correlation_is_seen():
    x = np.linspace(-1, 1, 60)[:, None]
    assert abs(np.corrcoef(x[:, 0], x[:, 0] ** 2)[0, 1]) < 1e-12
    assert distance_correlation(x, x**2) > 0.1


def test_what_does_not_vary_or_is_too_few_has_no_value():
    assert np.isnan(distance_correlation(np.ones((9, 2)), np.eye(9)))
    assert np.isnan(distance_correlation(np.eye(3), np.eye(3)))
