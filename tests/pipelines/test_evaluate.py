"""Stages baseline and evaluate on an invented cohort: from stores and splits to the report."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dml.baselines.linear.fit import BASELINES
from dml.config import params as config
from dml.core.errors import InputError
from dml.core.files import read_json, read_parquet, write_parquet
from dml.training.folds import fold_of
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
            "grade": [case.labels["grade"] for case in invented.cases],
        }
    )
    group = np.arange(90) % 3
    roles = np.array(["test", "validation", "train"])
    turns = [(group - k) % 3 for k in range(3)]
    splits = pd.concat(
        pd.DataFrame({"patient_id": ids, "fold": k, "role": roles[turn], "part": turn - 1})
        for k, turn in enumerate(turns)
    )
    stores = {"patients": patients, "splits": splits, "slides": patients[["patient_id"]]}
    for name, table in {**stores, "expression": patients[["patient_id"]]}.items():
        write_parquet(tmp_path / "data" / "synthetic" / f"{name}.parquet", pa.Table.from_pandas(table))
    return invented, splits


@pytest.mark.parametrize(("task", "metric"), [("survival", "c_index"), ("grade", "auc")])
def test_baselines_of_all_folds_become_a_report(project, tmp_path, task, metric):
    invented, splits = project
    for fold in PARAMS.folds:
        job = Job(PARAMS, task, fold)
        inputs = Inputs(invented, splits, fold_of(invented, splits, fold))
        for name in BASELINES:
            baseline.write(job, name, baseline.reference(job, inputs, name))
    evaluate.run(PARAMS, task)
    out = tmp_path / "reports" / "synthetic" / task
    metrics = read_json(out / "metrics.json")
    assert set(metrics) == set(BASELINES)
    assert metrics["linear_slide_genes"][metric]["value"] > 0.7
    assert metrics["null"][metric]["value"] == 0.5
    together = read_parquet(out / "predictions.parquet")[0].to_pandas()
    assert together.groupby("model")["patient_id"].nunique().eq(90).all()
    page = (out / "report.html").read_text()
    assert "<b>90</b>with known outcome" in page
    assert {path.name for path in out.glob("*.json")} == {"metrics.json", "comparisons.json", "details.json"}


def test_a_baseline_that_cannot_be_fitted_leaves_its_reason(project, tmp_path):
    job = Job(PARAMS, "survival", 0)
    baseline.write(job, "linear_clinical", None)
    folder = tmp_path / "models" / "synthetic" / "survival" / "linear_clinical" / "fold-0"
    assert "no training patient has its sources: clinical" in read_json(folder / "model.json")["left_out"]
    assert not (folder / "predictions.parquet").exists()


def test_evaluating_before_training_says_what_to_do(project):
    with pytest.raises(InputError, match="Train models first: dvc repro"):
        evaluate.run(PARAMS, "survival")
