"""Shares of planted students: the arms themselves close nothing, the teachable part, or all of the gap."""

import numpy as np
import pytest

from dml.core.errors import InputError
from dml.core.files import write_json
from dml.teachability.analysis import analyse
from dml.teachability.student_share import share_closed
from dml.teachability.teachability_files import read_teachability, write_left_out, write_teachability
from dml.teachability.verdict import decide, sentence


@pytest.fixture(scope="module")
def measured(plant, once):
    data = plant(0.3, patients=300)
    return analyse(data.cohort, data.splits, data.patients, once, "survival")


def arm(measured, name):
    rows = measured.predictions
    return rows[rows["arm"] == name].drop(columns=["arm", "protocol"]).reset_index(drop=True)


def test_the_arms_close_nothing_and_everything(measured):
    models = {"student_undistilled": arm(measured, "slide"), "teacher": arm(measured, "slide_genes")}
    none, every = share_closed(measured, models)
    assert none["gain"]["difference"] == 0
    assert none["whole_share"] == {"value": 0.0, "ci_low": 0.0, "ci_high": 0.0}
    assert every["whole_share"]["value"] == pytest.approx(1)
    assert every["whole_share"]["ci_low"] == pytest.approx(1)
    assert every["whole_share"]["ci_high"] == pytest.approx(1)
    gaps = measured.summary["protocols"]["patients"]["gaps"]["all"]
    assert every["gain"]["difference"] == gaps["gap"]["difference"]


def test_a_student_between_slide_and_genes_closes_the_share_of_its_gain(measured):
    slide, both = arm(measured, "slide"), arm(measured, "slide_genes")
    student = both.assign(risk=0.6 * _standardise(slide) + 0.4 * _standardise(both))
    row = share_closed(measured, {"student": student, "student_undistilled": slide})[0]
    gap = measured.summary["protocols"]["patients"]["gaps"]["all"]["gap"]["difference"]
    assert row["whole_share"]["value"] == pytest.approx(row["gain"]["difference"] / gap, abs=1e-4)
    assert 0 < row["whole_share"]["ci_low"] < row["whole_share"]["value"] < row["whole_share"]["ci_high"] <= 1.1
    assert row["by_distillation"]["difference"] == row["gain"]["difference"]  # its twin is the slide model itself


def _standardise(rows):
    risk = rows.groupby("fold")["risk"]
    return (rows["risk"] - risk.transform("mean")) / risk.transform("std")


def test_only_patients_that_all_have_are_compared_and_groups_are_subsets(measured):
    slide = arm(measured, "slide")
    group = set(slide["patient_id"][::2])
    rows = share_closed(measured, {"student": slide.iloc[:200]}, {"even": group})
    assert [(row["group"], row["patients"]) for row in rows] == [("all", 200), ("even", 100)]
    assert "by_distillation" not in rows[0]


def test_a_model_of_other_folds_has_no_share(measured):
    slide = arm(measured, "slide")
    assert share_closed(measured, {"student": slide.assign(fold=(slide["fold"] + 1) % 3)}) == []


def test_files_come_back_as_they_were(measured, tmp_path):
    write_teachability(tmp_path, measured)
    again = read_teachability(tmp_path)
    assert again.summary == measured.summary
    np.testing.assert_array_equal(again.predictions["risk"], measured.predictions["risk"])
    assert read_teachability(tmp_path / "nowhere") is None


def test_a_cohort_that_was_left_out_has_no_section(tmp_path):
    write_left_out(tmp_path, "x", "survival", "no pairs")
    assert read_teachability(tmp_path) is None


def test_a_file_of_another_kind_is_refused(tmp_path):
    write_json(tmp_path / "summary.json", {"c_index": 0.7})
    with pytest.raises(InputError, match="not a summary of teachability"):
        read_teachability(tmp_path)


def difference(value, low, high):
    return {"difference": value, "ci_low": low, "ci_high": high, "p": 0.1}


@pytest.mark.parametrize(
    ("gap", "teachable", "verdict", "words"),
    [
        ((-0.01, -0.05, 0.03), (0.0, -0.01, 0.01), "no gap", "nothing to distil"),
        ((0.004, -0.001, 0.009), (0.002, -0.001, 0.004), "no gap", "nothing to distil"),
        ((0.02, -0.01, 0.05), (0.03, 0.01, 0.05), "gap not shown", "Whether there is anything to distil is not shown"),
        ((0.10, 0.05, 0.15), (0.06, 0.03, 0.09), "pays", "Distillation can pay"),
        ((0.10, 0.05, 0.15), (0.00, -0.01, 0.005), "too little", "can hardly pay"),
        ((0.10, 0.05, 0.15), (0.02, -0.01, 0.05), "undecided", "is not shown"),
    ],
)
def test_the_first_sentence_follows_from_the_intervals(gap, teachable, verdict, words):
    gaps = {"gap": difference(*gap), "teachable": difference(*teachable), "teachable_share": {"value": 0.4}}
    assert decide(gaps) == verdict
    summary = {"metric_label": "Harrell C", "protocols": {"patients": {"gaps": {"all": gaps}}}}
    text = sentence(summary, "patients")
    assert words in text
    assert text.endswith("40 % of the gap.") == (gap[1] > 0)
    assert f"{gap[0]:+.3f}" in text
