"""A version answers through the code it was packed with, also after the working tree has moved on."""

import ast
import json
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from packaging.requirements import Requirement

from dml.config.params import Params
from dml.core.errors import InputError
from dml.registry import packaged_code as packed
from dml.registry import packaging
from dml.registry import predict as prediction
from dml.registry import versions as registry
from tests.trained_models import WIDTH, write_folds

Build = Callable[..., Params]
ROOT = Path(__file__).resolve().parents[3]
NAME = "demo-survival-student"


@pytest.fixture
def version(client: MlflowClient, params: Build) -> Path:
    """Register a student; return the folder of the packed code."""
    write_folds(Path("models/demo/survival/student"), "student", mpps=(0.5,))
    reports = Path("reports/demo/survival")
    reports.mkdir(parents=True)
    (reports / "metrics.json").write_text(json.dumps({"student": {"c_index": {"value": 0.7}}}))
    registry.register(params(), "survival", "student")
    np.save("s1.npy", np.random.default_rng(0).normal(size=(5, WIDTH)).astype(np.float16))
    (code,) = Path("mlruns/artifacts").rglob("code/dml")
    return code


def test_the_code_of_a_version_is_recognised(version: Path) -> None:
    assert packed.code_digest(version) == packed.code_digest(ROOT / "dml")
    (version / "types.py").write_text((version / "types.py").read_text() + "\n")
    assert packed.code_digest(version) != packed.code_digest(ROOT / "dml")


@pytest.mark.slow
def test_other_code_than_that_of_the_working_tree_answers_the_same(version: Path) -> None:
    here = prediction.predict(f"{NAME}@challenger", Path("s1.npy"), attention=True)
    answering = version / "ops" / "answering.py"
    answering.write_text(answering.read_text().replace('"ok" if request.case', '"ok then" if request.case'))
    there = prediction.predict(f"{NAME}@challenger", Path("s1.npy"), attention=True)
    assert there["status"].tolist() == ["ok then"]  # said by the packed code and no other
    pd.testing.assert_frame_equal(there.drop(columns="status"), here.drop(columns="status"))


@pytest.mark.slow
def test_a_version_that_fails_by_its_own_code_says_why(version: Path) -> None:
    (version / "ops" / "ensemble.py").write_text("raise RuntimeError('made for another torch')")
    with pytest.raises(InputError, match=f"{NAME} version 1: its own code failed: .*made for another torch"):
        prediction.predict(f"{NAME}@challenger", Path("s1.npy"))


def test_relevance_goes_to_a_file_for_each_patient(version: Path, tmp_path: Path) -> None:
    Path("absent.csv").write_text("patient_id,path\na/b,s1.npy\nc,gone.npy\n")
    said = prediction.predict(f"{NAME}@challenger", Path("absent.csv"), attention=True)
    kept = prediction.split_relevance(said, tmp_path / "looked")
    assert "attention" not in kept.columns
    (file,) = (tmp_path / "looked").iterdir()
    tiles = pd.read_parquet(file)
    assert (file.name, len(tiles)) == ("a_b.parquet", 5)
    assert tiles["tumor"].sum() == pytest.approx(1, abs=1e-6)


def test_every_package_that_the_packed_code_imports_is_required() -> None:
    """Directly, or by what is required directly."""
    known = packages_distributions()
    names = {
        canonical(name) for module in imported(Path("dml/inference/served_model.py")) for name in known.get(module, ())
    }
    never_reached = {"lifelines", "ray"}  # fit models, and spread the slides of a cohort over machines
    assert sorted(names - required(packaging.REQUIREMENTS) - {"dml"} - never_reached) == []


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def required(packages: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    waiting = [canonical(name) for name in packages]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            needs = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:  # of another platform
            continue
        waiting += [
            canonical(need.name) for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})
        ]
    return seen


def imported(start: Path) -> set[str]:
    """Top-level modules imported by a file and by what it imports of dml."""
    seen, found, waiting = set(), set(), [ROOT / start]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                found.add(name.split(".")[0])
                waiting += [ROOT / f"{name.replace('.', '/')}{end}" for end in (".py", "/__init__.py")]
    return found
