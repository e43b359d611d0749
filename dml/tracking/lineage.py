"""What a run was made from: parameters, input data (DVC hashes), code version; and the keys that follow."""

import getpass
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from dml.config.params import Params
from dml.core.errors import InputError
from dml.core.files import digest
from dml.core.model_name import ModelName
from dml.models import registry

STORES = ("patients.parquet", "expression.parquet", "gene_groups.json", "features", "splits.parquet")
"""What models are trained from, inside ``data/<cohort>``."""
_DATA = ("cohort", "seed", "tiles")
_NEURAL = (*_DATA, "inputs", "model", "optimisation")
_SECTIONS = {"linear": (*_DATA, "baselines"), "deep": _NEURAL, "ours": (*_NEURAL, "teacher")}
"""Sections of params.yaml that reach the models of a family; how patients were split is in the hash of the splits."""


def relevant(params: Params, model: str) -> dict[str, Any]:
    """Select the parameters that make a model what it is, by their names in params.yaml; the fold is not among them."""
    content = params.model_dump(mode="json")
    content["baselines"].pop("deep")  # which are trained, not how
    entry = registry.entry(ModelName.parse(model).base)
    distilled = ("distillation",) if entry.family == "ours" and entry.name != "teacher" else ()
    pretrained = ("pretraining",) if entry.family == "ours" and params.other_cohorts else ()
    chosen = {name: content[name] for name in (*_SECTIONS[entry.family], *distilled, *pretrained)}
    # of how tokens were made, only the encoder reaches a model; of the evaluation, the years it predicts
    parts = {"embed": {"encoder": content["embed"]["encoder"]}, "evaluation": {"years": content["evaluation"]["years"]}}
    return {**chosen, **parts}


def as_trained(params: Params, task: str, model: str, lock: Path = Path("dvc.lock")) -> Params:
    """Return the parameters that a model on disk was trained with, as DVC recorded them when its stage ended.

    params.yaml may have been changed since without training again (``dvc repro --single-item evaluate@...``); then the
    model must still be matched with its own run. Where nothing valid is recorded, params.yaml counts.
    """
    content = params.model_dump(mode="json")
    path = f"models/{params.cohort}/{task}/{ModelName.parse(model).base}/fold-{params.folds[0]}"
    for recorded in _behind(path, _locked(lock)):
        for name, value in recorded.get("params", {}).get("params.yaml", {}).items():
            _put(content, name, value)
    try:
        return Params.model_validate(content)
    except ValidationError:  # recorded by a version of the code that had other parameters
        return params


def _behind(output: str, stages: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Stages that trained a model: that of its output, after those of what it needs (teacher, initial weights)."""
    made_by = [stage for stage in stages.values() if output in _paths(stage, "outs")]
    paths = [path for stage in made_by for path in _paths(stage, "deps")]
    needed = [path for path in paths if path.startswith("models/") or "/pretraining/" in path]
    return [stage for path in needed for stage in _behind(path, stages)] + made_by


def _paths(stage: Mapping[str, Any], kind: str) -> list[str]:
    return [item["path"] for item in stage.get(kind) or ()]


def _put(content: dict[str, Any], name: str, value: Any) -> None:
    *sections, key = name.split(".")
    for section in sections:
        content = content.setdefault(section, {})
    content[key] = value


def _locked(lock: Path) -> dict[str, Any]:
    """Stages of dvc.lock; none outside a DVC pipeline."""
    return _parse_lock(lock.resolve(), lock.stat().st_mtime_ns) if lock.exists() else {}


@lru_cache(maxsize=2)
def _parse_lock(lock: Path, stamp: int) -> dict[str, Any]:
    """Read dvc.lock once for each time it was written: a stage with many short runs asks for it in each."""
    try:
        content = yaml.load(lock.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    except yaml.YAMLError:
        raise InputError(lock, "not YAML", "dml doctor has the command that restores it") from None
    return dict(content.get("stages") or {})


def flat(sections: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested parameters to the dotted names that ``dvc repro -S`` takes: ``optimisation.learning_rate``."""
    result: dict[str, str] = {}
    for name, value in sections.items():
        content = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        if isinstance(content, Mapping):
            result |= flat(content, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = str(list(content) if isinstance(content, tuple) else content)
    return result


def data_hashes(cohort: str, lock: Path = Path("dvc.lock"), pretrained: bool = False) -> dict[str, str]:
    """Hashes that DVC recorded for the stores models are trained from, by path; empty outside a DVC pipeline.

    With `pretrained` also of the weights that networks start from, of the folds that have some.

    Outputs, not dependencies, are read: they are known once the stage that wrote them has ended, whatever reads them.
    """
    outs = [out for stage in _locked(lock).values() for out in stage.get("outs") or ()]
    stores = {f"data/{cohort}/{name}" for name in STORES}
    folder = f"data/{cohort}/pretraining/"
    used = [out for out in outs if out["path"] in stores or (pretrained and out["path"].startswith(folder))]
    inputs = sorted(used, key=lambda out: out["path"])
    return {out["path"]: str(out.get("md5") or out.get("hash")) for out in inputs}


def group_key(params: Params, task: str, model: str) -> str:
    """Key of the parent run that all folds of one model share: model, parameters without the fold, input data."""
    return digest(task, model, relevant(params, model), data_hashes(params.cohort))


def commit() -> tuple[str, bool]:
    """Git commit of the working tree and whether tracked files differ from it; ``("unknown", False)`` outside git."""
    head = _git("rev-parse", "HEAD")
    return (head, bool(_git("status", "--porcelain", "--untracked-files=no"))) if head else ("unknown", False)


def _git(*arguments: str) -> str:
    try:
        process = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""


def tags(params: Params, task: str, model: str) -> dict[str, str]:
    """Tags of every run: what it is of, which code and which stage made it, and where."""
    head, dirty = commit()
    values = {
        "cohort": params.cohort,
        "task": task,
        "model": model,
        "group": group_key(params, task, model),
        "git_commit": head,
        "git_dirty": str(dirty).lower(),
        "DVC_STAGE": os.environ.get("DVC_STAGE", ""),
        "DVC_EXP_NAME": os.environ.get("DVC_EXP_NAME", ""),
        "mlflow.source.git.commit": head,
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": getpass.getuser(),
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
    }
    return {name: value for name, value in values.items() if value}
