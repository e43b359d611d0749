"""A run rebuilt from what was recorded: data by hash, parameters, the commit, and an honest comparison."""

import hashlib
import json
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc.repo import Repo
from mlflow import MlflowClient

from dml.core.errors import DmlError, InputError
from dml.core.predictions import write_predictions
from dml.experiments import reproduce as reproduction
from dml.experiments.recorded_fold import RecordedFold, recorded_folds, restore_data, worktree, write_params
from dml.experiments.reproduce import compare, training_commands

ROOT = Path(__file__).resolve().parents[3]


def _hashed(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _put(cache: Path, text: str, ending: str = "") -> str:
    hashed = _hashed(text)
    path = cache / hashed[:2] / (hashed[2:] + ending)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return hashed + ending


def test_data_are_restored_by_their_hash_whatever_is_there_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    restore_data(data, Path("tree"), cache)
    assert Path("tree/data/x/patients.parquet").read_text() == "old patients"
    assert Path("tree/data/x/features/0.5/s1.parquet").read_text() == "bag"
    assert Path("tree/data/x/splits.parquet").read_text() == "uncached splits"
    Path("data/x/splits.parquet").write_text("other splits")
    with pytest.raises(InputError, match=r"splits.parquet: neither in DVC's cache nor here with hash"):
        restore_data(data, Path("again"), cache)
    with pytest.raises(InputError, match="recorded no hashes"):
        restore_data({}, Path("again"), cache)


def _record(**changes: object) -> RecordedFold:
    plain = {"run_id": "r", "cohort": "other", "task": "survival", "model": "teacher", "fold": 0, "commit": "c"}
    return RecordedFold(**{**plain, "dirty": False, "params": {}, "data": {}, **changes})


def test_recorded_parameters_win_over_those_of_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("cohort: demo\nseed: 1\nmodel: {width: 64, dropout: 0.1}\nbaselines: {deep: [abmil]}\n")
    logged = {"seed": "7", "model.width": "128", "inputs.covariates": "['age']", "years": "[1.0, 2.0]",
              "optimisation.device": "auto", "teacher.use_fusion": "True"}  # fmt: skip
    write_params(path, _record(params=logged, model="mcat", fold=2))
    content = yaml.safe_load(path.read_text())
    assert content == {
        "cohort": "other", "seed": 7, "model": {"width": 128, "dropout": 0.1}, "baselines": {"deep": ["mcat"]},
        "inputs": {"covariates": ["age"]}, "evaluation": {"years": [1.0, 2.0]}, "optimisation": {"device": "auto"},
        "teacher": {"use_fusion": True}, "tasks": ["survival"], "folds": [0, 1, 2],
    }  # fmt: skip


def test_of_a_linear_baseline_the_deep_ones_are_left_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("cohort: demo\nbaselines: {deep: [abmil], components: 5}\n")
    write_params(path, _record(params={"baselines.components": "15"}, model="linear_slide_genes"))
    assert yaml.safe_load(path.read_text())["baselines"] == {"deep": ["abmil"], "components": 15}


@pytest.mark.parametrize(
    ("model", "stages"),
    [("teacher", ["train_teacher"]), ("student", ["train_teacher", "distill_student"]),
     ("linear_slide_genes", ["train_linear_baselines"]), ("mcat", ["train_deep_baseline"])],
)  # fmt: skip
def test_stages_are_those_that_dvc_yaml_has_for_the_model(tmp_path: Path, model: str, stages: list[str]) -> None:
    Repo.init(str(tmp_path), no_scm=True).close()
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    fold = _record(model=model, fold=3)
    write_params(tmp_path / "params.yaml", fold)
    commands = training_commands(tmp_path, fold)
    assert [command.split()[2] for command in commands] == [f"pipelines.{stage}" for stage in stages]
    assert all("--task survival --fold 3" in command for command in commands)


def test_stages_of_a_commit_of_before_are_found_by_its_own_names(tmp_path: Path) -> None:
    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text(OLD_STAGES)
    (tmp_path / "params.yaml").write_text("cohort: other\ntasks: [survival]\nfolds: [0, 1]\n")
    assert training_commands(tmp_path, _record(model="baseline_abmil")) == ["python -m old.deep --fold 0"]
    with pytest.raises(InputError, match=r"no stage of its dvc\.yaml trains models/other"):
        training_commands(tmp_path, _record(model="mcat"))


OLD_STAGES = """
stages:
  deep:
    foreach: ${folds}
    do:
      cmd: python -m old.deep --fold ${item}
      outs: ["models/${cohort}/survival/baseline_abmil/fold-${item}"]
"""


def test_the_worktree_is_that_commit_and_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def git(*arguments: str) -> str:
        author = ("-c", "user.name=t", "-c", "user.email=t@t")
        return subprocess.run(["git", *author, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    commits = []
    for text in ("old", "new"):
        Path("code.py").write_text(text)
        git("add", "code.py")
        git("commit", "-qm", text)
        commits.append(git("rev-parse", "HEAD"))
    Path("code.py").write_text("not committed")
    with worktree(commits[0]) as tree:
        assert (tree / "code.py").read_text() == "old"
    assert not tree.exists()
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


def test_an_unknown_run_is_an_error(client: object) -> None:
    with pytest.raises(InputError, match="run nothing: not in the tracking store"):
        recorded_folds(client, "nothing")


def test_a_run_is_trained_again_and_one_without_predictions_is_an_error(
    client: MlflowClient, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the training: what is run, and what is compared."""
    ran: list[str] = []

    def run(command: str, fold: RecordedFold, tree: Path) -> None:
        ran.append(command)
        _predictions(tree / fold.folder / "predictions.parquet", -np.arange(10.0))

    monkeypatch.setattr(reproduction, "_run", run)
    monkeypatch.setattr(reproduction, "training_commands", lambda tree, fold: [f"train {fold.model}"])
    monkeypatch.setattr(reproduction, "restore_data", lambda data, tree: None)
    monkeypatch.setattr(reproduction, "worktree", lambda commit: nullcontext(workplace / "tree"))
    (workplace / "tree").mkdir()
    (workplace / "tree/params.yaml").write_text("cohort: demo\n")
    experiment = client.create_experiment("other-survival")

    def tracked(model: str) -> str:
        tags = {"level": "fold", "cohort": "other", "task": "survival", "model": model, "fold": "0"}
        return str(client.create_run(experiment, tags=tags).info.run_id)

    run_id = tracked("student")
    client.log_artifact(run_id, str(_predictions(workplace / "predictions.parquet", -np.arange(10.0))))
    assert [one.row()["identical"] for one in reproduction.reproduce(run_id)] == ["to the bit"]
    with pytest.raises(InputError, match="linear_genes left no predictions of fold 0"):
        reproduction.reproduce(tracked("linear_genes"))
    assert ran == ["train student"]
