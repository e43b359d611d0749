"""`dml probe degradation` with trained models: curves of teacher, student and a comparator, and their page."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dml.cli.probe import degradation
from dml.cohorts.splits import write_splits
from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.files import read_json
from dml.report.degradation_tables import degradation_table
from dml.report.figures.degradation import draw_degradation
from dml.training.folds import make_fold, predict_fold, select_test_patients
from dml.training.model_store import ModelStore
from dml.training.train import distill_student, train_baseline, train_teacher
from tests.synthetic import cohort, write_store

PARAMS = {
    "cohort": "alpha",
    "tasks": ["survival"],
    "folds": [0, 1],
    "embed": {"encoder": "fake"},
    "model": {"width": 8, "heads": 2, "n_queries": 2, "gene_width": 8},
    "optimisation": {"epochs": 1, "batch_size": 16, "device": "cpu"},
    "baselines": {"deep": ["murrenet", "abmil"]},
    "evaluation": {"resamples": 50},
    "probes": {"repeats": 1},
}


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    params, data = config.load(), cohort(40)
    store = write_store(data, Path("data/alpha"))
    group, ids = np.arange(40) % 4, [case.patient_id for case in data.cases]
    roles, parts = np.array(["test", "validation", "train", "train"]), np.array([-1, 0, 1, 1])
    rows = [
        pd.DataFrame({"patient_id": ids, "fold": k, "role": roles[at], "inner_fold": parts[at], "stratum": "all"})
        for k, at in enumerate(((group - fold) % 4) for fold in range(2))
    ]
    write_splits(store.splits_path, pd.concat(rows, ignore_index=True), {})
    splits, models = store.splits(), ModelStore.of("alpha", "survival")
    for index in range(2):
        fold = make_fold(data, splits, index)
        teacher = train_teacher(fold, params, "survival")
        results = {
            "teacher": teacher,
            "student": distill_student(fold, params, "survival", teacher.model),
            "murrenet": train_baseline(fold, params, "survival", "murrenet"),
        }
        for name, result in results.items():
            predicted = predict_fold(result, fold, select_test_patients(data, splits, index), name)
            models.write(name, index, result, *predicted)
    return tmp_path


def test_curves_of_all_trained_models_are_written_and_shown(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    degradation("survival", levels="0,0.5,0.9", as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert {row["model"] for row in rows} == {"teacher", "student", "murrenet"}, "abmil is not trained"
    assert len(rows) == 2 * 3 + 3 * 2
    content = read_json(trained / "reports/alpha/survival/degradation.json")
    assert content["patients"] == 20
    table = degradation_table(content)
    assert len(table.rows) == len(rows)
    assert {row[1] for row in table.rows} == {"teacher", "student", "MurreNet-style"}
    assert draw_degradation(content, trained / "degradation.svg")
    assert not draw_degradation(None, trained / "nothing.svg")
    assert not (trained / "nothing.svg").exists()


def test_models_can_be_named_and_levels_must_be_numbers(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    degradation("survival", models="none", levels="0,0.5", as_json=True)
    assert {row["model"] for row in json.loads(capsys.readouterr().out)} == {"teacher", "student"}
    with pytest.raises(ConfigError, match="numbers separated by commas"):
        degradation("survival", levels="0;0.5")
