"""What a student is distilled towards: each definition against one written out here, and who may have seen what."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.types import SUBSPACES, Cohort, ModelOutput
from dml.data.batches import make_batches
from dml.training.checkpoint import FoldModel
from dml.training.distillation import DistillationTargets
from dml.training.distillation_targets import member_targets
from dml.training.ensemble_trainer import SharedState, fit_shared
from dml.training.loss_terms.distillation import feature_distillation, mean_over_targets, prediction_distillation
from dml.training.loss_terms.registry import LossInputs
from dml.training.loss_terms.relational import relational_distillation
from dml.training.objectives import TaskObjective
from dml.training.train import distill_student, train_teacher
from tests.synthetic import PARAMS, batch, change, cohort, fold

SMALL = change(
    PARAMS, model={"linear_offset": config.LinearOffset()}, optimisation={"epochs": 1, "ensemble_size": 3, "workers": 2}
)
SHORT = change(SMALL, optimisation={"epochs": 1, "ensemble_size": 1, "workers": 1})
WITHOUT_OUTCOME, GENES_ALONE = "P011", "P016"
"""A patient that is validated and has no outcome; one that has no slide."""


def make_data() -> Cohort:
    data = cohort(120, absent=6)
    changes = {WITHOUT_OUTCOME: {"survival": None}, GENES_ALONE: {"bags": {}}}
    return replace(data, cases=tuple(replace(c, **changes.get(c.patient_id, {})) for c in data.cases))


DATA = make_data()


@pytest.fixture(scope="module")
def teacher() -> FoldModel:
    return train_teacher(fold(DATA), SMALL, "survival").model


@pytest.fixture(scope="module")
def usual(teacher: FoldModel) -> FoldModel:
    return distill_student(fold(DATA), SHORT, "survival", teacher).model


def distillation(**values) -> config.Params:
    return change(SMALL, distillation=values)


def shared(params: config.Params = SMALL) -> SharedState:
    cases = [c for c in fold(DATA).learning.cases if c.has_slide and (c.survival or c.has_expression)]
    return fit_shared("student", fold(DATA), params, "survival", cases)


def targets(teacher: FoldModel, member: int = 0, weights=None, **values) -> dict[str, DistillationTargets]:
    params = distillation(**values)
    return member_targets(teacher, shared(params), member, params.distillation, weights or {})


def answers(teacher: FoldModel, data: Cohort, member: int) -> dict[str, ModelOutput]:
    """What one member says of each learning patient."""
    read = teacher.reader(data, shared().inner_fold_of)
    learning = {case.patient_id for case in fold(DATA).learning.cases}
    patients = [read(case) for case in data.cases if case.patient_id in learning]
    found = {}
    with torch.inference_mode():
        for some in make_batches(patients, teacher.spec.preprocessor, 32):
            output = teacher.members[member](some)
            for i, patient in enumerate(some.patient_ids):
                found[patient] = ModelOutput({s: output[s][i : i + 1] for s in SUBSPACES}, output.logits[i : i + 1])
    return found


def states(model: FoldModel) -> list[torch.Tensor]:
    return [value for member in model.members for value in member.state_dict().values()]


def same(one: FoldModel, other: FoldModel) -> bool:
    return all(torch.equal(a, b) for a, b in zip(states(one), states(other), strict=True))


def test_by_default_they_are_the_matching_members_answer_as_it_is(teacher: FoldModel) -> None:
    state = shared()
    read = teacher.reader(state.cases, state.inner_fold_of)
    expected = teacher.distillation_targets([read(case) for case in state.cases.cases], 1)
    for patient, target in targets(teacher, member=4).items():
        assert torch.equal(target.logits, expected[patient].logits)
        assert all(torch.equal(target.embeddings[s], expected[patient].embeddings[s]) for s in SUBSPACES)
        assert bool(target.has_target) == bool(expected[patient].has_target)
        assert target.reference is None
        assert target.weight is None


def test_of_genes_alone_they_are_the_answer_without_slide(teacher: FoldModel) -> None:
    without = replace(DATA, cases=tuple(replace(case, bags={}) for case in DATA.cases))
    expected, fused = answers(teacher, without, 0), targets(teacher)
    found = targets(teacher, targets="genes")
    assert found.keys() == fused.keys()
    for patient, target in found.items():
        torch.testing.assert_close(target.logits, expected[patient].logits)
        torch.testing.assert_close(target.embeddings["tme"], expected[patient]["tme"])
        assert bool(target.has_target) == bool(fused[patient].has_target)
    taught = [patient for patient, target in fused.items() if target.has_target]
    assert all(not torch.allclose(found[patient].logits, fused[patient].logits) for patient in taught)


def test_cross_fitted_ones_are_of_the_member_that_held_the_patient_out(teacher: FoldModel) -> None:
    inner = dict(fold(DATA).inner_fold_of)
    each = [answers(teacher, DATA, member) for member in range(3)]
    own = targets(teacher, member=1)
    found = targets(teacher, member=1, teacher_members="mean")
    for patient, target in found.items():
        seen = range(3) if patient == WITHOUT_OUTCOME else [inner[patient]]
        torch.testing.assert_close(target.logits, torch.stack([each[m][patient].logits for m in seen]).mean(0))
        assert all(torch.equal(target.embeddings[s], own[patient].embeddings[s]) for s in SUBSPACES)


def test_who_was_in_every_training_has_no_cross_fitted_target(teacher: FoldModel) -> None:
    never = "P012"
    state = shared()
    inner = {patient: number for patient, number in state.fold.inner_fold_of.items() if patient != never}
    params = distillation(teacher_members="mean")
    found = member_targets(
        teacher, replace(state, fold=replace(state.fold, inner_fold_of=inner)), 0, params.distillation, {}
    )
    assert not found[never].has_target
    assert found["P013"].has_target
    for fewer in (FoldModel(teacher.spec, teacher.members[:2]), FoldModel(teacher.spec, teacher.members[:1])):
        with pytest.raises(ConfigError, match=r"distillation\.targets and teacher_members: . teacher members and 3"):
            targets(fewer, targets="residual")


def test_a_residual_is_what_the_slides_linear_model_of_other_inner_folds_leaves(teacher: FoldModel) -> None:
    state, inner = shared(), fold(DATA).inner_fold_of
    assert state.reference is not None
    models, slope = state.reference.offset.models["slide"], state.reference.offset.slopes["slide"]
    each = [answers(teacher, DATA, member) for member in range(3)]
    found = targets(teacher, targets="residual")
    for case in state.cases.cases:
        patient = case.patient_id
        if patient == WITHOUT_OUTCOME:
            continue
        means = [case.bags[mpp].tokens.double().mean(0).numpy() for mpp in sorted(case.bags)]
        linear = slope * models[inner[patient]]({"slide": np.concatenate(means)[None]})
        expected = each[inner[patient]][patient].logits - torch.from_numpy(linear)
        torch.testing.assert_close(found[patient].logits, expected.float(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[patient].reference, torch.from_numpy(linear).float().expand(1, 4))
        assert not found[patient].embeddings
    assert any(target.reference.abs().max() > 0.01 for target in found.values())


def test_a_network_is_judged_on_top_of_the_linear_model_and_best_at_the_residual() -> None:
    data, z, reference = batch([(3, 2)] * 5), torch.randn(5, 4), torch.randn(5, 1).expand(5, 4)
    lesson = DistillationTargets({}, z, torch.ones(5, dtype=torch.bool), reference)

    def loss(head: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
        logits = head if offset is None else head + offset
        output = ModelOutput({s: torch.zeros(5, 2) for s in SUBSPACES}, logits)
        found = LossInputs(replace(data, offset=offset), output, PARAMS, "survival", lesson, "survival")
        assert feature_distillation(found) is None
        assert relational_distillation(found) is None
        return prediction_distillation(found)

    head = torch.randn(5, 4)
    p, q = Bernoulli(logits=(z + reference) / 2), Bernoulli(logits=(head + reference) / 2)
    torch.testing.assert_close(loss(head), 4 * kl_divergence(p, q).mean())
    torch.testing.assert_close(loss(head, reference[:, :1]), loss(head), msg="the offset of training counts once")
    best = z.clone().requires_grad_()
    loss(best).backward()
    assert best.grad.abs().max() < 1e-6


def test_without_a_linear_model_all_of_the_answer_is_left(teacher: FoldModel) -> None:
    params = change(distillation(targets="residual"), model={"linear_offset": config.LinearOffset(components=0)})
    found = member_targets(teacher, shared(params), 0, params.distillation, {})
    cross_fitted = targets(teacher, teacher_members="mean")
    assert all(torch.equal(target.logits, cross_fitted[patient].logits) for patient, target in found.items())


def test_weights_multiply_the_terms_of_their_patients(teacher: FoldModel) -> None:
    found = targets(teacher, weights={"P012": 3.0})
    assert [float(found[patient].weight) for patient in ("P012", "P013")] == [3.0, 1.0]
    some = DistillationTargets.stack([found["P012"], found["P013"], found["P000"]])
    assert float(mean_over_targets(torch.tensor([1.0, 10.0, 100.0]), some)) == (3 * 1 + 10) / 2


def test_a_temperature_for_each_task() -> None:
    params = distillation(temperature={"survival": 5.0}, feature_weight=0.0)
    data, z, head = batch([(3, 2)] * 5), torch.randn(5, 4), torch.randn(5, 4)
    lesson = {p: DistillationTargets({}, z[i : i + 1], torch.ones(1).bool()) for i, p in enumerate(data.patient_ids)}
    preprocessor = shared().spec.preprocessor
    output = ModelOutput({}, head)
    for found, expected in ((params, 5.0), (distillation(temperature={"grade": 5.0}), 2.0), (SMALL, 2.0)):
        term = TaskObjective(preprocessor, found, "student", lesson)(data, output).terms["prediction_distillation"]
        divergence = kl_divergence(Bernoulli(logits=z / expected), Bernoulli(logits=head / expected)).mean()
        torch.testing.assert_close(term, expected**2 * divergence)


@pytest.mark.parametrize(
    "values",
    [
        {"targets": "genes"},
        {"targets": "residual"},
        {"teacher_members": "mean"},
        {"patient_weights": "predictability"},
        {"temperature": {"survival": 4.0}},
    ],
    ids=str,
)
def test_each_changes_the_student(teacher: FoldModel, usual: FoldModel, values) -> None:
    changed = distill_student(fold(DATA), change(SHORT, distillation=values), "survival", teacher)
    assert not same(changed.model, usual)
    assert changed.history["train_prediction_distillation"].gt(0).all()
    assert ("train_feature_distillation" in changed.history) == (values.get("targets") != "residual")


def test_off_is_off_to_the_bit(teacher: FoldModel, usual: FoldModel) -> None:
    off = {"targets": "fused", "teacher_members": "matched", "patient_weights": "none"}
    params = change(SHORT, distillation={**off, "temperature": {"survival": 2.0}})
    assert same(distill_student(fold(DATA), params, "survival", teacher).model, usual)
    on = {"targets": "residual", "patient_weights": "predictability", "temperature": {"survival": 4.0}}
    alone = [distill_student(fold(DATA), p, "survival", None).model for p in (SHORT, change(SHORT, distillation=on))]
    assert same(*alone), "the undistilled student has no teacher"
