"""Distributions of a predicted number: quantiles that cannot cross, and a Gaussian as scipy has it."""

import numpy as np
import pytest
import torch
from scipy import stats

from dml.core.distributions import MIN_WIDTH, Gaussian, Quantiles, distribution, distribution_of, pinball_loss


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_pinball_loss_is_lowest_at_the_quantile(rng, level: float) -> None:
    sample = torch.from_numpy(rng.gamma(2.0, size=20_001))
    candidates = torch.linspace(0, 6, 601, dtype=torch.float64)
    losses = pinball_loss(sample[None, :] - candidates[:, None], level).mean(1)
    assert float(candidates[losses.argmin()]) == pytest.approx(float(np.quantile(sample.numpy(), level)), abs=0.02)


def test_the_pinball_loss_is_that_of_scikit_learn(rng) -> None:
    from sklearn.metrics import mean_pinball_loss

    truth, predicted = rng.normal(size=(2, 50))
    for level in (0.1, 0.5, 0.9):
        ours = float(pinball_loss(torch.from_numpy(truth - predicted), level).mean())
        assert ours == pytest.approx(mean_pinball_loss(truth, predicted, alpha=level))


@pytest.mark.parametrize("name", ["quantile", "gaussian"])
def test_no_outputs_make_an_interval_that_does_not_contain_its_point(name) -> None:
    family = distribution(name)
    outputs = torch.randn(500, family.outputs, generator=torch.Generator().manual_seed(0)) * 30
    point, low, high = family.predict(outputs).unbind(-1)
    assert (low <= point).all()
    assert (point <= high).all()
    assert (high - low >= MIN_WIDTH).all()
    torch.testing.assert_close(point, outputs[:, 0])


@pytest.mark.parametrize("name", ["quantile", "gaussian"])
def test_the_base_outputs_stand_for_the_numbers_they_were_made_of(rng, name) -> None:
    values, family = rng.normal(0.3, 1.4, 4_000), distribution(name)
    point, low, high = family.predict(torch.from_numpy(family.base(values))).tolist()
    gaussian = values.mean() + values.std() * stats.norm.ppf([0.5, 0.1, 0.9])
    wanted = np.quantile(values, [0.5, 0.1, 0.9]) if name == "quantile" else gaussian
    np.testing.assert_allclose([point, low, high], wanted, atol=1e-6)


def test_the_gaussian_is_that_of_scipy(rng) -> None:
    outputs, value = torch.from_numpy(rng.normal(size=(40, 2))), rng.normal(size=40)
    deviation = np.log1p(np.exp(outputs[:, 1].numpy())) + MIN_WIDTH
    ours = Gaussian().log_likelihood(outputs, torch.from_numpy(value))
    np.testing.assert_allclose(ours, stats.norm.logpdf(value, outputs[:, 0].numpy(), deviation))
    low, high = Gaussian().predict(outputs)[:, 1:].T.numpy()
    np.testing.assert_allclose(low, stats.norm.ppf(0.1, outputs[:, 0].numpy(), deviation))
    np.testing.assert_allclose(high, stats.norm.ppf(0.9, outputs[:, 0].numpy(), deviation))


def test_the_likelihood_of_quantiles_is_highest_at_the_quantiles_of_the_numbers(rng) -> None:
    values, family = torch.from_numpy(rng.exponential(size=3_000)), Quantiles()
    outputs = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([outputs], lr=0.05)
    for _ in range(500):
        optimiser.zero_grad()
        (-family.log_likelihood(outputs.expand(len(values), 3), values).mean()).backward()
        optimiser.step()
    point, low, high = family.predict(outputs.detach()).tolist()
    np.testing.assert_allclose([low, point, high], np.quantile(values.numpy(), [0.1, 0.5, 0.9]), atol=0.06)


def test_a_wider_interval_is_less_certain() -> None:
    narrow, wide = torch.tensor([[0.0, -1.0, -1.0], [0.0, 1.0, 1.0]])
    assert Quantiles().log_width(narrow) < Quantiles().log_width(wide)
    deviation = np.log1p(np.exp(0.3)) + MIN_WIDTH
    assert float(Gaussian().log_width(torch.tensor([5.0, 0.3]))) == pytest.approx(np.log(deviation))


def test_the_number_of_outputs_tells_the_distribution() -> None:
    assert isinstance(distribution_of(torch.zeros(4, 3)), Quantiles)
    assert isinstance(distribution_of(torch.zeros(4, 2)), Gaussian)
