"""The first sentences of the page: a difference is one only if it outlives the correction, and like is held to like."""

import pytest

from dml.report.conclusions import cards, verdict
from dml.report.contents import Contents
from dml.report.context import About


def at(value):
    return {"value": value, "ci_low": value - 0.05, "ci_high": value + 0.05, "folds": [value]}


def gap(difference, half, p_holm):
    ends = {"ci_low": difference - half, "ci_high": difference + half}
    return {"c_index": {"difference": difference, **ends, "p": 0.04, "p_holm": p_holm, "patients": 90}}


@pytest.fixture
def contents():
    values = {"teacher": 0.84, "student": 0.80, "student_undistilled": 0.79, "teacher-clinical": 0.86,
              "linear_slide_genes": 0.82, "linear_slide": 0.79, "abmil": 0.81, "mcat": 0.83,
              "mcat-clinical": 0.87}  # fmt: skip
    metrics = {name: {"c_index": at(value), "ibs": at(0.1), "ibs_null": at(0.2)} for name, value in values.items()}
    compared = {
        "teacher": {"linear_slide_genes": gap(0.02, 0.01, 0.14), "mcat": gap(0.01, 0.02, 1.0)},
        "student": {"student_undistilled": gap(0.01, 0.02, 1.0), "mcat": gap(-0.03, 0.01, 0.01),
                    "linear_slide": gap(0.01, 0.005, 0.01), "abmil": gap(-0.01, 0.005, 0.01)},
        "teacher-clinical": {"mcat-clinical": gap(-0.01, 0.02, 1.0)},
    }  # fmt: skip
    return Contents(About("x"), "survival", "survival", metrics, compared, {}, (), (), ())


def test_each_is_held_to_the_strongest_of_its_like(contents):
    said = verdict(contents, "c_index")
    assert len(said) == 5
    assert "The teacher: Harrell C not distinguishable from that of MCAT-style, the highest of the base" in said[0]
    assert "The student: Harrell C lower than that of ABMIL, the highest of those that see the slide" in said[3]
    assert "The teacher + age + sex: Harrell C not distinguishable from that of MCAT-style + age + sex" in said[4]


def test_an_interval_that_leaves_zero_is_no_difference_before_the_correction(contents):
    said = verdict(contents, "c_index")
    assert "higher than that of linear: slide + genes, which sees the same" in said[1]
    assert said[1].endswith("0.140 corrected; with the correction for all its comparisons that is no evidence of a "
                            "difference.")  # fmt: skip
    assert said[3].endswith("0.010 corrected.")


def test_a_main_number_stands_beside_that_of_no_model(contents):
    shown = cards(contents, "c_index")
    assert [card["without"] for card in shown[:2]] == ["chance: 0.5", "Kaplan-Meier: 0.200; lower is better"]
