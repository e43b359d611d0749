"""A difference is one only if it survives the correction, and each model is compared with those of equal inputs."""

import pytest

from dml.report.conclusions import headline_numbers, key_comparisons, miscalibration, subgroups_at_chance
from dml.report.context import ReportContext, ReportData
from dml.report.render import Sentences


def at(value, half=0.05):
    return {"value": value, "ci_low": value - half, "ci_high": value + half, "folds": [value]}


def gap(difference, half, p_holm):
    ends = {"ci_low": difference - half, "ci_high": difference + half}
    return {"c_index": {"difference": difference, **ends, "p": 0.04, "p_holm": p_holm, "patients": 90}}


def report(kind, metrics, compared=None, groups=()):
    details = {"subgroups": {"groups": list(groups)}}
    return ReportData(ReportContext("x"), "t", kind, metrics, compared or {}, details, subgroups=("lower_grade",))


@pytest.fixture
def data():
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
    return report("survival", metrics, compared)


def test_each_is_compared_with_the_strongest_reference_of_equal_inputs(data):
    assert [(c.model, c.reference) for c in key_comparisons(data)] == [
        ("teacher", "mcat"), ("teacher", "linear_slide_genes"), ("student", "student_undistilled"),
        ("student", "abmil"), ("teacher-clinical", "mcat-clinical"),
    ]  # fmt: skip


def test_an_interval_that_leaves_zero_is_no_evidence_before_the_correction(data):
    comparisons = key_comparisons(data)
    assert [c.leaves_zero for c in comparisons] == [False, True, False, True, False]
    assert [c.is_evidence for c in comparisons] == [False, False, False, True, False]
    lines = Sentences(data).conclusions
    assert "not distinguishable from that of MCAT-style" in lines[0]
    assert "no evidence of a difference" in lines[1]
    assert "lower than that of ABMIL" in lines[3]
    assert lines[3].endswith("p = 0.040, 0.010 corrected.")


def test_a_main_number_has_that_of_a_model_that_knows_nothing(data):
    first, second = headline_numbers(data)[:2]
    assert (first["metric"].name, first["chance"], first["null"]) == ("c_index", 0.5, None)
    assert (second["metric"].name, second["chance"], second["null"]["value"]) == ("ibs", None, 0.2)


def test_too_many_and_too_few_deaths_are_listed_by_year():
    ratios = {"oe_10y": at(1.4), "oe_2y": at(1.3), "oe_1y": at(0.7), "oe_3y": at(1.02), "oe_1y_lower_grade": at(0.2)}
    data = report("survival", {"teacher": ratios, "student": {"oe_1y": at(1.0)}, "mcat": ratios})
    assert miscalibration(data) == [{"model": "teacher", "many": [(1.0, 0.7)], "few": [(2.0, 1.3), (10.0, 1.4)]}]
    (line,) = Sentences(data).conclusions
    assert "too many deaths at 1 y (0.70) and too few deaths at 2 y (1.30), 10 y (1.40)" in line


def test_classes_predicted_too_often_are_listed():
    metrics = {"student": {"oe_G2": at(0.8), "oe_G3": at(1.01), "oe_G4": at(1.2), "auc": at(0.9)}}
    data = report("classification", metrics)
    assert miscalibration(data) == [{"model": "student", "many": [("G2", 0.8)], "few": [("G4", 1.2)]}]
    assert "too many patients as G2 (0.80)" in Sentences(data).conclusions[0]


def test_groups_whose_interval_contains_chance_are_listed():
    groups = [
        {"column": "sex", "value": "female", "models": {"teacher": at(0.8), "student": at(0.56)}},
        {"column": "grade", "value": "G4", "models": {"teacher": at(0.53), "student": at(0.52)}},
        {"column": "grade", "value": "G3", "models": {"student": at(0.51)}},
        {"column": "site", "value": "06", "models": {"student": at(0.7)}},
        {"column": "site", "value": "DU", "models": {"student": at(0.5)}},
    ]
    data = report("survival", {"teacher": {}, "student": {}}, groups=groups)
    assert subgroups_at_chance(data) == [
        {"model": "teacher", "groups": {"grade": ["G4"]}},
        {"model": "student", "groups": {"grade": ["G4", "G3"], "site": ["DU"]}},
    ]
    assert "grade: G4, G3; site: DU" in Sentences(data).conclusions[1]
