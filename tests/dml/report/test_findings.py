"""The page says where the level of teacher and student is off, and in whom they are not shown to work."""

from dml.report.contents import Contents
from dml.report.context import About
from dml.report.findings import findings


def at(value, half=0.05):
    return {"value": value, "ci_low": value - half, "ci_high": value + half, "folds": [value]}


def contents(kind, metrics, groups=()):
    details = {"subgroups": {"groups": list(groups)}}
    return Contents(About("x"), "t", kind, metrics, {}, details, (), ("lower_grade",), ())


def test_too_many_deaths_and_too_few_are_named_by_year_in_order():
    levels = {"oe_10y": at(1.4), "oe_2y": at(1.3), "oe_1y": at(0.7), "oe_3y": at(1.02), "oe_1y_lower_grade": at(0.2)}
    said = findings(contents("survival", {"teacher": levels, "student": {"oe_1y": at(1.0)}, "mcat": levels}))
    assert said == [
        "The teacher predicts too many deaths at 1 y (0.70) and too few deaths at 2 y (1.30), 10 y (1.40) "
        "(observed/expected)."
    ]


def test_classes_are_named():
    metrics = {"student": {"oe_G2": at(0.8), "oe_G3": at(1.01), "oe_G4": at(1.2), "auc": at(0.9)}}
    assert findings(contents("classification", metrics)) == [
        "The student predicts too many patients as G2 (0.80) and too few patients as G4 (1.20) (observed/expected)."
    ]


def test_groups_in_whom_a_model_may_be_guessing_are_named():
    groups = [
        {"column": "sex", "value": "female", "models": {"teacher": at(0.8), "student": at(0.56)}},
        {"column": "grade", "value": "G4", "models": {"teacher": at(0.53), "student": at(0.52)}},
        {"column": "grade", "value": "G3", "models": {"student": at(0.51)}},
        {"column": "site", "value": "06", "models": {"student": at(0.7)}},
        {"column": "site", "value": "DU", "models": {"student": at(0.5)}},
    ]
    assert findings(contents("survival", {"teacher": {}, "student": {}}, groups)) == [
        "The teacher is not shown to be better than chance in grade: G4.",
        "The student is not shown to be better than chance in grade: G4, G3; site: DU.",
    ]
