"""`dml probe label-noise` and `label-fraction`: what they write and show, and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dml.cli.probe import label_fraction, label_noise
from dml.cohorts.splits import write_splits
from dml.core.errors import ConfigError
from dml.core.files import read_json, read_parquet
from dml.probes import label_noise as noise
from tests.synthetic import cohort, write_store

PARAMS = {
    "cohort": "alpha",
    "tasks": ["survival", "grade"],
    "folds": [0, 1],
    "embed": {"encoder": "fake"},
    "model": {"width": 8, "heads": 2, "n_queries": 2, "gene_width": 8, "linear_offset": {"components": 0}},
    "optimisation": {"epochs": 1, "batch_size": 16, "device": "cpu", "ensemble_size": 2},
    "evaluation": {"resamples": 50},
}


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(noise, "cleanlab_is_there", lambda: False)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    data = cohort(40)
    store, group = write_store(data, Path("data/alpha")), np.arange(40) % 4
    roles, parts = np.array(["test", "validation", "train", "train"]), np.array([-1, 0, 1, 1])
    ids = [case.patient_id for case in data.cases]
    rows = [
        pd.DataFrame({"patient_id": ids, "fold": k, "role": roles[at], "inner_fold": parts[at], "stratum": "all"})
        for k, at in enumerate(((group - fold) % 4) for fold in range(2))
    ]
    write_splits(store.splits_path, pd.concat(rows, ignore_index=True), {})
    return tmp_path


def test_noise_writes_numbers_and_says_which_arm_is_missing(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label_noise("grade", shares="0,0.4", sites=1, as_json=True)
    shown = capsys.readouterr()
    rows = json.loads(shown.out)
    assert len(rows) == 2 * 2 * 2
    assert {row["model"] for row in rows} == {"teacher", "student"}
    assert "no arm cleanlab: cleanlab is not installed" in shown.err
    content = read_json(stored / "reports/alpha/grade/label_noise.json")
    assert (len(content["sites"]), content["patients"]) == (1, 20)
    table, _ = read_parquet(stored / "reports/alpha/grade/label_noise.parquet")
    assert table.num_rows == len(rows)
    assert {"share", "arm", "model", "value", "flipped", "precision", "recall"} <= set(table.column_names)
    with pytest.raises(ConfigError, match="numbers separated by commas"):
        label_noise("grade", shares="0;0.4")
    with pytest.raises(ConfigError, match="survival has none"):
        label_noise("survival")


def test_fractions_are_written(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label_fraction("grade", fractions="1", as_json=True)
    assert len(json.loads(capsys.readouterr().out)) == 4
    assert read_json(stored / "reports/alpha/grade/label_fraction.json")["fractions"] == [1.0]
