"""Gradient coordination as METHOD wants it (fault 1 of the authors' code)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dml.config import params as config
from dml.core.types import SUBSPACES, ClassTarget, ModelOutput, SurvivalTarget
from dml.models.nn.head import BranchHead
from dml.models.teacher import Teacher
from dml.training.gradients import branch_confidence, coordinate, coordinated_backward
from dml.training.losses import task_loss
from tests import oracles
from tests.synthetic import DIMS, batch

vectors = arrays("float64", 4, elements=st.floats(-10, 10).map(lambda x: round(x, 3)))


@settings(max_examples=200, deadline=None)
@given(vectors, vectors, st.booleans())
def test_conflicts_are_resolved_and_nothing_else_changes(a: object, b: object, tumor_leads: bool) -> None:
    tumor, tme = torch.tensor(a)[None], torch.tensor(b)[None]
    new_tumor, new_tme, conflict, _ = coordinate(tumor, tme, tumor_leads)
    leader, follower, before = (new_tumor, new_tme, tme) if tumor_leads else (new_tme, new_tumor, tumor)
    assert torch.equal(leader, tumor if tumor_leads else tme)
    expected = oracles.project_if_conflicting(before[0].tolist(), leader[0].tolist())
    torch.testing.assert_close(follower[0], torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=1e-9)
    if conflict:
        assert abs(float((new_tumor * new_tme).sum())) <= 1e-5 * float(leader.norm() * before.norm())
    else:
        assert torch.equal(follower, before)


def test_a_strong_conflict_becomes_orthogonal_and_not_agreement() -> None:
    """The authors' code turns cosine -0.87 into +0.87."""
    tumor, tme = torch.tensor([[1.0, 0.0]]), torch.tensor([[-0.87, 0.493]])
    leader, follower, conflict, cosine = coordinate(tumor, tme, tumor_leads=True)
    assert bool(conflict)
    assert float(cosine) == pytest.approx(-0.87, abs=1e-3)
    assert float((leader * follower).sum()) == pytest.approx(0, abs=1e-6)


def test_rows_are_resolved_one_by_one() -> None:
    tumor, tme = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[-1.0, 1.0], [1.0, 1.0]])
    _, follower, conflict, _ = coordinate(tumor, tme, tumor_leads=True)
    assert conflict.tolist() == [True, False]
    assert follower.tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_survival_confidence_is_the_likelihood_of_what_was_observed() -> None:
    head = BranchHead(SUBSPACES, 2, 3, 0, 0.0)
    output = ModelOutput({s: torch.randn(4, 2) for s in SUBSPACES}, torch.zeros(4, 3))
    bins, event = torch.tensor([0, 1, 2, 1]), torch.tensor([True, False, True, False])
    target = SurvivalTarget(bins, event, torch.zeros(4), torch.tensor([True, True, True, False]))
    alone = head.branch_logits([output[s] for s in SUBSPACES])
    for ours, logits in zip(branch_confidence(head, output, target).tolist(), alone, strict=True):
        hazards = torch.sigmoid(logits.detach().double()).tolist()
        slow = [
            torch.tensor(oracles.discrete_time_log_likelihood(hazards[i], int(bins[i]), bool(event[i]))).exp()
            for i in range(3)
        ]
        assert ours == pytest.approx(float(sum(slow) / 3), abs=1e-6)


def test_class_confidence_is_the_probability_of_the_true_class() -> None:
    head = BranchHead(SUBSPACES, 2, 3, 0, 0.0)
    output = ModelOutput({s: torch.randn(4, 2) for s in SUBSPACES}, torch.zeros(4, 3))
    label = torch.tensor([0, 1, 2, 1])
    tumor, _ = branch_confidence(head, output, ClassTarget(label, torch.ones(4, dtype=torch.bool))).tolist()
    alone = torch.softmax(head.branch_logits([output[s] for s in SUBSPACES])[0].detach(), -1)
    assert tumor == pytest.approx(float(alone.gather(1, label[:, None]).mean()), abs=1e-6)


def make() -> Teacher:
    return Teacher(DIMS, config.Model(width=16, heads=2, n_queries=3, gene_width=8), config.Teacher()).eval()


def gradients(model: Teacher, coordinated: bool, **options: object) -> tuple[dict[str, torch.Tensor], int]:
    model.zero_grad(set_to_none=True)
    data = batch([(12, 4), (9, 3), (10, 3)])
    output = model(data)
    loss = task_loss(output.logits, data.target)
    conflicts = 0
    if coordinated:
        result = coordinated_backward(loss, output, model.head, list(model.parameters()), data.target, **options)
        conflicts = int(result.conflicts)
    else:
        loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, conflicts


def test_without_conflict_the_gradient_is_the_plain_one() -> None:
    def no_conflict(dot: torch.Tensor, size: torch.Tensor, leads: object) -> tuple[torch.Tensor, ...]:
        return dot * 0, dot * 0, torch.zeros(len(dot), dtype=torch.bool), dot * 0

    model = make()
    plain, _ = gradients(model, coordinated=False)
    ours, _ = gradients(model, coordinated=True, project=no_conflict)
    assert plain.keys() == ours.keys()
    for name in plain:
        torch.testing.assert_close(plain[name], ours[name], atol=1e-6, rtol=1e-4)


def test_conflicts_reach_trunk_branches_and_head() -> None:
    model = make()
    plain, _ = gradients(model, coordinated=False)
    ours, conflicts = gradients(model, coordinated=True)
    assert conflicts > 0
    changed = {name.split(".")[0] for name in plain if not torch.allclose(plain[name], ours[name], atol=1e-7)}
    assert "attend" in changed
    assert "fuse" in changed


@pytest.mark.parametrize("tumor_leads", [True, False])
def test_coordinating_all_tensors_at_once_is_doing_it_one_by_one(tumor_leads: bool) -> None:
    """The slow twin asks autograd for each subspace's gradient of each parameter and projects in plain Python."""
    model, data = make(), batch([(12, 4), (9, 3), (10, 3)])
    confidence = torch.tensor([0.6, 0.4] if tumor_leads else [0.4, 0.6])
    ours, conflicts = gradients(model, coordinated=True, confidence=confidence)
    output = model(data)
    embeddings = [output[s] for s in SUBSPACES]
    at = torch.autograd.grad(task_loss(output.logits, data.target), embeddings, retain_graph=True)
    trunk = {name: p for name, p in model.named_parameters() if not name.startswith("head.") and name in ours}
    resolved_tensors = 0
    for name, parameter in trunk.items():
        sides = [
            torch.autograd.grad(embedding, parameter, g, retain_graph=True, allow_unused=True)[0]
            for embedding, g in zip(embeddings, at, strict=True)
        ]
        if None in [None if side is None else 0 for side in sides]:
            continue
        tumor, tme = (side.double().flatten().tolist() for side in sides)
        leader, follower = (tumor, tme) if tumor_leads else (tme, tumor)
        resolved = oracles.project_if_conflicting(follower, leader)
        resolved_tensors += resolved != follower
        wanted = torch.tensor([a + b for a, b in zip(leader, resolved, strict=True)], dtype=torch.float32)
        torch.testing.assert_close(ours[name].flatten(), wanted, atol=1e-6, rtol=1e-5)
    assert 0 < resolved_tensors <= conflicts


def test_the_maps_of_the_head_are_coordinated_row_by_row() -> None:
    """Opposite embeddings give every row opposite gradients: the less confident map's rows have nothing left."""
    head = BranchHead(SUBSPACES, 3, 2, 0, 0.0)
    source = torch.randn(5, 3, requires_grad=True)
    tumor, tme = source * 1, source * -1
    target = ClassTarget(torch.tensor([0, 1, 0, 1, 1]), torch.ones(5, dtype=torch.bool))
    output = ModelOutput({"tumor": tumor, "tme": tme}, head([tumor, tme], torch.zeros(5, 0)))
    confidence = branch_confidence(head, output, target)
    coordinated_backward(task_loss(output.logits, target), output, head, list(head.parameters()), target)
    leader, follower = head.weights if confidence[0] >= confidence[1] else head.weights[::-1]
    assert follower.grad.abs().max() < 1e-6
    assert leader.grad.abs().max() > 1e-3


def test_agreeing_subspaces_train_as_if_there_were_no_coordination() -> None:
    """Both maps of the head read the same embedding: the gradients agree, so nothing may change."""
    head = BranchHead(SUBSPACES, 3, 2, 0, 0.0)
    with torch.no_grad():
        head.weights[1].copy_(head.weights[0])
    trunk = torch.nn.Linear(3, 3)
    x, target = torch.randn(5, 3), ClassTarget(torch.tensor([0, 1, 0, 1, 1]), torch.ones(5, dtype=torch.bool))

    def run(coordinated: bool) -> list[torch.Tensor]:
        both = torch.nn.ModuleList([trunk, head])
        both.zero_grad(set_to_none=True)
        token = trunk(x)
        tumor, tme = token.clone(), token.clone()
        output = ModelOutput({"tumor": tumor, "tme": tme}, head([tumor, tme], torch.zeros(5, 0)))
        loss = task_loss(output.logits, target)
        if coordinated:
            coordinated_backward(loss, output, head, list(both.parameters()), target)
        else:
            loss.backward()
        return [p.grad.clone() for p in both.parameters()]

    for plain, ours in zip(run(False), run(True), strict=True):
        torch.testing.assert_close(plain, ours)
