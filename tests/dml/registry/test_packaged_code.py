"""A version predicts through the code it was packed with, also after the working tree has moved on."""

import ast
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from packaging.requirements import Requirement

from dml.config.params import Params
from dml.core.errors import InputError
from dml.encoders import registry as encoders
from dml.models import registry as models
from dml.registry import packaging, registration
from dml.registry import predict as prediction
from dml.registry.packaged_code import code_digest
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
    registration.register(params(), "survival", "student")
    np.save("s1.npy", np.random.default_rng(0).normal(size=(5, WIDTH)).astype(np.float16))
    (code,) = Path("mlruns/artifacts").rglob("code/dml")
    return code


def test_code_is_compared_file_by_file(version: Path) -> None:
    assert code_digest(version) == code_digest(ROOT / "dml")
    (version / "core/types.py").write_text((version / "core/types.py").read_text() + "\n")
    assert code_digest(version) != code_digest(ROOT / "dml")


@pytest.mark.slow
def test_other_code_than_that_of_the_working_tree_predicts_the_same(version: Path) -> None:
    here = prediction.predict(f"{NAME}@challenger", Path("s1.npy"), attention=True)
    predictor = version / "inference" / "predictor.py"
    predictor.write_text(predictor.read_text().replace('"ok" if patient.case', '"ok then" if patient.case'))
    there = prediction.predict(f"{NAME}@challenger", Path("s1.npy"), attention=True)
    assert there["status"].tolist() == ["ok then"]  # by the packed code and no other
    pd.testing.assert_frame_equal(there.drop(columns="status"), here.drop(columns="status"))


@pytest.mark.slow
def test_the_last_line_of_an_error_in_packed_code_is_in_the_message(version: Path) -> None:
    (version / "inference" / "ensemble.py").write_text("raise RuntimeError('made for another torch')")
    with pytest.raises(InputError, match=f"{NAME} version 1: its own code failed: .*made for another torch"):
        prediction.predict(f"{NAME}@challenger", Path("s1.npy"))


def test_attention_goes_to_a_file_for_each_patient(version: Path, tmp_path: Path) -> None:
    Path("absent.csv").write_text("patient_id,path\na/b,s1.npy\nc,gone.npy\n")
    predictions = prediction.predict(f"{NAME}@challenger", Path("absent.csv"), attention=True)
    assert "attention" not in prediction.split_attention(predictions, tmp_path / "maps").columns
    (file,) = (tmp_path / "maps").iterdir()
    tiles = pd.read_parquet(file)
    assert (file.name, len(tiles)) == ("a_b.parquet", 5)
    assert tiles["tumor"].sum() == pytest.approx(1, abs=1e-6)


def test_code_of_a_package_that_was_laid_out_otherwise_predicts(version: Path) -> None:
    """As of a version registered before the packages of dml were renamed: its code has other modules and parameters."""
    shutil.rmtree(version)
    (version / "ops").mkdir(parents=True)
    for name in ("__init__.py", "ops/__init__.py"):
        (version / name).write_text("")
    (version / "ops" / "answering.py").write_text(OLD_ANSWERING)
    (served,) = Path("mlruns/artifacts").rglob("artifacts/served_model.py")
    served.write_text(OLD_SERVED)
    (described,) = Path("mlruns/artifacts").rglob("MLmodel")
    described.write_text(described.read_text().replace("attention", "relevance"))
    rows = prediction.predict(f"{NAME}@challenger", Path("s1.npy"), attention=True).to_dict("records")
    assert rows == [{"patient_id": "s1", "file": str(Path("s1.npy").absolute()), "attention": "[]"}]


OLD_ANSWERING = """
def answer(rows, relevance, **of_later_versions):
    return rows.assign(file=rows["path"], relevance="[]" if relevance else None)[["patient_id", "file", "relevance"]]
"""
OLD_SERVED = """
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

class Served(PythonModel):
    def predict(self, context, model_input, params=None):
        from dml.ops.answering import answer
        return answer(model_input, **params)

set_model(Served())
"""


def test_every_package_that_the_packed_code_imports_is_required() -> None:
    """Directly, or by what is required directly."""
    distributions = packages_distributions()
    models.entries()  # imports their modules
    starts = ["dml.inference.served_model", *(name for name in sys.modules if name.startswith("dml.baselines"))]
    names = {canonical(name) for module in imported(starts) for name in distributions.get(module, ())}
    card = encoders.get("efficientnet_lite0")
    of_encoder = (*card.requirements, *card.runtime_requirements("auto"))
    listed = (*packaging.ALWAYS, *packaging.IF_INSTALLED, *of_encoder)
    never_reached = {"lifelines", "ray"}  # fit models, and spread the slides of a cohort over machines
    assert sorted(names - required(listed) - {"dml"} - never_reached) == []


@pytest.mark.parametrize(
    ("encoder", "needed"),
    [("efficientnet_lite0", "efficientnet-lite-pytorch"), ("uni", "timm"), ("virchow2", "timm"),
     ("phikon", "transformers"), ("own", "onnxruntime"), ("made-elsewhere", "torch")],
)  # fmt: skip
def test_a_version_lists_what_its_encoder_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, needed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("encoders").mkdir()
    Path("encoders/own.yaml").write_text(OWN_ENCODER)
    requirements = {canonical(Requirement(text).name): Requirement(text) for text in packaging.requirements(encoder)}
    assert requirements[needed].specifier  # a version or a bound, never any


OWN_ENCODER = """
file: own.onnx
width: 8
mpp: 0.5
input_px: 224
mean: [0.5, 0.5, 0.5]
std: [0.5, 0.5, 0.5]
licence: none
paper: none
"""


@pytest.mark.parametrize("encoder", encoders.names())
def test_every_requirement_is_installed_here_or_in_an_extra(encoder: str) -> None:
    extras = {canonical(Requirement(text).name) for text in requires("dml") or ()}
    for text in packaging.requirements(encoder):
        name = Requirement(text).name
        try:
            assert version_of(name)
        except PackageNotFoundError:
            assert Requirement(text).url or canonical(name) in extras, name


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def required(packages: Iterable[str]) -> set[str]:
    visited: set[str] = set()
    waiting = [canonical(name) for name in packages]
    while waiting:
        name = waiting.pop()
        if name in visited:
            continue
        visited.add(name)
        try:
            needs = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:  # of another platform
            continue
        waiting += [
            canonical(need.name) for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})
        ]
    return visited


def imported(starts: Iterable[str]) -> set[str]:
    """Top-level modules imported by modules and by what they import of dml."""
    visited, modules = set(), set()
    waiting = [ROOT / f"{name.replace('.', '/')}{end}" for name in starts for end in (".py", "/__init__.py")]
    while waiting:
        path = waiting.pop()
        if path in visited or not path.exists():
            continue
        visited.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                modules.add(name.split(".")[0])
                waiting += [ROOT / f"{name.replace('.', '/')}{end}" for end in (".py", "/__init__.py")]
    return modules
