"""Stage and command: from stores and folds to the first sentence, and a cohort without pairs."""

import json
import logging
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

import dml.cli
from dml.cohorts.splits import write_splits
from dml.core.files import read_json
from dml.teachability.teachability_files import read_teachability
from pipelines import teachability
from tests.synthetic import cohort, write_store

PARAMS = {
    "cohort": "synthetic",
    "tasks": ["survival", "grade"],
    "folds": [0, 1, 2],
    "tiles": {"mpps": [0.5, 1.0]},
    "embed": {"encoder": "fake"},
    "baselines": {"components": 3},
    "evaluation": {"resamples": 50, "years": [1, 2]},
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository root with parameters and the stores of a cohort."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))

    def build(absent: int = 0) -> None:
        data = cohort(90, seed=1, absent=absent)
        write_store(data, tmp_path / "data" / "synthetic")
        turn = np.arange(90) % 3
        splits = pd.concat(
            pd.DataFrame(
                {
                    "patient_id": [case.patient_id for case in data.cases],
                    "fold": fold,
                    "role": np.where(turn == fold, "test", "train"),
                    "inner_fold": np.where(turn == fold, -1, np.arange(90) // 3 % 3),
                    "stratum": "",
                }
            )
            for fold in range(3)
        )
        write_splits(tmp_path / "data/synthetic/splits.parquet", splits, {})

    return build


@pytest.mark.parametrize("task", ["survival", "grade"])
def test_the_stage_writes_what_the_report_reads_and_the_same_bytes_again(root, tmp_path, monkeypatch, caplog, task):
    root()
    monkeypatch.setattr(sys, "argv", ["teachability", "--task", task])
    folder = tmp_path / "reports/synthetic" / task / "teachability"
    with caplog.at_level(logging.INFO):
        assert teachability.main() == 0
    assert "istil" in caplog.text
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(content) == {"summary.json", "targets.parquet", "predictions.parquet"}
    measured = read_teachability(folder)
    assert measured.predictions["patient_id"].nunique() == 90
    assert teachability.main() == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == content


def test_a_cohort_without_pairs_is_left_out_and_the_pipeline_goes_on(root, tmp_path, monkeypatch, caplog):
    root(absent=90)
    monkeypatch.setattr(sys, "argv", ["teachability", "--task", "survival"])
    assert teachability.main() == 0
    assert "teachability left out" in caplog.text
    content = read_json(tmp_path / "reports/synthetic/survival/teachability/summary.json")
    assert "no test patient has a slide, a transcriptome and a known outcome" in content["left_out"]


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["dml", "teachability", *arguments])
    monkeypatch.setenv("COLUMNS", "250")
    with pytest.raises(SystemExit) as ended:
        dml.cli.main()
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out, output.err


def test_the_command_begins_with_one_sentence(root, monkeypatch, capsys):
    root()
    code, out, _ = run(monkeypatch, capsys, "--task", "grade")
    assert code == 0
    first, *lines = out.splitlines()
    assert first.startswith("Unseen sites: ") or first.startswith("Patient folds: ")
    assert "AUC" in first
    for row in ("slide + genes", "teachable: predicted from the slide", "gene risk", "group tumor"):
        assert any(row in line for line in lines), row
    code, out, _ = run(monkeypatch, capsys, "--task", "grade", "--json")
    content = json.loads(out)
    assert (content["metric"], content["teacher"]) == ("auc", [])


def test_the_command_refuses_a_cohort_without_pairs_or_an_unknown_one(root, monkeypatch, capsys):
    root(absent=90)
    code, _, err = run(monkeypatch, capsys)
    assert code == 2
    assert "add transcriptomes of these slides" in err
    code, _, err = run(monkeypatch, capsys, "--cohort", "nowhere")
    assert code != 0
    assert "nowhere" in err
