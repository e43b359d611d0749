"""A wheel works outside the checkout: its data are in it, and the tutorial's last section trains a fold with it."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dml.cohorts.splits import write_splits
from tests.synthetic import cohort, splits, write_store

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
RESOURCES = """
import dml
from dml.cohorts.gene_groups import read_resource
from dml.genes.gene_symbols import rename
from dml.encoders.registry import get
from dml.models.registry import entries
from dml.report.templates import __path__ as templates

print(dml.__file__)
print(len(read_resource("default")["tumor"]), rename(["KIAA1524"]).names, get("uni").width, "abmil" in entries())
"""
pytestmark = [pytest.mark.slow, pytest.mark.integration]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building leaves files beside pyproject.toml
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "dml", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", *build], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path) -> Path:
    site = wheel.parent / "site"
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True)
    return site


def run(code: str, folder: Path, site: Path) -> str:
    """Run Python in a folder where `dml` is that of the wheel."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_the_library_and_its_data_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"dml"}
    tracked = subprocess.run(
        ["git", "ls-files", "dml"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    data = {name for name in tracked if not name.endswith(".py") and (ROOT / name).exists()}
    assert data <= set(names)


def test_resources_are_read_from_the_wheel(tmp_path: Path, site: Path) -> None:
    where, content = run(RESOURCES, tmp_path, site).splitlines()
    assert Path(where).is_relative_to(site)
    assert content.endswith("1024 True")


def test_a_fold_is_trained_outside_the_checkout_as_the_tutorial_shows(tmp_path: Path, site: Path) -> None:
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL) if "train_teacher" in block]
    code = code.replace('"efficientnet_lite0"', '"fake"').replace("epochs=10", "epochs=1")
    data = cohort(48)
    store = write_store(data, tmp_path / "data/demo")
    write_splits(store.splits_path, splits(data).assign(stratum=""), {})
    assert "survival_365" in run(code, tmp_path, site)
