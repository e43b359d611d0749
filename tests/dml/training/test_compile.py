"""Compiled or not, training is the same."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import numpy as np
from dml.training.train import distill_student, train_teacher
from tests.synthetic import PARAMS, change, cohort, fold, quiet

data = cohort(60)
settings = {"epochs": 2, "ensemble_size": 2, "workers": 2}
plain = change(quiet(PARAMS), optimisation=settings, teacher={"use_gradient_coordination": True})
compiled = change(plain, optimisation={"compile": True})
teachers = [train_teacher(fold(data), params, "survival") for params in (plain, compiled)]
np.testing.assert_allclose(*(t.history for t in teachers), rtol=1e-3, atol=1e-4)
students = [distill_student(fold(data), params, "survival", teachers[0].model) for params in (plain, compiled)]
np.testing.assert_allclose(*(s.history for s in students), rtol=1e-3, atol=1e-4)
"""


@pytest.mark.slow
def test_compiled_teachers_and_students_are_those_that_are_not() -> None:
    """In a process of its own: the compiler cannot trace the checks of shapes that tests add to every call."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
