"""What `dml doctor` looks at: each check gives a finding with what to do about it."""

import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from dml.config import params as config
from dml.core.errors import DmlError
from dml.core.files import read_parquet

Status = Literal["ok", "warn", "fail"]
PACKAGES = ("torch", "mlflow", "dvc", "optuna", "great-expectations", "openslide-python", "pyarrow", "pandas")
LOOKED_AT, PROBED_PX = 8, 16
"""Slides that are opened, spread over the table, and the side of the corner that is read of each."""
FREE_GB = 5.0
"""Free disk space under which a run is likely to fail."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    check: str
    status: Status
    found: str
    todo: str = ""

    def row(self) -> dict[str, str]:
        """Return the finding as a row of a table."""
        return asdict(self)


def diagnose() -> list[Finding]:
    """Run every check; none of them raises."""
    checks: dict[str, Callable[[], Finding]] = {
        "installation": _installation,
        "params.yaml": _params,
        "stores": _stores,
        "slides": _slides,
        "encoder": _encoder,
        "gpu": _gpu,
        "disk": _disk,
        "dvc": _dvc,
        "tracking": _tracking,
    }
    return [_run(name, check) for name, check in checks.items()]


def _run(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except (DmlError, OSError, ImportError) as error:
        return Finding(name, "fail", " ".join(str(error).split()))


def _installation() -> Finding:
    missing, other, pinned = [], [], _pinned()
    for package in PACKAGES:
        try:
            found = version(package).split("+")[0]
        except PackageNotFoundError:
            missing.append(package)
            continue
        if pinned.get(package, found) != found:
            other.append(f"{package} {found} (pinned {pinned[package]})")
    python = f"Python {platform.python_version()}, torch {version('torch')}" if "torch" not in missing else ""
    if missing:
        return Finding("installation", "fail", f"missing: {', '.join(missing)}", "make install")
    if other:
        return Finding("installation", "warn", f"other versions than tested: {', '.join(other)}", "make install")
    return Finding("installation", "ok", python)


def _pinned() -> dict[str, str]:
    path = Path("constraints.txt")
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {name.strip().lower(): number.split(";")[0].strip() for name, number in pairs}


def _params() -> Finding:
    params = config.load()
    return Finding("params.yaml", "ok", f"cohort {params.cohort}, tasks {', '.join(params.tasks)}")


def _stores() -> Finding:
    cohort = config.load().cohort
    folder, raw = Path("data") / cohort, Path("data/raw") / cohort
    needed = ("patients.parquet", "slides.parquet", "splits.parquet", "features/manifest.parquet")
    missing = [name for name in needed if not (folder / name).exists()]
    if not raw.exists():
        todo = "dml cohort demo" if cohort == "demo" else f"dml cohort import {cohort} --source FOLDER"
        return Finding("stores", "warn", f"no raw data of cohort {cohort} in {raw}", todo)
    if missing:
        return Finding("stores", "warn", f"not made yet: {', '.join(missing)}", "dvc repro")
    patients = read_parquet(folder / "patients.parquet", ["patient_id"])[0].num_rows
    return Finding("stores", "ok", f"{patients} patients in {folder}")


def _slides() -> Finding:
    import openslide

    library = f"OpenSlide {openslide.__library_version__}"
    table = Path("data") / config.load().cohort / "slides.parquet"
    if not table.exists():
        return Finding("slides", "ok", f"{library}; no slide table yet")
    paths = [path for path in read_parquet(table, ["path"])[0]["path"].to_pylist() if path]
    if not paths:
        return Finding("slides", "ok", f"{library}; features are imported, no slide files needed")
    asked = paths[:: max(1, len(paths) // LOOKED_AT)][:LOOKED_AT]
    wrong = [problem for path in asked if (problem := _unreadable(Path(path)))]
    if wrong:
        todo = "Correct or remove them; up to tiles.max_failed of the slides may fail"
        return Finding("slides", "warn", f"{library}; {len(wrong)} of {len(asked)} cannot be read: {wrong[0]}", todo)
    return Finding("slides", "ok", f"{library}; {len(asked)} of {len(paths)} slides opened")


def _unreadable(path: Path) -> str:
    """Say why a slide cannot be read at a known resolution; empty if it can."""
    from dml.slides.reader import open_slide

    try:
        with open_slide(path) as slide:
            slide.read_tile(0, 0, PROBED_PX, slide.mpp)
    except (DmlError, OSError) as error:
        return " ".join(str(error).split())
    return ""


def _encoder() -> Finding:
    from dml.features.encoders.registry import get

    name = config.load().embed.encoder
    if config.load().embed.source == "import":
        return Finding("encoder", "ok", f"{name}: features are imported")
    card = get(name)
    return Finding("encoder", "ok", f"{name}, {card.width} dimensions")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("gpu", "ok", torch.cuda.get_device_name())
    return Finding("gpu", "ok", f"none: {torch.get_num_threads()} processor threads are used")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    todo = "" if free > FREE_GB else "Free some space: .work and mlruns/artifacts of old runs are the first candidates"
    return Finding("disk", "ok" if free > FREE_GB else "warn", f"{free:.0f} GiB free", todo)


def _dvc() -> Finding:
    if not Path("dvc.yaml").exists() or not Path(".dvc").exists():
        return Finding("dvc", "fail", "no dvc.yaml or .dvc here", "Run from the root of the repository")
    locked = Path("dvc.lock").exists()
    return Finding("dvc", "ok", "dvc.lock is there" if locked else "nothing was run yet", "" if locked else "dvc repro")


def _tracking() -> Finding:
    from dml.tracking import store

    count = len(store.connect(must_exist=True).search_experiments())
    return Finding("tracking", "ok", f"{store.uri()}, {count} experiments")
