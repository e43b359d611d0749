"""The scale of a predicted number, and numbers that cannot be learned."""

import numpy as np
import pytest

from dml.core.errors import InputError
from dml.data.example_cohort import example_cohort
from dml.data.preprocessing import Preprocessor
from dml.data.target_scale import TargetScale
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
