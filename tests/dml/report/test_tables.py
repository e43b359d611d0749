from dml.evaluation.metrics.registry import metric_label
from dml.report.tables import (
    Table,
    ablation_table,
    calibration_table,
    clinical_table,
    comparison_table,
    fold_table,
    further_table,
    main_table,
    subgroup_table,
)


def entry(value, folds=(0.5, None)):
    return {"value": value, "ci_low": value - 0.1, "ci_high": value + 0.1, "folds": list(folds)}


METRICS = {
    "teacher": {"c_index": entry(0.8), "auc_3y": entry(0.82), "c_index_lower_grade": entry(0.7)},
    "null": {"c_index": entry(0.5), "ibs": entry(0.2)},
}


def test_metrics_have_labels():
    assert metric_label("c_index") == "Harrell C"
    assert metric_label("auc_0.5y") == "AUC at 0.5 y"
    assert metric_label("oe_3y") == "Observed/expected at 3 y"
    assert metric_label("recall_G2") == "Recall G2"
    assert metric_label("auc_Oligo") == "AUC Oligo"


def test_main_table_has_a_row_a_model_and_a_hyphen_where_nothing_is_known():
    table = main_table(METRICS, "survival")
    assert table.columns == ("model", "Harrell C", "Integrated Brier")
    assert table.rows[0] == ("teacher", "0.800 (0.700 to 0.900)", "-")
    assert table.markdown().splitlines()[:2] == ["| model | Harrell C | Integrated Brier |", "| --- | --- | --- |"]


def test_subgroups_have_their_own_table():
    assert further_table(METRICS, "survival", ["lower_grade"]).columns == ("model", "AUC at 3 y")
    extended = {"teacher": METRICS["teacher"] | {"oe_3y": entry(1.1), "oe_3y_lower_grade": entry(1.2)}}
    assert further_table(extended, "survival", ["lower_grade"]).columns == ("model", "AUC at 3 y")
    assert calibration_table(extended, "survival", ["lower_grade"]).columns == ("model", "Observed/expected at 3 y")
    table = subgroup_table(METRICS, "c_index", ["lower_grade", "absent"])
    assert table.columns == ("model", "all", "lower grade")
    assert table.rows[1][2] == "-"


def test_a_bar_in_a_cell_does_not_end_it_in_markdown():
    assert Table(("group",), (("a|b",),)).markdown().splitlines()[2] == r"| a\|b |"


def test_folds_and_comparisons():
    assert fold_table(METRICS, "c_index").rows[0] == ("teacher", "0.500", "-")
    result = {"difference": 0.05, "ci_low": -0.01, "ci_high": 0.11, "p": 0.08, "p_holm": 0.16, "patients": 9}
    row = comparison_table({"teacher": {"null": {"c_index": result}}}).rows[0]
    assert row == ("teacher", "no predictors", "Harrell C", "+0.050 (-0.010 to +0.110)", "0.080", "0.160")


def test_rows_of_an_ablation_have_their_difference_and_the_full_models_none():
    row = {"metric": "c_index", "subgroup": "", "ci_low": 0.7, "ci_high": 0.9}
    change = {"difference": -0.03, "difference_low": -0.05, "difference_high": -0.01, "p": 0.01, "p_holm": 1.0}
    full, variant = row | {"variant": "teacher", "value": 0.8}, row | {"variant": "no offset", "value": 0.77} | change
    content = {"rows": [full, variant, variant | {"subgroup": "lower_grade"}]}
    table = ablation_table(content)
    assert table.columns[:3] == ("model", "Harrell C", "difference to full model")
    assert table.rows[0][2:] == ("", "", "")
    assert table.rows[1][2:] == ("-0.030 (-0.050 to -0.010)", "0.010", "1.000")
    assert len(ablation_table(content, "lower_grade").rows) == 1
    assert ablation_table(content, "absent").rows == ()


def test_what_clinical_inputs_are_worth_and_nothing_without() -> None:
    value = {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}
    gap = {"difference": -0.02, "ci_low": -0.04, "ci_high": 0.0, "p": 0.04}
    found = {
        "curve": [{"share": 0.5, **value, "difference": gap}],
        "without": {"grade": {**value, "known": 0.8, "difference": gap}},
    }
    table = clinical_table({"metric": "c_index", "missing_clinical": found})
    assert [row[:2] for row in table.rows] == [("50% of all inputs", ""), ("grade", "80%")]
    assert all("0.7" in str(row[2]) and "0.020 (" in str(row[3]) for row in table.rows)
    assert not clinical_table({"metric": "c_index", "missing_clinical": None}).rows
    assert not clinical_table({"metric": "c_index"}).rows, "probes of before"
