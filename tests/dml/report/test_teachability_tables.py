"""The section of the report on what a slide can be taught, and its numbers in MLflow."""

import numpy as np
import pandas as pd
import pytest

from dml.config.params import Evaluation
from dml.core.files import read_json
from dml.evaluation.intervals import bootstrap_weights
from dml.report.build import evaluate
from dml.report.context import ReportContext
from dml.report.teachability_tables import association_table, gap_table, sentences, share_table
from dml.teachability.gap import bind_metric, decompose, draw
from dml.teachability.teachability_files import Teachability
from dml.tracking.run_reports import teachability_metrics

SETTINGS = Evaluation(resamples=100, subgroups={"lower_grade": {"grade": ("G2", "G3")}})
ARMS = {
    "slide": 0.3, "genes": 0.7, "predicted": 0.4, "slide_predicted": 0.5, "slide_residual": 0.7, "slide_genes": 0.95,
}  # fmt: skip


def measure(invented, kind):
    """What the stage would have written of invented arms."""
    parts = [
        invented.rows(kind, arm, skill, fold, seed=1)[0].query("role == 'test'").assign(arm=arm)
        for arm, skill in ARMS.items()
        for fold in range(invented.fold.max() + 1)
    ]
    predictions = pd.concat(parts, ignore_index=True).drop(columns="model").assign(protocol="patients")
    predictions = predictions.sort_values(["arm", "patient_id"], ignore_index=True)
    classes = ["G2", "G3", "G4"] if kind == "classification" else []
    one = predictions[predictions["arm"] == "slide"]
    weights = bootstrap_weights(one["fold"].to_numpy(int), 100, 7)
    draws = {
        arm: draw(bind_metric(predictions[predictions["arm"] == arm].reset_index(drop=True), kind, classes), weights)
        for arm in ARMS
    }
    number = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    targets = [{"name": "gene risk", "r": number, "r2": number, "nats": number}]
    summary = {
        "kind": kind, "classes": classes, "metric_label": "Harrell C", "confidence": 0.95, "resamples": 100, "seed": 7,
        "protocols": {
            "patients": {
                "gaps": {"all": {"patients": len(one), **decompose(draws, 0.95)}, "few": {"left_out": "3 patients"}},
                "associations": {
                    "risk": {"number": 1, "median_r": number, "share_above": number, "targets": targets},
                    "gene": {"number": 40, "median_r": number, "share_above": number, "targets": targets},
                },
            },
            "sites": {"left_out": "1 known sites for 3 folds"},
        },
    }  # fmt: skip
    return Teachability(summary, pd.DataFrame({"protocol": ["patients"]}), predictions)


@pytest.mark.parametrize("kind", ["survival", "classification"])
def test_the_page_has_the_section_and_details_the_shares(tmp_path, invented, kind):
    models = invented.write(tmp_path / "models", kind)
    context = ReportContext("invented", teachability=measure(invented, kind))
    evaluate(models, invented.patients, SETTINGS, 7, tmp_path / "with", context)
    evaluate(models, invented.patients, SETTINGS, 7, tmp_path / "without", ReportContext("invented"))
    page = (tmp_path / "with" / "report.html").read_text()
    assert "<h2>What a slide can be taught</h2>" in page
    assert "Shares of the gap that the models close" in page
    assert "What a slide can be taught" not in (tmp_path / "without" / "report.html").read_text()
    rows = read_json(tmp_path / "with" / "details.json")["teachability"]
    assert {(row["model"], row["group"]) for row in rows} == {
        (model, group)
        for model in ("student", "student_undistilled", "teacher")
        for group in ("all", "lower_grade")
    }  # fmt: skip
    teacher = next(row for row in rows if row["model"] == "teacher" and row["group"] == "all")
    assert teacher["gain"]["difference"] > 0
    assert "by_distillation" not in teacher
    assert "by_distillation" in rows[0]
    assert "teachability" not in read_json(tmp_path / "without" / "details.json")


def test_tables_have_a_row_an_arm_and_part_and_a_column_a_group(invented):
    summary = measure(invented, "survival").summary
    table = gap_table(summary)
    assert table.columns == ("Harrell C", f"patient folds, n = {len(invented.patients)}")
    assert [row[0] for row in table.rows][-4:] == [
        "gap: slide to slide + genes", "teachable: predicted from the slide", "residual: the rest of the gap",
        "teachable share of the gap",
    ]  # fmt: skip
    names = [row[1] for row in association_table(summary).rows]
    assert names == ["gene risk", "gene: gene risk", "median of 40 genes (50 % above r 0.3)"]
    first, second = sentences(summary)
    assert first.startswith("Patient folds: Distillation can pay")
    assert second == "Unseen sites: left out, 1 known sites for 3 folds."


def test_a_share_of_no_gap_is_not_defined_and_of_an_uncertain_one_not_bounded():
    nothing = {"value": None, "ci_low": None, "ci_high": None}
    uncertain = {"value": 0.3, "ci_low": None, "ci_high": None}
    gain = {"difference": 0.01, "ci_low": -0.01, "ci_high": 0.03, "p": 0.3}
    row = {"model": "teacher", "protocol": "sites", "group": "all", "gain": gain}
    table = share_table([{**row, "teachable_share": nothing, "whole_share": uncertain}])
    assert table.rows[0][1:] == (
        "unseen sites", "+0.010 (-0.010 to +0.030)", "not defined", "0.300 (not bounded)", "-", "-",
    )  # fmt: skip


def test_metrics_of_a_model_are_its_shares_and_the_gaps(invented):
    summary = measure(invented, "survival").summary
    share = {"value": 0.25, "ci_low": None, "ci_high": None}
    row = {"model": "student", "protocol": "patients", "group": "all", "teachable_share": share, "whole_share": share}
    metrics = teachability_metrics(summary, [row], "student")
    assert metrics["teachability/patients_teachable_share_closed"] == 0.25
    gap = summary["protocols"]["patients"]["gaps"]["all"]["gap"]["difference"]
    assert metrics["teachability/patients_gap"] == gap
    assert metrics["teachability/patients_r_gene_risk"] == 0.5
    assert "teachability/patients_whole_share_closed" not in teachability_metrics(summary, [row], "teacher")
    assert all(np.isfinite(value) for value in metrics.values())
