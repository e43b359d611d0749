import pytest

from dml.core.errors import InputError
from dml.core.predictions import read_predictions, write_predictions
from dml.evaluation.results import assign_risk_groups, read_results, sort_models


def test_only_test_rows_are_judged_and_each_patient_once(tmp_path, invented):
    results = read_results(invented.write(tmp_path, "survival"))
    assert list(results.models) == ["teacher", "student", "student_undistilled", "null", "linear_slide"]
    for model in results.models.values():
        assert sorted(model.rows["patient_id"]) == sorted(invented.patients["patient_id"])
        assert set(model.rows["role"]) == {"test"}


def test_a_patient_tested_in_two_folds_is_refused(tmp_path, invented):
    invented.write(tmp_path, "survival")
    path = tmp_path / "student" / "fold-1" / "predictions.parquet"
    rows, metadata = read_predictions(path)
    other = read_predictions(tmp_path / "student" / "fold-0" / "predictions.parquet")[0]
    twice = other.loc[other["role"] == "test", "patient_id"].iloc[0]
    rows.loc[rows["role"] == "test", "patient_id"] = [twice, *rows.loc[rows["role"] == "test", "patient_id"][1:]]
    rows = rows.drop_duplicates("patient_id", keep="last")
    write_predictions(path, rows, metadata)
    with pytest.raises(InputError, match=f"student: patients tested more than once: {twice}"):
        read_results(tmp_path)


def test_models_that_disagree_on_the_truth_are_refused(tmp_path, invented):
    invented.write(tmp_path, "survival")
    path = tmp_path / "student" / "fold-1" / "predictions.parquet"
    rows, metadata = read_predictions(path)
    write_predictions(path, rows.assign(days=rows["days"] + 1), metadata)
    with pytest.raises(InputError, match="fold or truth differ from those of teacher"):
        read_results(tmp_path)


def test_models_of_another_task_are_refused(tmp_path, invented):
    invented.write(tmp_path, "survival", {"teacher": 0.8})
    invented.write(tmp_path, "classification", {"student": 0.8})
    with pytest.raises(InputError, match="Remove the stale model"):
        read_results(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="Train models first"):
        read_results(tmp_path)


def test_risk_groups_are_cut_at_the_training_median_of_each_fold(tmp_path, invented):
    model = read_results(invented.write(tmp_path, "survival")).models["teacher"]
    group = assign_risk_groups(model)
    for fold, training in model.training.items():
        inside = model.rows["fold"] == fold
        assert (group[inside] == (model.rows["risk"][inside] > training.cutoff)).all()


def test_without_cut_off_there_are_no_risk_groups(tmp_path, invented):
    assert assign_risk_groups(read_results(invented.write(tmp_path, "classification")).models["teacher"]) is None


def test_models_that_read_age_and_sex_come_after_those_that_do_not():
    names = ["abmil", "abmil-clinical", "linear_clinical", "student", "student-clinical", "teacher",
             "teacher-recalibrated"]  # fmt: skip
    assert sort_models(names) == ["teacher", "student", "abmil", "teacher-recalibrated", "student-clinical",
                                  "abmil-clinical", "linear_clinical"]  # fmt: skip
