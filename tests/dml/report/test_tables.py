from dml.report.tables import (
    calibration_table,
    comparison_table,
    fold_table,
    further_table,
    main_table,
    subgroup_table,
    title,
)


def entry(value, folds=(0.5, None)):
    return {"value": value, "ci_low": value - 0.1, "ci_high": value + 0.1, "folds": list(folds)}


METRICS = {
    "teacher": {"c_index": entry(0.8), "auc_3y": entry(0.82), "c_index_lower_grade": entry(0.7)},
    "null": {"c_index": entry(0.5), "ibs": entry(0.2)},
}


def test_titles_are_what_a_reader_says():
    assert title("c_index") == "Harrell C"
    assert title("auc_0.5y") == "AUC at 0.5 y"
    assert title("oe_3y") == "Observed/expected at 3 y"
    assert title("recall_G2") == "Recall G2"
    assert title("auc_Oligo") == "AUC Oligo"


def test_main_table_has_a_row_a_model_and_a_hyphen_where_nothing_is_known():
    table = main_table(METRICS, "survival")
    assert table.columns == ("model", "Harrell C", "Integrated Brier")
    assert table.rows[0] == ("teacher", "0.800 (0.700 to 0.900)", "-")
    assert table.markdown().splitlines()[:2] == ["| model | Harrell C | Integrated Brier |", "| --- | --- | --- |"]


def test_subgroups_have_their_own_table():
    assert further_table(METRICS, "survival", ["lower_grade"]).columns == ("model", "AUC at 3 y")
    extended = {"teacher": METRICS["teacher"] | {"oe_3y": entry(1.1), "oe_3y_lower_grade": entry(1.2)}}
    assert further_table(extended, "survival", ["lower_grade"]).columns == ("model", "AUC at 3 y")
    assert calibration_table(extended, ["lower_grade"]).columns == ("model", "Observed/expected at 3 y")
    table = subgroup_table(METRICS, "c_index", ["lower_grade", "absent"])
    assert table.columns == ("model", "all", "lower grade")
    assert table.rows[1][2] == "-"


def test_folds_and_comparisons():
    assert fold_table(METRICS, "c_index").rows[0] == ("teacher", "0.500", "-")
    found = {"difference": 0.05, "ci_low": -0.01, "ci_high": 0.11, "p": 0.08, "p_holm": 0.16, "patients": 9}
    row = comparison_table({"teacher": {"null": {"c_index": found}}}).rows[0]
    assert row == ("teacher", "no predictors", "Harrell C", "+0.050 (-0.010 to +0.110)", "0.080", "0.160")
