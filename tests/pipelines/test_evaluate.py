"""Stages train_linear_baselines and evaluate on an invented cohort: from stores and splits to the report."""

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dml.config import params as config
from dml.core.errors import InputError
from dml.core.files import read_json, read_parquet, write_parquet
from dml.models import registry
from dml.training.folds import make_fold
from pipelines import evaluate
from pipelines import train_linear_baselines as baseline
from pipelines.inputs import Inputs, Job
from tests.synthetic import cohort

PARAMS = config.Params(
    cohort="synthetic",
    tasks=("survival", "grade"),
    folds=(0, 1, 2),
    baselines=config.Baselines(components=4),
    evaluation=config.Evaluation(resamples=100, years=(1, 2)),
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository root with the stores that evaluate reads, and the cohort that baseline reads."""
    monkeypatch.chdir(tmp_path)
    invented = cohort(90, seed=1)
    ids = [case.patient_id for case in invented.cases]
    patients = pd.DataFrame(
        {
            "patient_id": ids,
            "site": [case.site for case in invented.cases],
            "survival_days": [case.survival.days for case in invented.cases],
            "event": [case.survival.event for case in invented.cases],
            "age": [case.covariates["age"] for case in invented.cases],
            "grade": [case.labels["grade"] for case in invented.cases],
            "score": [case.values["score"] for case in invented.cases],
        }
    )
    group = np.arange(90) % 3
    roles = np.array(["test", "validation", "train"])
    turns = [(group - k) % 3 for k in range(3)]
    splits = pd.concat(
        pd.DataFrame({"patient_id": ids, "fold": k, "role": roles[turn], "stratum": "", "inner_fold": turn - 1})
        for k, turn in enumerate(turns)
    )
    slides = patients[["patient_id"]].assign(slide_id=ids, path="", mpp=0.5)
    stores = {"patients": patients, "splits": splits, "slides": slides}
    metadata = {"classes": invented.classes}
    for name, table in {**stores, "expression": patients[["patient_id"]]}.items():
        write_parquet(tmp_path / "data" / "synthetic" / f"{name}.parquet", pa.Table.from_pandas(table), metadata)
    return invented, splits


@pytest.mark.parametrize(
    ("task", "metric", "chance"), [("survival", "c_index", 0.5), ("grade", "auc", 0.5), ("score", "spearman", 0.0)]
)
def test_baselines_of_all_folds_become_a_report(project, tmp_path, task, metric, chance):
    invented, splits = project
    for fold in PARAMS.folds:
        job = Job(PARAMS, task, fold)
        inputs = Inputs(invented, splits, make_fold(invented, splits, fold))
        for name in registry.linear_names():
            baseline.write(job, name, baseline.fit(job, inputs, name))
    evaluate.run(PARAMS, task)
    out = tmp_path / "reports" / "synthetic" / task
    metrics = read_json(out / "metrics.json")
    assert set(metrics) == set(registry.linear_names())
    assert metrics["linear_slide_genes"][metric]["value"] > 0.7
    assert metrics["null"][metric]["value"] == chance
    together = read_parquet(out / "predictions.parquet")[0].to_pandas()
    assert together.groupby("model")["patient_id"].nunique().eq(90).all()
    page = (out / "report.html").read_text()
    assert "<b>90</b>with known outcome" in page
    assert {path.name for path in out.glob("*.json")} == {"metrics.json", "comparisons.json", "details.json"}


def test_models_are_fused_with_age_and_sex_and_only_those_of_params_are_read(project, tmp_path):
    """Neither tokens nor transcriptomes are there to be read; the outputs of a dropped baseline still are."""
    invented, splits = project
    models = tmp_path / "models" / "synthetic" / "survival"
    for fold in PARAMS.folds:
        job = Job(PARAMS, "survival", fold)
        inputs = Inputs(invented, splits, make_fold(invented, splits, fold))
        baseline.write(job, "linear_slide", baseline.fit(job, inputs, "linear_slide"))
    for name in ("teacher", "abmil", "mcat"):
        shutil.copytree(models / "linear_slide", models / name)
    named = PARAMS.baselines.model_copy(update={"deep": ("abmil",)})
    evaluate.run(PARAMS.model_copy(update={"baselines": named}), "survival")
    metrics = read_json(tmp_path / "reports/synthetic/survival/metrics.json")
    assert set(metrics) == {"teacher", "abmil", "linear_slide", "teacher-clinical", "abmil-clinical"}
    assert metrics["teacher-clinical"] == metrics["abmil-clinical"]
    assert metrics["teacher-clinical"] != metrics["teacher"]
    coefficients = tmp_path / "reports/synthetic/survival/clinical/teacher-clinical/fold-0/model.json"
    assert read_json(coefficients)["covariates"] == ["age", "sex"]


def test_a_baseline_that_cannot_be_fitted_leaves_its_reason(project, tmp_path):
    job = Job(PARAMS, "survival", 0)
    baseline.write(job, "linear_clinical", None)
    folder = tmp_path / "models" / "synthetic" / "survival" / "linear_clinical" / "fold-0"
    assert "no training patient has its inputs: clinical" in read_json(folder / "model.json")["left_out"]
    assert not (folder / "predictions.parquet").exists()


def test_evaluating_before_training_says_what_to_do(project):
    with pytest.raises(InputError, match="Train models first: dvc repro"):
        evaluate.run(PARAMS, "survival")
