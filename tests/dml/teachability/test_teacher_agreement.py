"""Agreement with the teacher: of a copy, of noise, and of a planted correlation."""

import numpy as np
import pandas as pd
import pytest

from dml.baselines.linear.regression import make_regression
from dml.config import params as config
from dml.teachability.teacher_agreement import agree_with_teacher

SETTINGS = config.Evaluation(resamples=200, years=(1.0, 2.0))
N = 400


def survival_rows(score: np.ndarray, shift: float = 0.0) -> pd.DataFrame:
    """Predictions whose log cumulative hazard is a score, up to a constant of the fold."""
    fold = np.arange(N) % 4
    hazards = np.exp(score + shift * fold)
    patients = [f"p{i}" for i in range(N)]
    columns = {"survival_365": np.exp(-0.1 * hazards), "survival_730": np.exp(-0.3 * hazards)}
    return pd.DataFrame({"patient_id": patients, "fold": fold, **columns})


def test_a_copy_agrees_noise_does_not_and_a_mixture_as_much_as_it_was_planted() -> None:
    rng = np.random.default_rng(1)
    teacher, noise = 0.5 * rng.normal(size=(2, N))
    models = {
        "teacher": survival_rows(teacher),
        "student": survival_rows(0.6 * teacher + 0.8 * noise, shift=0.3),
        "student_undistilled": survival_rows(noise),
        "linear_slide": survival_rows(teacher, shift=-0.5).sample(frac=1, random_state=0),
    }
    rows = {r["model"]: r for r in agree_with_teacher(models, make_regression("survival", {}, (1.0, 2.0)), SETTINGS, 3)}
    assert set(rows) == set(models) - {"teacher"}
    student = rows["student"]["r"]
    assert student["ci_low"] < 0.6 < student["ci_high"]
    assert student["ci_high"] - student["ci_low"] < 0.2
    assert rows["student"]["nats"]["value"] == pytest.approx(-0.5 * np.log(1 - student["value"] ** 2), abs=1e-3)
    assert abs(rows["student_undistilled"]["r"]["value"]) < 0.15
    assert rows["linear_slide"]["r"]["value"] == pytest.approx(1.0, abs=1e-6)


def test_each_class_but_the_first_has_a_score_and_other_folds_are_not_compared() -> None:
    rng = np.random.default_rng(2)
    patients, fold = [f"p{i}" for i in range(N)], np.arange(N) % 4
    shares = rng.dirichlet([2, 2, 2], size=N)
    teacher = pd.DataFrame(
        {"patient_id": patients, "fold": fold, **{f"p_{c}": shares[:, i] for i, c in enumerate("abc")}}
    )
    models = {"teacher": teacher, "student": teacher, "abmil": teacher.assign(fold=(fold + 1) % 4)}
    rows = agree_with_teacher(models, make_regression("grade", {"grade": ("a", "b", "c")}, (1.0,)), SETTINGS, 3)
    assert [(r["model"], r["score"], r["patients"]) for r in rows] == [("student", "b", N), ("student", "c", N)]
    assert all(r["r"]["value"] == pytest.approx(1.0) for r in rows)
    assert (
        agree_with_teacher(
            {"student": teacher}, make_regression("grade", {"grade": ("a", "b", "c")}, (1.0,)), SETTINGS, 3
        )
        == []
    )
