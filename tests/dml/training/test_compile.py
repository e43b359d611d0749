"""Compiled or not, training is the same."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import numpy as np
from dml.training.train import distil, teach
from tests.dml.training.test_folds import changed, fold, quiet
from tests.synthetic import cohort

data = cohort(60)
plain, compiled = (quiet(changed(1, compile=on, members=2, workers=2)) for on in (False, True))
coordinated = {"teacher": plain.teacher.model_copy(update={"use_gradient_coordination": True})}
plain, compiled = (params.model_copy(update=coordinated) for params in (plain, compiled))
teachers = [teach(fold(data), params, "survival") for params in (plain, compiled)]
np.testing.assert_allclose(*(t.history for t in teachers), rtol=1e-3, atol=1e-4)
students = [distil(fold(data), params, "survival", teachers[0].model) for params in (plain, compiled)]
np.testing.assert_allclose(*(s.history for s in students), rtol=1e-3, atol=1e-4)
"""


@pytest.mark.slow
def test_compiled_teachers_and_students_are_those_that_are_not() -> None:
    """In a process of its own: the compiler cannot trace the checks of shapes that tests add to every call."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
