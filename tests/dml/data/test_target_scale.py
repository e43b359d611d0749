"""The scale of a predicted number, and numbers that cannot be learned."""

import numpy as np
import pytest

from dml.core.errors import InputError
from dml.core.tasks import COVERAGE
from dml.data.example_cohort import example_cohort
from dml.data.preprocessing import Preprocessor
from dml.data.target_scale import MIN_PATIENTS, TargetScale
from tests.synthetic import PARAMS, change


def test_it_is_undone(rng) -> None:
    values = rng.normal(1e6, 3.0, 50)
    scale = TargetScale.fit(values, "depth")
    assert scale(values).mean() == pytest.approx(0, abs=1e-6)
    assert scale(values).std() == pytest.approx(1)
    np.testing.assert_allclose(scale.undo(scale(values)), values)
    assert TargetScale.model_validate_json(scale.model_dump_json()) == scale


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "no training patient"),
        ([4.0] * 9, "all 9 .* the number 4"),
        ([1.0, np.nan], "finite"),
        ([1.0, np.inf], "finite"),
    ],
)
def test_numbers_that_cannot_be_learned_are_refused(values, message) -> None:
    with pytest.raises(InputError, match=message):
        TargetScale.fit(np.array(values), "depth")


@pytest.mark.parametrize(("loss", "outputs"), [("quantile", 3), ("gaussian", 2)])
def test_a_head_has_the_outputs_of_its_distribution(loss: str, outputs: int) -> None:
    cohort = example_cohort(30)
    prepared = Preprocessor.fit(cohort, change(PARAMS, optimisation={"regression_loss": loss}), "score")
    numbers = np.array([case.values["score"] for case in cohort.cases])
    assert prepared.dims.outputs == outputs
    assert (prepared.dims.kind, prepared.task.classes) == ("regression", ())
    assert prepared.target_scale.mean == pytest.approx(numbers.mean())
    assert prepared.target_scale.deviation == pytest.approx(numbers.std())
    assert Preprocessor.model_validate_json(prepared.model_dump_json()).target_scale == prepared.target_scale


def test_a_number_is_no_auxiliary_label() -> None:
    params = change(PARAMS, inputs={"auxiliary": ("score",)})
    with pytest.raises(InputError, match=r"inputs\.auxiliary: score is a number"):
        Preprocessor.fit(example_cohort(30), params, "grade")


@pytest.mark.parametrize("factor", [0.3, 1.0, 3.0])
def test_intervals_hold_the_share_they_promise_however_wide_they_were(rng, factor: float) -> None:
    value = rng.normal(size=4000)
    target = value + rng.normal(size=4000)
    predictions = np.stack([value, value - factor, value + factor], axis=1)
    fitted = TargetScale(mean=5.0, deviation=2.0).with_margin(predictions[:2000], target[:2000])
    point, lower, upper = fitted.undo_intervals(predictions[2000:])
    numbers = fitted.undo(target[2000:])
    assert ((numbers >= lower) & (numbers <= upper)).mean() == pytest.approx(COVERAGE, abs=0.03)
    np.testing.assert_allclose(point, fitted.undo(value[2000:]))
    assert (fitted.margin > 0) == (factor < 1.28)


def test_an_interval_that_is_too_wide_never_leaves_its_point(rng) -> None:
    value = rng.normal(size=100)
    predictions = np.stack([value, value - 0.1, value + 9.0], axis=1)
    fitted = TargetScale().with_margin(predictions, value)
    point, lower, upper = fitted.undo_intervals(predictions)
    assert fitted.margin < 0
    assert ((lower <= point) & (point <= upper)).all()


def test_too_few_patients_leave_the_intervals_as_they_are(rng) -> None:
    value = rng.normal(size=MIN_PATIENTS - 1)
    scale = TargetScale().with_margin(np.stack([value, value, value], axis=1), value + 9)
    assert scale == TargetScale()
