"""DVC does not follow imports: each stage must list the library modules that it imports, or a change goes unnoticed."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
WITHOUT_EFFECT_ON_RESULTS = (
    "dml/tracking",
    "dml/core/errors.py",
    "dml/config",
    "dml/__init__.py",
    "pipelines/__init__.py",
)
"""Tracking, messages, and parameters (which DVC follows as params, not as a file)."""


@cache
def imported(path: Path) -> frozenset[Path]:
    """Files of this project that a file imports directly, at any depth of its functions."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in ("dml", "pipelines"):
                found |= {p for p in _files(name) if (ROOT / p).exists()}
    return frozenset(found)


def _has_code(file: Path) -> bool:
    """A package's __init__ that only says what the package is changes nothing."""
    body = ast.parse((ROOT / file).read_text()).body
    return file.name != "__init__.py" or any(not isinstance(node, ast.Expr) for node in body)


def _files(name: str) -> set[Path]:
    parts = name.split(".")
    packages = {Path(*parts[: i + 1]) / "__init__.py" for i in range(len(parts))}
    return packages | {Path(*parts).with_suffix(".py")}


def closure(path: Path) -> set[Path]:
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current not in seen and not current.as_posix().startswith(WITHOUT_EFFECT_ON_RESULTS[:1]):
            seen.add(current)
            waiting.extend(imported(current))
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_it_imports(stage: str) -> None:
    listed = [Path(dep) for dep in STAGES[stage]["deps"]]
    missing = [
        file.as_posix()
        for file in sorted(closure(Path(f"pipelines/{stage}.py")))
        if not file.as_posix().startswith(WITHOUT_EFFECT_ON_RESULTS)
        and not any(dep == file or dep in file.parents for dep in listed)
        and _has_code(file)
    ]
    assert missing == []


@pytest.mark.parametrize("stage", STAGES)
def test_listed_modules_exist(stage: str) -> None:
    sources = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("dml/", "pipelines/"))]
    assert [dep for dep in sources if not (ROOT / dep).exists()] == []
