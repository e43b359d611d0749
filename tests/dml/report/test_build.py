import base64
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sksurv.metrics import concordance_index_censored

from dml.config.params import Evaluation
from dml.core.errors import InputError
from dml.core.files import read_json, read_parquet, write_json, write_parquet
from dml.core.predictions import read_predictions, write_predictions
from dml.report.build import evaluate
from dml.report.context import FinerTiles, ReportContext, read_context
from dml.report.patient_flow import PatientFlow
from tests.dml.report.test_sentences import ABLATION

QUICK = Evaluation(resamples=200, subgroups={"lower_grade": {"grade": ("G2", "G3")}})
FLOW = PatientFlow(200, 180, 150, 130, 190, 120, ({"train": 90, "validation": 20, "test": 40},) * 3)


@pytest.fixture(scope="module")
def written(tmp_path_factory, invent):
    """The models and the report of both kinds of task, evaluated once."""
    folder = tmp_path_factory.mktemp("written")
    invented = invent(seed=5)
    for kind in ("survival", "classification", "regression"):
        models = invented.write(folder / "models" / kind, kind)
        evaluate(models, invented.patients, QUICK, 7, folder / "reports" / kind, ReportContext("<invented>", flow=FLOW))
    return folder


@pytest.fixture
def report(written):
    return lambda kind: written / "reports" / kind


def test_metrics_have_the_promised_form(report):
    metrics = read_json(report("survival") / "metrics.json")
    assert set(metrics) == {"teacher", "student", "student_undistilled", "null", "linear_slide"}
    wanted = {"c_index", "c_uno", "ibs", "ibs_null", "auc_1y", "oe_3y", "calibration_slope", "c_index_lower_grade"}
    assert wanted <= set(metrics["teacher"])
    for own in metrics.values():
        for name, entry in own.items():
            assert set(entry) == {"value", "ci_low", "ci_high", "folds"}, name
            assert entry["ci_low"] <= entry["ci_high"]
            assert len(entry["folds"]) == 3
    null = metrics["null"]["c_index"]
    assert (null["value"], null["ci_low"], null["ci_high"]) == (0.5, 0.5, 0.5)
    assert "calibration_slope" not in metrics["null"]


def test_c_is_the_pairs_of_all_folds_and_the_folds_are_listed(report):
    out = report("survival")
    rows = read_parquet(out / "predictions.parquet")[0].to_pandas()
    teacher = rows[rows["model"] == "teacher"]
    found = read_json(out / "metrics.json")["teacher"]["c_index"]
    counts = np.array([
        concordance_index_censored(part["event"].to_numpy(bool), part["days"].to_numpy(), part["risk"].to_numpy())
        for _, part in teacher.groupby("fold")
    ])  # fmt: skip
    np.testing.assert_allclose(found["folds"], counts[:, 0], atol=1e-6)
    pooled = (counts[:, 1] + 0.5 * counts[:, 3]).sum() / counts[:, 1:4].sum()
    assert found["value"] == pytest.approx(pooled, abs=1e-6)


def test_better_models_score_better(report):
    survival = read_json(report("survival") / "metrics.json")
    assert survival["teacher"]["c_index"]["value"] > survival["linear_slide"]["c_index"]["value"] > 0.5
    assert survival["teacher"]["ibs"]["value"] < survival["teacher"]["ibs_null"]["value"]
    grade = read_json(report("classification") / "metrics.json")
    assert grade["teacher"]["auc"]["value"] > grade["linear_slide"]["auc"]["value"] > 0.5
    assert {"balanced_accuracy", "recall_G2", "f1", "ece", "brier", "auc_G4", "auc_lower_grade"} <= set(
        grade["teacher"]
    )
    assert "recall_G4_lower_grade" not in grade["teacher"]


def test_teacher_and_student_are_compared_with_their_references(report):
    compared = read_json(report("survival") / "comparisons.json")
    assert set(compared) == {"teacher", "student"}
    assert set(compared["student"]) == {"student_undistilled", "linear_slide", "null"}
    for references in compared.values():
        for reference, found in references.items():
            entry = found["c_index"]
            assert entry["ci_low"] <= entry["difference"] <= entry["ci_high"], reference
            assert entry["p"] <= entry["p_holm"] <= 1
            assert entry["patients"] == 120
    assert compared["teacher"]["null"]["c_index"]["ci_low"] > 0


@pytest.mark.parametrize("kind", ["survival", "classification", "regression"])
def test_the_same_predictions_give_the_same_bytes(written, tmp_path, invented, kind):
    first, second = written / "reports" / kind, tmp_path
    evaluate(written / "models" / kind, invented.patients, QUICK, 7, tmp_path, ReportContext("<invented>", flow=FLOW))
    files = sorted(path.relative_to(first) for path in first.rglob("*.*"))
    assert files == sorted(path.relative_to(second) for path in second.rglob("*.*"))
    assert len([path for path in files if path.suffix == ".svg"]) >= 3
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_another_seed_moves_intervals_but_no_value(tmp_path, invented):
    models = invented.write(tmp_path / "m", "survival", {"teacher": 0.8})
    one, other = (
        evaluate(models, invented.patients, QUICK, s, tmp_path / str(s))["teacher"]["c_index"] for s in (1, 2)
    )
    assert one["value"] == other["value"]
    assert one["folds"] == other["folds"]
    assert one["ci_low"] != other["ci_low"]


def test_a_model_with_fewer_patients_is_judged_on_its_own_and_compared_on_the_shared(tmp_path, invented):
    models = invented.write(tmp_path / "m", "survival", {"teacher": 0.8, "linear_genes": 0.5})
    for fold in range(3):
        path = models / "linear_genes" / f"fold-{fold}" / "predictions.parquet"
        rows, metadata = read_predictions(path)
        write_predictions(path, rows.iloc[::2], metadata)
    evaluate(models, invented.patients, QUICK, 0, tmp_path / "r")
    details = read_json(tmp_path / "r" / "details.json")
    shared = details["patients"]["linear_genes"]
    assert shared < details["patients"]["teacher"] == 120
    found = read_json(tmp_path / "r" / "comparisons.json")["teacher"]["linear_genes"]["c_index"]
    assert found["patients"] == shared


def test_a_horizon_beyond_the_follow_up_is_left_out_with_its_reason(tmp_path, invented, caplog):
    models = invented.write(tmp_path / "m", "survival", {"teacher": 0.8})
    metrics = evaluate(models, invented.patients, Evaluation(resamples=50, years=(1, 90)), 0, tmp_path / "r")
    details = read_json(tmp_path / "r" / "details.json")
    assert details["years"] == [1]
    assert "not predicted by teacher" in details["years_left_out"]["90"]
    assert "no metric at 90 years" in caplog.text
    assert "auc_1y" in metrics["teacher"]
    assert not any("90y" in name for name in metrics["teacher"])


def test_a_fold_without_a_comparable_pair_has_no_number_and_a_line_says_so(tmp_path, invented, caplog):
    invented.patients.loc[invented.fold == 0, "event"] = False
    models = invented.write(tmp_path / "m", "survival", {"teacher": 0.8})
    found = evaluate(models, invented.patients, QUICK, 0, tmp_path / "r")["teacher"]["c_index"]
    assert found["folds"][0] is None
    assert found["folds"][1] > 0.5
    assert "teacher: c_index in fold 0 left out" in caplog.text
    assert "NaN" not in (tmp_path / "r" / "metrics.json").read_text()


def test_a_subgroup_of_an_unknown_column_is_refused(tmp_path, invented):
    models = invented.write(tmp_path / "m", "survival", {"teacher": 0.8})
    settings = Evaluation(resamples=10, subgroups={"mutant": {"idh1": ("yes",)}})
    with pytest.raises(InputError, match="no column 'idh1' to form a subgroup"):
        evaluate(models, invented.patients, settings, 0, tmp_path / "r")


def test_an_empty_subgroup_is_left_out(tmp_path, invented):
    models = invented.write(tmp_path / "m", "survival", {"teacher": 0.8})
    settings = Evaluation(resamples=10, subgroups={"none": {"grade": ("G7",)}, "women": {"sex": ("1",)}})
    metrics = evaluate(models, invented.patients, settings, 0, tmp_path / "r")["teacher"]
    assert "c_index_none" not in metrics
    assert "c_index_women" in metrics


@pytest.mark.parametrize("kind", ["survival", "classification", "regression"])
def test_the_page_stands_alone(report, kind):
    page = (report(kind) / "report.html").read_text()
    assert "http" not in page
    assert "&lt;invented&gt;" in page
    assert "<b>130</b>with slide and transcriptome" in page
    figures = [base64.b64decode(found) for found in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)]
    assert len(figures) >= 3
    assert all(b"<svg" in figure for figure in figures)
    primary = {"survival": "c_index", "classification": "auc", "regression": "spearman"}[kind]
    assert f"{read_json(report(kind) / 'metrics.json')['teacher'][primary]['value']:.3f}" in page


def test_every_group_of_patients_has_its_number_or_is_listed(report):
    found = read_json(report("survival") / "details.json")["subgroups"]
    assert {row["column"] for row in found["groups"]} == {"age", "sex", "site", "grade"}
    for row in found["groups"]:
        assert row["patients"] >= 20
        assert set(row["models"]) == {"teacher", "student", "linear_slide"}
    page = (report("survival") / "report.html").read_text()
    assert "sex: female" in page
    assert "p, others" in page


def test_the_card_says_for_whom_and_how_good(report):
    card = (report("survival") / "cards" / "teacher.md").read_text()
    value = read_json(report("survival") / "metrics.json")["teacher"]["c_index"]["value"]
    assert f"| Harrell C | {value:.3f} (" in card
    for heading in (
        "Intended use",
        "Trained and evaluated on",
        "Metrics",
        "Subgroups",
        "What it relies on",
        "Limitations",
    ):
        assert f"## {heading}\n" in card
    assert "130 with slide and transcriptome" in card
    assert "| grade G2 |" in card


def test_who_is_lost_on_the_way_is_counted(report):
    page = (report("survival") / "report.html").read_text()
    assert "50 without transcriptome" in page
    assert "10 of unknown outcome" in page


@pytest.mark.parametrize("kind", ["survival", "classification", "regression"])
def test_every_item_of_the_reporting_guideline_has_a_line(report, kind):
    page = (report(kind) / "report.html").read_text()
    for number in ("5a", "8a", "12e", "18e-f", "20a", "23a", "27a-c"):
        assert f"<span>{number}</span>" in page


def test_details_say_how_groups_and_calibration_came_out(report):
    teacher = read_json(report("survival") / "details.json")["survival"]["teacher"]
    assert teacher["log_rank"]["p"] < 0.001
    assert teacher["risk_groups"]["high"] + teacher["risk_groups"]["low"] == 120
    assert sum(teacher["d_calibration"]["counts"]) == pytest.approx(120, abs=0.01)
    assert teacher["hazard"]["unadjusted"]["ratio"] > 1
    columns = [row["column"] for row in teacher["hazard"]["adjusted"]]
    assert columns[:3] == ["high_risk", "age, per 10 y", "female"]
    assert any(column.startswith("grade ") for column in columns)


def test_an_ablation_is_a_section_of_the_page_where_there_is_one(tmp_path, invented):
    models = invented.write(tmp_path / "models", "survival", {"teacher": 0.8, "student": 0.6})
    for name, ablation in (("with", ABLATION), ("without", None)):
        evaluate(models, invented.patients, QUICK, 7, tmp_path / name, ReportContext("invented", ablation=ablation))
    page = (tmp_path / "with" / "report.html").read_text()
    assert "<h2>Ablation study</h2>" in page
    assert "Inside lower grade" in page
    assert (tmp_path / "with" / "figures" / "ablation.svg").exists()
    assert "Ablation study" not in (tmp_path / "without" / "report.html").read_text()


def test_damaged_inputs_are_a_section_of_the_page_where_they_were_probed(tmp_path, invented):
    models = invented.write(tmp_path / "models", "survival", {"teacher": 0.8, "student": 0.6})
    ends = {"ci_low": 0.6, "ci_high": 0.9}
    curve = [{"level": level, "value": 0.8 - level / 10, **ends} for level in (0.0, 0.5)]
    entry = {"curve": curve, "area": {"value": 0.775, **ends}, "loss": {"difference": -0.025, **ends, "p": 0.1}}
    lead = {"student": {"difference": 0.1, **ends, "p": 0.01, "p_holm": 0.013}}
    probed = {
        "metric": "c_index",
        "patients": 120,
        "levels": [0.0, 0.5],
        "repeats": 3,
        "labels": {"tokens_lost": "tiles lost"},
        "kinds": {"tokens_lost": {"teacher": entry, "student": entry}},
        "compared": {"tokens_lost": lead},
        "left_out": [],
    }
    for name, content in (("with", probed), ("without", None)):
        evaluate(models, invented.patients, QUICK, 7, tmp_path / name, ReportContext("invented", degradation=content))
    page = (tmp_path / "with" / "report.html").read_text()
    section = page[page.index("<h3>Damaged inputs</h3>") :]
    assert "tiles lost" in section
    assert "0.775" in section
    assert "0.013" in section
    assert (tmp_path / "with" / "figures" / "degradation.svg").exists()
    assert "Damaged inputs" not in (tmp_path / "without" / "report.html").read_text()


def test_interpolated_pixels_are_told_on_the_page_and_the_cards(tmp_path, invented):
    models = invented.write(tmp_path / "models", "survival", {"teacher": 0.8, "student": 0.6})
    text = "3 of 5 slides have tiles that are finer than the image, up to 1.4 times"
    for name, finer in (("with", FinerTiles(3, 5, 1.38)), ("without", None)):
        evaluate(models, invented.patients, QUICK, 7, tmp_path / name, ReportContext("invented", finer_tiles=finer))
        pages = [tmp_path / name / "report.html", tmp_path / name / "cards" / "student.md"]
        assert [text in page.read_text() for page in pages] == [finer is not None] * 2


def test_names_are_escaped_in_the_page(tmp_path, invented):
    invented.patients["site"] = invented.patients["site"].map({"S0": "<b>S0</b>", "S1": "a|b", "S2": "S&2"})
    models = invented.write(tmp_path / "models", "classification", {"teacher": 0.8, "student": 0.6})
    context = ReportContext("<script>alert(1)</script>", "A <i>cohort</i>")
    evaluate(models, invented.patients, QUICK, 7, tmp_path / "out", context)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>S0</b>" not in page
    assert "site: &lt;b&gt;S0&lt;/b&gt;" in page
    assert "S&amp;2" in page
    assert "alert(1)</script>" not in page
    assert "&lt;i&gt;cohort" in page
    assert r"| site: a\|b |" in (tmp_path / "out" / "cards" / "teacher.md").read_text()


def test_ablation_and_permutation_test_are_read_from_beside_the_report(tmp_path, invented):
    folder = tmp_path / "data" / "x"
    ids = invented.patients["patient_id"]
    roles = np.where(np.arange(len(ids)) % 2, "test", "train")
    splits = pd.DataFrame({"patient_id": ids, "fold": 0, "role": roles, "inner_fold": -1, "stratum": ""})
    slides = pd.DataFrame({"slide_id": ids, "patient_id": ids, "path": None, "mpp": np.nan})
    tables = {"patients": invented.patients, "splits": splits, "expression": splits[["patient_id"]], "slides": slides}
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", pa.Table.from_pandas(table, preserve_index=False), {})
    assert read_context("x", "survival", tmp_path).ablation is None
    null = {"value": 0.51, "ci_low": 0.4, "ci_high": 0.6, "passed": True}
    write_json(tmp_path / "reports/x/survival/ablation.json", ABLATION)
    write_json(tmp_path / "reports/x/nulls/survival.json", null)
    assert read_context("x", "survival", tmp_path).probes is None
    write_json(tmp_path / "reports/x/survival/probes.json", {"permutation_test": None})
    context = read_context("x", "survival", tmp_path)
    assert context.ablation == ABLATION
    assert context.probes == {"permutation_test": null}
    write_json(tmp_path / "reports/x/survival/probes.json", {"permutation_test": {"value": 0.49}})
    assert read_context("x", "survival", tmp_path).probes == {"permutation_test": {"value": 0.49}}


def test_the_page_of_a_number_shows_its_calibration(report):
    out = report("regression")
    metrics = read_json(out / "metrics.json")
    wanted = {"spearman", "r2", "mae", "bias", "coverage", "interval_width"}
    wanted |= {"calibration_slope", "calibration_intercept"}
    assert wanted <= set(metrics["teacher"])
    assert metrics["null"]["spearman"]["value"] == 0
    assert "calibration_slope" not in metrics["null"]
    assert {"spearman", "r2", "mae"} == set(read_json(out / "comparisons.json")["teacher"]["linear_slide"])
    details = read_json(out / "details.json")
    assert details["numbers"]["min"] < details["numbers"]["median"] < details["numbers"]["max"]
    page = (out / "report.html").read_text()
    assert "Measured and predicted" in page
    assert "Confusion" not in page
    assert {"measured.svg", "calibration.svg", "spearman.svg"} <= {path.name for path in (out / "figures").iterdir()}
    assert "Predicts purity, a number" in (out / "cards" / "teacher.md").read_text()


def test_a_calibration_that_is_off_is_among_the_conclusions(invented, tmp_path):
    models = invented.write(tmp_path / "models", "regression", {"teacher": 0.9, "student": 0.5, "null": 0.0})
    for path in models.glob("student/fold-*/predictions.parquet"):
        rows, metadata = read_predictions(path)
        narrow = {"value_lower": rows["value"] - 0.1, "value_upper": rows["value"] + 0.1}
        write_predictions(path, rows.assign(**narrow), metadata)
    patients = invented.patients.assign(purity=invented.purity)
    evaluate(models, patients, QUICK, 7, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "purity, median" in page
    assert re.search(r"The student: Coverage of the 80 % interval 0\.0\d\d .* where 0\.8 is right", page)
