"""Checks of `dml doctor`: parameters, stores, slides, DVC, locks and tracking of the repository in this folder."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dml.config import params as config
from dml.core.dvc_lock import LOCK, WHOLE_LOCK
from dml.core.errors import ConfigError, DmlError, listed
from dml.core.files import WORK, read_parquet

Status = Literal["ok", "warn", "fail"]
STAGES: Mapping[str, str] = {
    "patients.parquet": "cohort",
    "slides.parquet": "cohort",
    "expression.parquet": "cohort",
    "gene_groups.json": "cohort",
    "features/manifest.parquet": "extract_features",
    "splits.parquet": "split",
}
"""Stores inside ``data/<cohort>`` and the stage that writes each."""
N_SLIDES, CORNER_PX = 8, 16
"""Slides that are opened, evenly spaced in the table, and the side of the corner that is read of each."""
STALE_SECONDS = 60.0
"""Age from which git's own lock, which lives for a moment, is left over from a killed process."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check, and the command (or correction) that mends what is wrong."""

    check: str
    status: Status
    result: str
    remedy: str = ""

    def row(self) -> dict[str, str]:
        """Return the finding as a row of a table."""
        return asdict(self)


def check_params() -> Finding:
    """Load params.yaml and find the baselines that it names."""
    from dml.models import registry

    params = config.load()
    for name in params.baselines.deep:
        if registry.entry(name).family != "deep":
            raise ConfigError(
                f"baselines.deep: {name} is no deep baseline; there are {listed(registry.deep_names(), 20)}"
            )
    return Finding("params.yaml", "ok", f"cohort {params.cohort}, tasks {', '.join(params.tasks)}")


def check_cohorts() -> Finding:
    """Load the cohort descriptions; the current one must be valid."""
    from dml.cohorts.description import CohortDescription

    current, problems = config.load().cohort, {}
    names = sorted(path.stem for path in Path("cohorts").glob("*.yaml"))
    for name in dict.fromkeys([current, *names]):
        try:
            CohortDescription.load(name)
        except ConfigError as error:
            problems[name] = " ".join(str(error).split())
    if problems:
        status: Status = "fail" if current in problems else "warn"
        remedy = "dml migrate" if any("dml migrate" in text for text in problems.values()) else "Correct the file"
        return Finding("cohorts", status, "; ".join(problems.values()), remedy)
    return Finding("cohorts", "ok", f"{len(names)} described: {listed(names, 10)}")


def check_stores() -> Finding:
    """Find and open every store of the current cohort; a zeroed or truncated file is named."""
    cohort = config.load().cohort
    folder, raw = Path("data") / cohort, Path("data/raw") / cohort
    if not raw.exists():
        remedy = "dml cohort demo" if cohort == "demo" else f"dml cohort import {cohort} --source FOLDER"
        return Finding("stores", "warn", f"no raw data of cohort {cohort} in {raw}", remedy)
    missing = [name for name in STAGES if not (folder / name).exists()]
    if damaged := [folder / name for name in STAGES if name not in missing and not _is_readable(folder / name)]:
        stages = " ".join(dict.fromkeys(STAGES[str(path.relative_to(folder))] for path in damaged))
        files = " ".join(map(str, damaged))
        return Finding("stores", "fail", f"zeroed or truncated: {files}", f"rm {files} && dvc repro {stages}")
    bags = [path for path in sorted((folder / "features").glob("*/*/*.parquet")) if not _is_readable(path)]
    if bags:
        # the twin under .work is the same file by another name: it would be linked again
        first = f"find .work -samefile {bags[0]} -delete; rm {bags[0]}; dvc repro extract_features"
        problem = f"{len(bags)} feature files are zeroed or truncated: {listed(list(map(str, bags)), 3)}"
        return Finding("stores", "fail", problem, f"For each: {first}")
    if missing:
        return Finding("stores", "warn", f"not made yet: {', '.join(missing)}", "dvc repro")
    patients = pq.read_metadata(folder / "patients.parquet").num_rows
    return Finding("stores", "ok", f"{patients} patients in {folder}")


def _is_readable(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.parent.name.replace(".", "").isdigit():  # features/<encoder>/<mpp>/: many, so only their ends
            pq.read_metadata(path)
        else:
            read_parquet(path)
    except (DmlError, OSError, ValueError, pa.ArrowInvalid):
        return False
    return True


def check_slides() -> Finding:
    """Open some slides of the current cohort."""
    import openslide

    library = f"OpenSlide {openslide.__library_version__}"
    table = Path("data") / config.load().cohort / "slides.parquet"
    if not table.exists():
        return Finding("slides", "ok", f"{library}; no slide table yet")
    rows = [row for row in read_parquet(table)[0].to_pylist() if row["path"]]
    if not rows:
        return Finding("slides", "ok", f"{library}; features are imported, no slide files needed")
    sample = rows[:: max(1, len(rows) // N_SLIDES)][:N_SLIDES]
    problems = [problem for row in sample if (problem := _slide_problem(row))]
    if problems:
        remedy = "Correct or remove them; up to tiles.max_failed of the slides may fail"
        result = f"{library}; {len(problems)} of {len(sample)} cannot be read: {problems[0]}"
        return Finding("slides", "warn", result, remedy)
    finer = "; tiles may be finer than an image (slides.upsample)" if any(row.get("upsample") for row in rows) else ""
    return Finding("slides", "ok", f"{library}; {len(sample)} of {len(rows)} slides opened{finer}")


def _slide_problem(row: Mapping[str, Any]) -> str:
    """Why a slide cannot be read at a known resolution; empty if it can."""
    from dml.slides.reader import open_slide

    try:
        with open_slide(Path(row["path"]), row.get("mpp"), row.get("mpp_from")) as slide:
            slide.read_tile(0, 0, CORNER_PX, slide.mpp)
    except (DmlError, OSError) as error:
        return " ".join(str(error).split())
    return ""


def check_dvc() -> Finding:
    """Read dvc.yaml and dvc.lock as DVC does."""
    if not Path("dvc.yaml").exists() or not Path(".dvc").exists():
        return Finding("dvc", "fail", "no dvc.yaml or .dvc here", "Run from the root of the repository")
    if LOCK.is_symlink() and not LOCK.exists():
        remedy = f"dml cohort use {config.load().cohort}"
        return Finding("dvc", "fail", f"dvc.lock is a link to {LOCK.readlink()}, which does not exist", remedy)
    if not LOCK.exists():
        return Finding("dvc", "ok", "nothing was run yet", "dvc repro")
    problem = _lock_problem(LOCK)
    if problem and WHOLE_LOCK.exists() and not _lock_problem(WHOLE_LOCK):
        return Finding("dvc", "fail", f"dvc.lock is {problem}", f"cp {WHOLE_LOCK} {LOCK} && dvc repro")
    if problem:
        remove = f"rm {LOCK.readlink() if LOCK.is_symlink() else LOCK}"
        again = f"dml cohort use {config.load().cohort} && dvc repro" if LOCK.is_symlink() else "dvc repro"
        return Finding(
            "dvc", "fail", f"dvc.lock is {problem}", f"{remove} && {again} (DVC's run cache has the results)"
        )
    return Finding("dvc", "ok", "dvc.lock is valid")


def _lock_problem(lock: Path) -> str:
    text = lock.read_text(errors="replace")
    if not text.strip("\0 \n"):
        return "empty"
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        return f"not YAML ({' '.join(str(error).split())})"
    return "" if isinstance(content, dict) and content.get("schema") else "not a lock of DVC: no schema"


def check_locks() -> Finding:
    """Find locks of processes that ended without releasing them."""
    stale = list(_stale_locks())
    if stale:
        files = " ".join(str(path) for path in stale)
        return Finding("locks", "warn", f"left by processes that ended: {files}", f"rm {files}")
    busy = [path.stem for path in (WORK / "locks").glob("*.pid") if _is_alive(path.read_text())]
    return Finding("locks", "ok", f"at work: {listed(busy)}" if busy else "none is held")


def _stale_locks() -> Iterator[Path]:
    for holder in sorted((WORK / "locks").glob("*.pid")):
        if not _is_alive(holder.read_text()):
            yield holder
    running = Path(".dvc/tmp/rwlock")  # of each path, who reads and who writes it
    if running.exists() and running.read_text().strip():
        owners = [info for path in json.loads(running.read_text()).values() for info in _flatten(path)]
        if owners and not any(_is_alive(str(info.get("pid", ""))) for info in owners):
            yield running
    index = Path(".git/index.lock")
    if index.exists() and time.time() - index.stat().st_mtime > STALE_SECONDS:
        yield index


def _flatten(entry: object) -> Iterator[Mapping[str, object]]:
    """Owners in an entry of DVC's rwlock: {"read": [{pid, cmd}, ...], "write": {pid, cmd}}."""
    if isinstance(entry, dict) and "pid" in entry:
        yield entry
    elif isinstance(entry, dict | list):
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from _flatten(part)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def check_tracking() -> Finding:
    """Open the tracking store and find deleted experiments of the current cohort."""
    from mlflow.entities import ViewType

    from dml.tracking import store

    client, params = store.connect(must_exist=True), config.load()
    used = {f"{params.cohort}-{task}" for task in params.tasks}
    used |= {f"{name}-tuning" for name in used}
    deleted = [e for e in client.search_experiments(ViewType.DELETED_ONLY) if e.name in used]
    if deleted:
        restore = "; ".join(f"mlflow experiments restore --experiment-id {e.experiment_id}" for e in deleted)
        problem = f"deleted experiments, whose names MLflow does not give again: {listed([e.name for e in deleted])}"
        return Finding("tracking", "fail", problem, f"MLFLOW_TRACKING_URI={store.uri()} {restore}")
    count = len(client.search_experiments())
    return Finding("tracking", "ok", f"{store.uri()}, {count} experiments")
