"""dvc.yaml lists what decides the output of each stage, and nothing else: DVC does not follow imports."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

from dml.models import registry

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
FOLLOWED = {"register": ("pipelines", "dml/registry", "dml/core")}
"""Where imports are followed, if not everywhere: registered.json names weights and metrics; other code is packed."""
CLEAN = ("train_teacher", "distill_student", "probe", "split")
"""Stages that cost hours on a real cohort."""
TOUCHED = (
    "dml/baselines/deep/abmil.py",
    "dml/baselines/linear/fit.py",
    "dml/experiments/ablation_variants.py",
    "dml/demo/paint.py",
    "docs/architecture.md",
    "README.md",
)


@cache
def imported(path: Path) -> frozenset[Path]:
    """Files of this project that a file imports directly, at any depth of its functions."""
    files = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in ("dml", "pipelines"):
                files |= {p for p in _files(name) if (ROOT / p).exists()}
    return frozenset(files)


def _has_code(file: Path) -> bool:
    """A package's __init__ that only describes the package changes nothing."""
    body = ast.parse((ROOT / file).read_text()).body
    return file.name != "__init__.py" or any(not isinstance(node, ast.Expr) for node in body)


def _files(name: str) -> set[Path]:
    parts = name.split(".")
    packages = {Path(*parts[: i + 1]) / "__init__.py" for i in range(len(parts))}
    return packages | {Path(*parts).with_suffix(".py")}


def closure(start: list[Path], followed: tuple[str, ...]) -> set[Path]:
    """All files under some folders that decide results and that some files import, directly or not."""
    reached: set[Path] = set()
    waiting = list(start)
    while waiting:
        current = waiting.pop()
        decides = not current.as_posix().startswith(WITHOUT_EFFECT_ON_RESULTS)
        if current not in reached and decides and current.as_posix().startswith(followed):
            reached.add(current)
            waiting.extend(imported(current))
    return {file for file in reached if _has_code(file)}


def variants(stage: str) -> list[str | None]:
    """Models that a stage is run for, or None for a stage without `model` in its matrix."""
    return list(registry.deep_names()) if "model" in STAGES[stage].get("matrix", {}) else [None]


def library_deps(stage: str, model: str | None) -> list[Path]:
    deps = [dep.replace("${item.model}", str(model)) for dep in STAGES[stage]["deps"]]
    return [Path(dep) for dep in deps if dep.startswith(("dml/", "pipelines/"))]


def needed(stage: str, model: str | None) -> set[Path]:
    start = [Path(f"pipelines/{stage}.py")]
    if model is not None:
        start.append(Path(f"dml/baselines/deep/{model}.py"))
    return closure(start, FOLLOWED.get(stage, ("pipelines", "dml")))


def covers(dep: Path, file: Path) -> bool:
    return dep == file or dep in file.parents


CASES = [(stage, model) for stage in STAGES for model in variants(stage)]


@pytest.mark.parametrize(("stage", "model"), CASES)
def test_a_stage_depends_on_every_module_it_imports(stage: str, model: str | None) -> None:
    deps = library_deps(stage, model)
    missing = [file.as_posix() for file in needed(stage, model) if not any(covers(dep, file) for dep in deps)]
    assert sorted(missing) == []


@pytest.mark.parametrize(("stage", "model"), CASES)
def test_a_stage_depends_on_no_code_it_does_not_import(stage: str, model: str | None) -> None:
    deps, files = library_deps(stage, model), needed(stage, model)
    assert [dep.as_posix() for dep in deps if not any(covers(dep, file) for file in files)] == []
    assert [dep.as_posix() for dep in deps if not (ROOT / dep).exists()] == []


@pytest.mark.parametrize("stage", CLEAN)
def test_baselines_ablation_report_demo_and_documents_leave_a_stage_clean(stage: str) -> None:
    report = [path.relative_to(ROOT).as_posix() for path in (ROOT / "dml/report").rglob("*") if path.is_file()]
    assert any(name.endswith((".html", ".md")) for name in report), "the templates are there"
    for name in (*TOUCHED, *report):
        assert (ROOT / name).exists(), name
        assert not any(covers(Path(dep), Path(name)) for dep in STAGES[stage]["deps"]), name


def test_the_outputs_of_training_stages_are_the_models_of_the_registry() -> None:
    models = [out.split("/")[3] for stage in STAGES.values() for out in stage["outs"] if out.startswith("models/")]
    stages = [name for name in registry.entries() if name not in registry.variant_names()]
    trained = ["${item.model}" if name in registry.deep_names() else name for name in stages]
    assert sorted(models) == sorted(dict.fromkeys(trained))
