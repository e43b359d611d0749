"""Checks of `dml doctor`: installation and machine here, the state of the repository in `doctor_state`."""

import importlib.util
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from dml.cli import doctor_state as state
from dml.cli.doctor_state import Finding
from dml.config import params as config

PACKAGES = ("torch", "mlflow", "dvc", "optuna", "great-expectations", "openslide-python", "pyarrow", "pandas")
MIN_FREE_GB = 5.0
"""Free disk space under which a run is likely to fail."""


def run_checks() -> list[Finding]:
    """Run every check; an error of one is its finding."""
    checks: dict[str, tuple[Callable[[], Finding], str]] = {
        "installation": (_check_installation, "make install"),
        "params.yaml": (state.check_params, "dml migrate, or correct the key that is named"),
        "cohorts": (state.check_cohorts, "dml migrate, or correct the key that is named"),
        "stores": (state.check_stores, "dvc repro"),
        "slides": (state.check_slides, "Correct the paths in the slide table, then dvc repro"),
        "encoder": (_check_encoder, "Choose another with embed.encoder, or correct its file"),
        "gpu": (_check_gpu, "Set optimisation.device: cpu"),
        "disk": (_check_disk, ""),
        "dvc": (state.check_dvc, "Run from the root of the repository"),
        "locks": (state.check_locks, ""),
        "tracking": (state.check_tracking, "Correct MLFLOW_TRACKING_URI, or: unset MLFLOW_TRACKING_URI"),
    }
    return [_run(name, check, remedy) for name, (check, remedy) in checks.items()]


def _run(name: str, check: Callable[[], Finding], remedy: str) -> Finding:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever is broken is what this command is for
        message = " ".join(str(error).split()) or type(error).__name__
        return Finding(name, "fail", message, remedy)


def _check_installation() -> Finding:
    missing, other, pinned = [], [], _pinned_versions()
    for package in PACKAGES:
        try:
            installed = version(package).split("+")[0]
        except PackageNotFoundError:
            missing.append(package)
            continue
        if pinned.get(package, installed) != installed:
            other.append(f"{package} {installed} (pinned {pinned[package]})")
    if missing:
        return Finding("installation", "fail", f"missing: {', '.join(missing)}", "make install")
    if other:
        return Finding("installation", "warn", f"other versions than tested: {', '.join(other)}", "make install")
    return Finding("installation", "ok", f"Python {platform.python_version()}, torch {version('torch')}")


def _pinned_versions() -> dict[str, str]:
    path = Path("constraints.txt")
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {name.strip().lower(): number.split(";")[0].strip() for name, number in pairs}


def _check_encoder() -> Finding:
    from dml.encoders import registry

    embed = config.load().embed
    card = registry.get(embed.encoder)
    if embed.source == "import":
        return Finding("encoder", "ok", f"{card.name}: features are imported")
    if card.import_only:
        problem = f"{card.name} cannot encode tiles: only features extracted elsewhere are read"
        return Finding("encoder", "fail", problem, "Set embed.source: import, or choose another embed.encoder")
    missing = [package for package in card.requirements if not _is_importable(package)]
    if missing:
        problem = f"{card.name} needs {', '.join(missing)}, which cannot be imported"
        return Finding("encoder", "fail", problem, f"pip install {' '.join(missing)} -c constraints.txt")
    return Finding("encoder", "ok", f"{card.name}, {card.width} dimensions")


def _is_importable(package: str) -> bool:
    """Whether a package of PyPI is installed, under whatever name it is imported."""
    try:
        files = distribution(package).files or ()
    except PackageNotFoundError:
        return importlib.util.find_spec(package.replace("-", "_")) is not None
    return any(file.suffix in (".py", ".so") for file in files)


def _check_gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("gpu", "ok", torch.cuda.get_device_name())
    if config.load().optimisation.device.startswith("cuda"):
        return Finding(
            "gpu", "fail", "optimisation.device is cuda, but there is no GPU", "Set optimisation.device: auto"
        )
    return Finding("gpu", "ok", f"none: {torch.get_num_threads()} processor threads are used")


def _check_disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free > MIN_FREE_GB:
        return Finding("disk", "ok", f"{free:.0f} GiB free")
    return Finding(
        "disk", "warn", f"{free:.0f} GiB free", "dvc gc --workspace, or rm -r .work (both can be made again)"
    )
