"""The table of similar patients in the report: a row a model that has them."""

from dml.report.tables import neighbours_table


def test_a_model_without_neighbours_has_no_row() -> None:
    value = {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}
    content = {
        "k": 30,
        "teacher": {
            "prediction": value,
            "difference": {"difference": -0.1, "ci_low": -0.2, "ci_high": -0.05, "p": 0.01},
            "same_site": {"share": value, "chance": {"value": 0.1, "ci_low": 0.05, "ci_high": 0.15}},
            "survival": {"coverage": {"share": 0.925}},
        },
        "student": {"left_out": "a test patient lacks what the model requires"},
    }
    (row,) = neighbours_table(content).rows
    assert row[0] == "teacher"
    assert row[3] in ("92%", "93%")
    assert "expected 0.10" in row[4]
