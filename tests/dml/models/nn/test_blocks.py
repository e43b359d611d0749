"""Dropout with cheap random numbers drops as much as it says and keeps the mean."""

import pytest
import torch

from dml.models.nn.blocks import Dropout


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_the_share_is_dropped_and_the_mean_kept(share: float) -> None:
    out = Dropout(share)(torch.ones(1000, 1001))
    kept = out != 0
    assert float(kept.float().mean()) == pytest.approx(1 - share, abs=2e-3)
    assert len(out[kept].unique()) == 1
    assert float(out.max()) == pytest.approx(1 / (1 - share), rel=1e-3)


def test_elements_are_dropped_independently() -> None:
    kept = (Dropout(0.5)(torch.ones(200_000)) != 0).float() - 0.5
    for lag in (1, 2, 3, 4, 8):
        assert abs(float((kept[lag:] * kept[:-lag]).mean()) * 4) < 0.01


def test_evaluation_and_zero_change_nothing() -> None:
    x = torch.randn(3, 5)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_the_seed_decides_and_the_gradient_follows_the_mask() -> None:
    x = torch.randn(7, 3, requires_grad=True)
    torch.manual_seed(1)
    first = Dropout(0.3)(x)
    torch.manual_seed(1)
    assert torch.equal(Dropout(0.3)(x), first)
    first.sum().backward()
    assert torch.equal(x.grad != 0, first != 0)


def test_everything_may_be_dropped() -> None:
    assert torch.isfinite(Dropout(1.0)(torch.ones(10_000))).all()
