"""What must hold on a CUDA device; skipped where there is none."""

from collections.abc import Iterator

import pytest
import torch

from benchmarks.shapes import make_batch, make_teacher
from dml.core.types import Batch
from dml.data.augmentation import drop_tokens_and_genes
from dml.models.teacher import Teacher
from dml.training.gradients import coordinated_backward
from dml.training.losses import task_loss
from dml.training.runtime import reproducible, to_device

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def gradient(device: str, precision: str = "float32") -> torch.Tensor:
    torch.manual_seed(0)
    model, target = make_teacher().eval().to(device), torch.device(device)
    with reproducible(0, 1):
        batch = to_device(make_batch([300, 100, 40]), target)
        with torch.autocast(target.type, torch.bfloat16, enabled=precision == "bfloat16"):
            output = model(batch)
            loss = task_loss(output.logits, batch.target)
        coordinated_backward(loss, output, model.head, list(model.parameters()), batch.target)
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).cpu()


def test_gradients_are_those_of_a_cpu() -> None:
    ours, theirs = gradient("cuda"), gradient("cpu")
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()


def test_bfloat16_keeps_the_direction_of_the_gradient() -> None:
    assert torch.nn.functional.cosine_similarity(gradient("cuda", "bfloat16"), gradient("cpu"), dim=0) > 0.98


def test_the_same_step_twice_is_the_same_bits() -> None:
    assert torch.equal(gradient("cuda"), gradient("cuda"))


@pytest.fixture
def batch() -> Batch:
    return to_device(make_batch([300, 100, 40]), torch.device("cuda"))


@pytest.fixture
def no_waiting() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


def step(model: Teacher, batch: Batch) -> None:
    hidden = drop_tokens_and_genes(batch, token_dropout=0.1, modality_dropout=0.2)
    output = model(hidden)
    loss = task_loss(output.logits, hidden.target)
    coordinated_backward(loss, output, model.head, list(model.parameters()), hidden.target)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def test_a_step_never_waits_for_the_device(batch: Batch, no_waiting: None) -> None:
    model = make_teacher().train().to("cuda")
    step(model, batch)  # first calls allocate and choose kernels
    torch.cuda.set_sync_debug_mode("error")
    step(model, batch)
