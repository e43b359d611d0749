"""What a reader is told of each model, and what it is called."""

import pytest

from dml.evaluation.results import sort_models
from dml.models import registry
from dml.report.names import SLIDE_ONLY, described, named


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("teacher", "Sees slide and transcriptome"),
        ("linear_genes", "Penalised regression on the transcriptome"),
        ("linear_slide_clinical", "Penalised regression on the mean of the slide's tile features, age and sex"),
        ("unheard_of", "unheard_of"),
    ],
)
def test_models_are_described_by_what_they_see(model: str, said: str) -> None:
    assert described(model) == said


@pytest.mark.parametrize(
    ("model", "called"),
    [
        ("teacher", "teacher"),
        ("teacher-clinical", "teacher + age + sex"),
        ("student_undistilled-clinical", "student, undistilled + age + sex"),
        ("teacher-recalibrated", "teacher, recalibrated"),
        ("linear_clinical", "linear: age + sex"),
        ("linear_slide_genes_clinical", "linear: slide + genes + age + sex"),
        ("abmil-clinical", "ABMIL + age + sex"),
    ],
)
def test_models_have_names_for_readers(model: str, called: str) -> None:
    assert named(model) == called


def test_every_baseline_has_a_name_and_a_line() -> None:
    every = [name for name in registry.entries() if registry.is_baseline(name)]
    assert [name for name in every if name in (named(name), described(name))] == []
    assert len({named(name) for name in every}) == len(every)
    assert set(SLIDE_ONLY) < set(every)


def test_models_that_know_age_and_sex_come_after_those_that_do_not() -> None:
    names = ["abmil", "abmil-clinical", "linear_clinical", "student", "student-clinical", "teacher",
             "teacher-recalibrated"]  # fmt: skip
    assert sort_models(names) == ["teacher", "student", "abmil", "teacher-recalibrated", "student-clinical",
                              "abmil-clinical", "linear_clinical"]  # fmt: skip
