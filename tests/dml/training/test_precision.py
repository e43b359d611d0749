"""`optimisation.precision: medium` rounds factors of products to 8 bits and nothing else, and only while training."""

import pytest
import torch

from benchmarks.shapes import make_batch, make_teacher
from dml.config import params as config
from dml.training.losses import task_loss
from dml.training.runtime import reproducible

BFLOAT16 = 2.0**-8
"""Largest relative rounding error of a factor."""


def product(precision: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator) for _ in range(2))
    with reproducible(0, 1, precision):
        return left @ right


def test_medium_is_float32_within_the_rounding_of_bfloat16() -> None:
    exact, rounded = product("float32"), product("medium")
    assert rounded.dtype == torch.float32
    error = (rounded - exact).norm() / exact.norm()
    assert error < 2 * BFLOAT16


def gradient(precision: str) -> torch.Tensor:
    torch.manual_seed(0)
    batch, model = make_batch([300, 100]), make_teacher().eval()
    with reproducible(0, 1, precision):
        task_loss(model(batch).logits, batch.target).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_a_gradient_of_the_teacher_keeps_its_direction() -> None:
    exact, rounded = gradient("float32"), gradient("medium")
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.999
    assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_float32_is_not_rounded() -> None:
    assert torch.equal(product("float32"), product("float32"))
    before = torch.get_float32_matmul_precision()
    with reproducible(0, 1, "float32"):
        assert torch.get_float32_matmul_precision() == before


def test_the_setting_ends_with_the_training_even_if_that_fails() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError, match="medium"), reproducible(0, 1, "medium"):
        raise RuntimeError(torch.get_float32_matmul_precision())
    assert torch.get_float32_matmul_precision() == before


def test_params_know_it() -> None:
    assert config.Optimisation(precision="medium").precision == "medium"
    assert config.Optimisation().precision == "float32"
