"""A run rebuilt from what was recorded: data by hash, parameters, the commit, and an honest comparison."""

import hashlib
import json
import subprocess
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from dml.core.errors import DmlError, InputError
from dml.core.predictions import write_predictions
from dml.experiments import reproduce as reproduction
from dml.experiments.reproduce import Recorded, compare, recorded, restore, worktree, write_params


def _hashed(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _put(cache: Path, text: str, ending: str = "") -> str:
    found = _hashed(text)
    path = cache / found[:2] / (found[2:] + ending)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return found + ending


def test_data_come_back_by_their_hash_whatever_lies_there_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"
    listing = [{"md5": _put(cache, "bag"), "relpath": "0.5/s1.parquet"}]
    data = {
        "data/x/patients.parquet": _put(cache, "old patients"),
        "data/x/features": _put(cache, json.dumps(listing), ".dir"),
        "data/x/splits.parquet": _hashed("uncached splits"),
    }
    Path("data/x").mkdir(parents=True)
    Path("data/x/patients.parquet").write_text("new patients")
    Path("data/x/splits.parquet").write_text("uncached splits")
    restore(data, Path("place"), cache)
    assert Path("place/data/x/patients.parquet").read_text() == "old patients"
    assert Path("place/data/x/features/0.5/s1.parquet").read_text() == "bag"
    assert Path("place/data/x/splits.parquet").read_text() == "uncached splits"
    Path("data/x/splits.parquet").write_text("other splits")
    with pytest.raises(InputError, match=r"splits.parquet: neither in DVC's cache nor here with hash"):
        restore(data, Path("again"), cache)
    with pytest.raises(InputError, match="recorded no hashes"):
        restore({}, Path("again"), cache)


def _record(**changes: object) -> Recorded:
    plain = {"run_id": "r", "cohort": "other", "task": "survival", "model": "teacher", "fold": 0, "commit": "c"}
    return Recorded(**{**plain, "dirty": False, "params": {}, "data": {}, **changes})


def test_recorded_parameters_win_over_those_of_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("cohort: demo\nseed: 1\nmodel: {width: 64, dropout: 0.1}\nbaselines: {deep: [abmil]}\n")
    logged = {"seed": "7", "model.width": "128", "inputs.covariates": "['age']", "years": "[1.0, 2.0]",
              "optimisation.device": "auto", "teacher.use_fusion": "True"}  # fmt: skip
    write_params(path, _record(params=logged, model="mcat"))
    content = yaml.safe_load(path.read_text())
    assert content == {
        "cohort": "other", "seed": 7, "model": {"width": 128, "dropout": 0.1}, "baselines": {"deep": ["mcat"]},
        "inputs": {"covariates": ["age"]}, "evaluation": {"years": [1.0, 2.0]}, "optimisation": {"device": "auto"},
        "teacher": {"use_fusion": True},
    }  # fmt: skip


def test_a_classical_reference_names_no_network(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("cohort: demo\nbaselines: {deep: [abmil], components: 5}\n")
    write_params(path, _record(params={"baselines.components": "15"}, model="linear_slide_genes"))
    content = yaml.safe_load(path.read_text())
    assert content == {"cohort": "other", "baselines": {"deep": ["abmil"], "components": 15}}


def test_the_worktree_is_that_commit_and_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def git(*arguments: str) -> str:
        own = ("-c", "user.name=t", "-c", "user.email=t@t")
        return subprocess.run(["git", *own, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    commits = []
    for text in ("old", "new"):
        Path("code.py").write_text(text)
        git("add", "code.py")
        git("commit", "-qm", text)
        commits.append(git("rev-parse", "HEAD"))
    Path("code.py").write_text("not committed")
    with worktree(commits[0]) as place:
        assert (place / "code.py").read_text() == "old"
    assert not place.exists()
    assert Path("code.py").read_text() == "not committed"
    assert len(git("worktree", "list").splitlines()) == 1
    with pytest.raises(InputError, match="commit 0123456789"), worktree("0123456789"):
        pass


def _predictions(path: Path, risk: np.ndarray) -> Path:
    n = len(risk)
    rows = pd.DataFrame({"patient_id": [f"p{i}" for i in range(n)], "site": "a", "fold": 0, "role": "test",
                         "model": "teacher", "risk": risk, "survival_365": 0.5, "days": np.arange(n) + 1.0,
                         "event": True})  # fmt: skip
    write_predictions(path, rows, {"task": "survival", "kind": "survival", "classes": []})
    return path


def test_identical_to_the_bit_up_to_rounding_or_not(tmp_path: Path) -> None:
    risk = -np.arange(10.0)
    old = _predictions(tmp_path / "old.parquet", risk)
    same = compare(old, _predictions(tmp_path / "same.parquet", risk), 0)
    assert (same.recorded, same.reproduced, same.row()["identical"]) == (1.0, 1.0, "to the bit")
    close = compare(old, _predictions(tmp_path / "close.parquet", risk + 1e-7), 0)
    assert close.row()["identical"] == "up to rounding"
    other = compare(old, _predictions(tmp_path / "other.parquet", risk[::-1].copy()), 0)
    assert (other.reproduced, other.identical, other.row()["identical"]) == (0.0, False, "NO")
    with pytest.raises(DmlError, match="other test patients than recorded: p9"):
        compare(old, _predictions(tmp_path / "fewer.parquet", risk[:9]), 0)


def test_an_unknown_run_is_said(client: object) -> None:
    with pytest.raises(InputError, match="run nothing: not in the tracking store"):
        recorded(client, "nothing")


def test_what_makes_a_model_is_run_again_and_one_that_left_nothing_is_said(
    client: MlflowClient, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the training: which stages run for which model, and what is compared."""
    ran: list[str] = []

    def stage(name: str, fold: Recorded, place: Path) -> None:
        ran.append(name)
        _predictions(place / "models/other/survival" / fold.model / "fold-0/predictions.parquet", -np.arange(10.0))

    monkeypatch.setattr(reproduction, "_run_stage", stage)
    monkeypatch.setattr(reproduction, "restore", lambda data, place: None)
    monkeypatch.setattr(reproduction, "worktree", lambda commit: nullcontext(workplace / "tree"))
    (workplace / "tree").mkdir()
    experiment = client.create_experiment("other-survival")

    def tracked(model: str) -> str:
        tags = {"level": "fold", "cohort": "other", "task": "survival", "model": model, "fold": "0"}
        run = str(client.create_run(experiment, tags=tags).info.run_id)
        (workplace / "tree/params.yaml").write_text("cohort: demo\n")
        return run

    for model, stages in {"student": ["teach", "distil"], "linear_slide_genes": ["baseline"],
                          "abmil": ["deep_baseline"]}.items():  # fmt: skip
        run = tracked(model)
        client.log_artifact(run, str(_predictions(workplace / "predictions.parquet", -np.arange(10.0))))
        found = reproduction.reproduce(run)
        assert [one.row()["identical"] for one in found] == ["to the bit"]
        assert ran == stages
        ran.clear()
    with pytest.raises(InputError, match="linear_genes left no predictions of fold 0"):
        reproduction.reproduce(tracked("linear_genes"))
    assert ran == []
