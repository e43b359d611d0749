"""What a reader is told of each model, and what it is called."""

import pytest

from dml.baselines.linear.fit import BASELINES
from dml.evaluation.results import ordered
from dml.models import registry
from dml.report.names import SLIDE_ONLY, described, named


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("teacher", "Sees slide and transcriptome"),
        ("baseline_genes", "Penalised regression on the transcriptome"),
        ("baseline_slide_clinical", "Penalised regression on the mean of the slide's tile features, age and sex"),
        ("baseline_unheard_of", "baseline_unheard_of"),
        ("unheard_of", "unheard_of"),
    ],
)
def test_models_are_described_by_what_they_see(model: str, said: str) -> None:
    assert described(model) == said


@pytest.mark.parametrize(
    ("model", "called"),
    [
        ("teacher", "teacher"),
        ("teacher_clinical", "teacher + age + sex"),
        ("student_undistilled_clinical", "student, undistilled + age + sex"),
        ("teacher_recalibrated", "teacher, recalibrated"),
        ("baseline_clinical", "linear: age + sex"),
        ("baseline_both_clinical", "linear: slide + genes + age + sex"),
        ("baseline_abmil_clinical", "ABMIL + age + sex"),
        ("baseline_unheard_of", "baseline_unheard_of"),
    ],
)
def test_models_have_names_for_readers(model: str, called: str) -> None:
    assert named(model) == called


def test_every_baseline_has_a_name_and_a_line() -> None:
    every = [*BASELINES, *(registry.PREFIX + name for name in registry.names())]
    assert [name for name in every if name in (named(name), described(name))] == []
    assert len({named(name) for name in every}) == len(every)
    assert set(SLIDE_ONLY) < set(every)


def test_models_that_know_age_and_sex_come_after_those_that_do_not() -> None:
    names = ["baseline_abmil", "baseline_abmil_clinical", "baseline_clinical", "student", "student_clinical", "teacher",
             "teacher_recalibrated"]  # fmt: skip
    assert ordered(names) == ["teacher", "student", "baseline_abmil", "teacher_recalibrated", "student_clinical",
                              "baseline_abmil_clinical", "baseline_clinical"]  # fmt: skip
