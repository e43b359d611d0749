"""Flow matching: closed forms of the Gaussian flow, recovery of a conditional Gaussian, gradients, masks."""

import pytest
import torch
from torch import Tensor, nn

from dml.models.nn.conditional_flow import VelocityNetwork, antithetic_noise, flow_matching_loss, integrate


class Gaussian(nn.Module):
    """The exact velocity towards N(mean c, deviation^2) of independent components, from N(0, 1).

    E[x - eps | x_t] by the joint Gaussian of x_t = (1 - t) eps + t x.
    """

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        mean, variance = self.mean * condition, self.deviation**2
        slope = (t * variance - (1 - t)) / (t**2 * variance + (1 - t) ** 2)
        return mean + slope * (x - t * mean)


def test_the_exact_velocity_leads_to_the_conditional_gaussian() -> None:
    noise, condition = torch.randn(4000, 1), torch.tensor([[-1.0], [2.0]])
    samples = integrate(Gaussian(1.5, 0.5), noise, condition, 200)
    expected = 1.5 * condition + 0.5 * noise[:, None]
    torch.testing.assert_close(samples, expected, atol=0.03, rtol=0.0)


def test_twenty_euler_steps_are_near_it() -> None:
    noise = torch.linspace(-2, 2, 21)[:, None]
    samples = integrate(Gaussian(1.5, 0.5), noise, torch.ones(1, 1), 20)[:, 0]
    torch.testing.assert_close(samples, 1.5 + 0.5 * noise, atol=0.1, rtol=0.0)


def test_the_loss_of_the_exact_velocity_is_its_conditional_variance() -> None:
    """Var(x - eps | x_t) of independent standard normals is 1 / (t^2 + (1 - t)^2), pi / 2 in the mean over t."""
    torch.manual_seed(0)
    x = torch.randn(20_000, 1)
    loss = flow_matching_loss(Gaussian(0.0, 1.0), x, torch.zeros(20_000, 1), torch.ones(20_000, dtype=torch.bool))
    assert float(loss) == pytest.approx(torch.pi / 2, abs=0.02)


def test_a_network_that_adds_nothing_keeps_standard_normals() -> None:
    network = VelocityNetwork(3, 2, 8, 0.0)
    nn.init.zeros_(network.outer.weight)
    nn.init.zeros_(network.outer.bias)
    noise = torch.randn(50, 3)
    samples = integrate(network, noise, torch.zeros(1, 2), 400)[:, 0]
    torch.testing.assert_close(samples, noise, atol=0.02, rtol=0.02)


def test_a_trained_network_recovers_mean_and_covariance_of_a_conditional_gaussian() -> None:
    """x = B c + L e: the mean follows the condition, and what it leaves open keeps its correlation."""
    torch.manual_seed(1)
    b = torch.tensor([[0.8, 0.0], [0.0, -0.6]])
    factor = torch.tensor([[0.5, 0.0], [0.4, 0.3]])
    network = VelocityNetwork(2, 2, 64, 0.0)
    network.normalise = nn.Identity()  # of two components nothing but their order would remain
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 600)
    known = torch.ones(128, dtype=torch.bool)
    for _ in range(600):
        condition = torch.randn(128, 2)
        x = condition @ b.T + torch.randn(128, 2) @ factor.T
        optimiser.zero_grad()
        flow_matching_loss(network, x, condition, known, draws=8).backward()
        optimiser.step()
        schedule.step()
    at = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]])
    with torch.no_grad():
        samples = integrate(network, antithetic_noise(4000, 2), at, 20)
    torch.testing.assert_close(samples.mean(0), at @ b.T, atol=0.1, rtol=0.0)
    for i in range(len(at)):
        torch.testing.assert_close(torch.cov(samples[:, i].T), factor @ factor.T, atol=0.06, rtol=0.0)


def test_every_parameter_receives_gradient_and_patients_without_x_do_not_count() -> None:
    network, condition = VelocityNetwork(4, 3, 8, 0.0), torch.randn(5, 3)
    x, known = torch.randn(5, 4), torch.tensor([True, False, True, True, False])
    torch.manual_seed(0)
    loss = flow_matching_loss(network, x, condition, known)
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())
    torch.manual_seed(0)
    unknown = torch.where(known[:, None], x, torch.nan)
    torch.testing.assert_close(flow_matching_loss(network, unknown, condition, known), loss)
    nobody = flow_matching_loss(network, x, condition, torch.zeros(5, dtype=torch.bool))
    nobody.backward()
    assert float(nobody.detach()) == 0


def test_noise_is_in_pairs_of_opposite_sign() -> None:
    noise = antithetic_noise(16, 5)
    assert noise.shape == (16, 5)
    assert torch.equal(noise[:8], -noise[8:])
