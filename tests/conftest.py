"""Shapes are checked while testing; the seed is printed; development data is found or its tests skip with a reason."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

hook = install_import_hook(["dml.models", "dml.pretraining", "dml.training"], "beartype.beartype")

ROOT = Path(__file__).resolve().parents[1]
UNIT = ("core", "config", "readers", "cohorts", "data", "models", "baselines/linear", "evaluation")
"""Folders of tests/dml whose tests take milliseconds; in the others models are trained and files are written."""
SEED = int(os.environ.get("DML_TEST_SEED", "20260"))


def pytest_report_header() -> str:
    return f"seed {SEED} (DML_TEST_SEED); development data in {_shared_data()}"


def _shared_data() -> Path:
    return Path(os.environ.get("DML_SHARED_DATA", ROOT.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    unit = [ROOT / "tests/dml" / name for name in UNIT]
    for item in items:
        folders = (item.path.parent, *item.path.parents)
        is_unit = any(folder in folders for folder in unit) or item.path.parent == ROOT / "tests"
        if not is_unit or ROOT / "tests/dml/probes" in folders:
            item.add_marker("integration")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(SEED)
    np.random.default_rng(SEED)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


@pytest.fixture
def shared_data() -> Path:
    folder = _shared_data()
    if not folder.exists():
        pytest.skip(f"development data is not in {folder} (set DML_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def gene_sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Invented gene sets for models with pathways, in processes of their own, too."""
    sets = {"HYPOXIA": range(12), "GLYCOLYSIS": range(10, 20), "MYOGENESIS": range(20, 26)}
    lines = ["\t".join([name, "invented", *(f"SET{i}" for i in members)]) for name, members in sets.items()]
    path = tmp_path_factory.mktemp("gene_sets") / "invented.gmt"
    path.write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DML_GENE_SETS", str(path))
        yield
