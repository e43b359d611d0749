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
from dml.core.files import digest
from dml.core.model_name import ModelName
from dml.models import registry

STORES = ("patients.parquet", "expression.parquet", "gene_groups.json", "features", "splits.parquet")
"""What models are trained from, inside ``data/<cohort>``."""
_DATA = ("cohort", "seed", "tiles")
_NEURAL = (*_DATA, "inputs", "model", "optimisation")
_SECTIONS = {
    "teach": (*_NEURAL, "teacher"),
    "distil": (*_NEURAL, "teacher", "distillation"),
    "deep_baseline": _NEURAL,
    "baseline": (*_DATA, "baselines"),
}
"""Sections that reach the models of a stage; how patients were split is in the hash of the splits."""
_STAGES = {"teacher": "teach", "student": "distil", "student_undistilled": "distil"}


def stage_of(model: str) -> str:
    """Name of the stage that trains a model, or that a model with clinical columns beside it goes back to."""
    name = ModelName.parse(model).base
    return _STAGES.get(name, "deep_baseline" if name in registry.deep_names() else "baseline")


def relevant(params: Params, model: str) -> dict[str, Any]:
    """Select the parameters that make a model what it is, by their names in params.yaml; the fold is not among them."""
    content = params.model_dump(mode="json")
    content["baselines"].pop("deep")  # which are trained, not how
    chosen = {name: content[name] for name in _SECTIONS[stage_of(model)]}
    # of how tokens were made, only the encoder reaches a model; of the evaluation, the years it predicts
    return {**chosen, "embed": {"encoder": content["embed"]["encoder"]}, "years": content["evaluation"]["years"]}


def as_trained(params: Params, task: str, model: str, lock: Path = Path("dvc.lock")) -> Params:
    """Return the parameters that a model on disk was trained with, as DVC recorded them when its stage ended.

    params.yaml may have been changed since without training again (``dvc repro --single-item evaluate@...``); then the
    model must still find its own run. Where nothing valid is recorded it is params.yaml that counts.
    """
    own, locked, content = stage_of(model), _locked(lock), params.model_dump(mode="json")
    for stage in ("teach", own) if own == "distil" else (own,):  # a student's run names its teacher's parameters, too
        recorded = locked.get(f"{stage}@{task}-{params.folds[0]}", {}).get("params", {})
        for name, value in recorded.get("params.yaml", {}).items():
            _put(content, name, value)
    try:
        return Params.model_validate(content)
    except ValidationError:  # recorded by a version of the code that had other parameters
        return params


def _put(content: dict[str, Any], name: str, value: Any) -> None:
    *sections, key = name.split(".")
    for section in sections:
        content = content.setdefault(section, {})
    content[key] = value


def _locked(lock: Path) -> dict[str, Any]:
    """Stages of dvc.lock; none outside a DVC pipeline."""
    return _parsed(lock.resolve(), lock.stat().st_mtime_ns) if lock.exists() else {}


@lru_cache(maxsize=2)
def _parsed(lock: Path, stamp: int) -> dict[str, Any]:
    """Read dvc.lock once for each time it was written: a stage with many short runs asks for it in each."""
    content = yaml.load(lock.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
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


def data_hashes(cohort: str, lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """Hashes that DVC recorded for the stores models are trained from, by path; empty outside a DVC pipeline.

    Outputs, not dependencies, are read: they are known once the stage that wrote them has ended, whatever reads them.
    """
    outs = [out for stage in _locked(lock).values() for out in stage.get("outs") or ()]
    wanted = {f"data/{cohort}/{name}" for name in STORES}
    inside = [out for out in outs if out["path"] in wanted]
    return {out["path"]: str(out.get("md5") or out.get("hash")) for out in sorted(inside, key=lambda out: out["path"])}


def group_key(params: Params, task: str, model: str) -> str:
    """Key of the parent run that all folds of one model share: model, parameters without the fold, input data."""
    return digest(task, model, relevant(params, model), data_hashes(params.cohort))


def commit() -> tuple[str, bool]:
    """Git commit of the working tree and whether tracked files differ from it; ``("unknown", False)`` outside git."""
    head = _git("rev-parse", "HEAD")
    return (head, bool(_git("status", "--porcelain", "--untracked-files=no"))) if head else ("unknown", False)


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def tags(params: Params, task: str, model: str) -> dict[str, str]:
    """Tags of every run: what it is of, which code and which stage made it, and where."""
    head, dirty = commit()
    found = {
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
    return {name: value for name, value in found.items() if value}
