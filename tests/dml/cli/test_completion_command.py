"""`dml probe completion` with trained models: it writes and shows the energy scores, and refuses other students."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dml.cli.probe import completion
from dml.cohorts.splits import write_splits
from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.files import read_json
from dml.training.folds import make_fold, predict_fold, select_test_patients
from dml.training.model_store import ModelStore
from dml.training.train import distill_student, train_teacher
from tests.synthetic import cohort, write_store

PARAMS = {
    "cohort": "alpha",
    "tasks": ["grade"],
    "folds": [0, 1],
    "embed": {"encoder": "fake"},
    "model": {"width": 8, "heads": 2, "n_queries": 2, "gene_width": 8, "linear_offset": {"components": 0}},
    "optimisation": {"epochs": 1, "batch_size": 16, "device": "cpu", "ensemble_size": 1},
    "evaluation": {"resamples": 50},
}


@pytest.mark.parametrize("architecture", ["completed_genes", "gene_imputation"])
def test_energy_scores_of_a_trained_student(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS | {"distillation": {"architecture": architecture}}))
    params, data, group = config.load(), cohort(40), np.arange(40) % 4
    store, ids = write_store(data, Path("data/alpha")), [case.patient_id for case in data.cases]
    roles, parts = np.array(["test", "validation", "train", "train"]), np.array([-1, 0, 1, 1])
    rows = [
        pd.DataFrame({"patient_id": ids, "fold": k, "role": roles[at], "inner_fold": parts[at], "stratum": "all"})
        for k, at in enumerate(((group - fold) % 4) for fold in range(2))
    ]
    write_splits(store.splits_path, pd.concat(rows, ignore_index=True), {})
    splits, models = store.splits(), ModelStore.of("alpha", "grade")
    for index in range(2):
        fold = make_fold(data, splits, index)
        teacher = train_teacher(fold, params, "grade")
        student = distill_student(fold, params, "grade", teacher.model)
        for name, result in (("teacher", teacher), ("student", student)):
            predicted = predict_fold(result, fold, select_test_patients(data, splits, index), name)
            models.write(name, index, result, *predicted)
    if architecture == "gene_imputation":
        with pytest.raises(ConfigError, match="completed_genes"):
            completion("grade")
        return
    completion("grade", as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert [row["completion"] for row in shown] == ["samples", "mean", "another"]
    content = read_json(tmp_path / "reports/alpha/grade/completion.json")
    assert content["patients"] == 20
    assert content["energy_score"]["samples"]["value"] < content["energy_score"]["mean"]["value"]
