"""Self-distillation: off by default, damaged views that are damaged, and a teacher that bears damage better."""

from dataclasses import replace

import pytest
import torch

from dml.core.types import SUBSPACES
from dml.data.batches import make_batches
from dml.models.nn.degraded_view import MOST_TILES, degrade
from dml.models.teacher import Teacher
from dml.training.loss_terms.registry import LossInputs
from dml.training.loss_terms.self_distillation import self_distillation
from dml.training.train import distill_student, train_teacher
from tests.synthetic import DIMS, PARAMS, batch, change, cohort, fold

ON = change(PARAMS, teacher={"loss_weights": {"self_distillation": 1.0}})


def teacher(params=ON) -> Teacher:
    torch.manual_seed(0)
    return Teacher(DIMS, params.model, params.teacher)


def test_off_by_default_nothing_changes() -> None:
    data = batch([(8, 3), (5, 2)])
    torch.manual_seed(1)
    plain = teacher(PARAMS).train()(data)
    assert plain.degraded is None
    assert self_distillation(LossInputs(data, plain, PARAMS, "survival")) is None
    assert teacher().eval()(data).degraded is None, "a prediction has one view"
    assert teacher().train()(data).degraded is not None


def test_the_damaged_view_loses_tiles_and_transcriptomes_but_never_the_last_tile() -> None:
    torch.manual_seed(0)
    data = batch([(200, 50)] * 40 + [(1, 1), (0, 1)])
    damaged = degrade(data)
    for level, after in zip(data.levels, damaged.levels, strict=True):
        assert (after.mask <= level.mask).all()
        assert (after.mask.any(1) == level.mask.any(1)).all()
    share = damaged.levels[0].mask[:40].float().mean(1)
    assert share.min() < 0.25
    assert share.max() > 0.9
    assert share.mean() == pytest.approx(1 - MOST_TILES / 2, abs=0.1)
    assert 0.25 < damaged.expression.present.float().mean() < 0.75
    assert not torch.equal(damaged.expression.tumor, data.expression.tumor)
    assert (data.levels[0].mask.sum(1)[:40] == 200).all(), "the whole view stays"


def test_a_hidden_transcriptome_has_the_offset_of_a_model_without_genes() -> None:
    torch.manual_seed(0)
    data = replace(batch([(4, 2)] * 30), offset=torch.ones(30, 1), offset_without_genes=torch.zeros(30, 1))
    damaged = degrade(data)
    torch.testing.assert_close(damaged.offset[:, 0], damaged.expression.present.float())


def test_the_whole_view_learns_nothing_from_the_damaged_one() -> None:
    data, model = batch([(8, 3), (5, 2)]), teacher().train()
    whole = model(data)
    output = replace(whole, logits=whole.logits.detach().requires_grad_(), degraded=whole.degraded)
    self_distillation(LossInputs(data, output, ON, "survival")).backward()
    assert output.logits.grad is None
    assert whole.degraded.logits.grad_fn is not None


def test_equal_views_have_only_the_loss_of_the_task() -> None:
    from dml.training.losses import task_loss

    data = batch([(8, 3), (5, 2)])
    whole = teacher(PARAMS).eval()(data)
    value = self_distillation(LossInputs(data, replace(whole, degraded=whole), ON, "survival"))
    torch.testing.assert_close(value, task_loss(whole.logits, data.target), atol=1e-5, rtol=1e-5)


def test_it_is_in_the_history_and_a_student_is_distilled_from_it() -> None:
    quick = change(ON, optimisation={"epochs": 1})
    trained = train_teacher(fold(cohort(20)), quick, "grade")
    assert (trained.history["train_self_distillation"] > 0).all()
    plain = train_teacher(fold(cohort(20)), change(PARAMS, optimisation={"epochs": 1}), "grade")
    assert "train_self_distillation" not in plain.history
    student = distill_student(fold(cohort(20)), quick, "grade", trained.model).model
    assert len(student.predict(cohort(5))) == 5


def test_a_teacher_that_was_trained_with_damage_changes_less_under_damage() -> None:
    """Mean of ten damages, relative to how much the embeddings of patients differ."""
    data, moved = cohort(80), {}
    for name, params in (("on", ON), ("off", PARAMS)):
        longer = change(params, optimisation={"epochs": 30, "patience": 30})
        model = train_teacher(fold(data), longer, "grade").model
        read = model.reader(data)
        (whole,) = make_batches([read(case) for case in data.cases], model.spec.preprocessor, 80)
        torch.manual_seed(3)
        with torch.inference_mode():
            one = model.members[0](whole)
            others = [model.members[0](degrade(whole)) for _ in range(10)]
        moved[name] = sum(
            float((one[s] - other[s]).square().mean() / one[s].var(0).mean()) for s in SUBSPACES for other in others
        )
    assert moved["on"] < 0.8 * moved["off"]
