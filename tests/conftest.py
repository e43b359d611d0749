"""Shapes are checked while testing; the seed is printed; development data is found or its tests skip with a reason."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

hook = install_import_hook(["dml.models", "dml.training"], "beartype.beartype")

ROOT = Path(__file__).resolve().parents[1]
INTEGRATION = ("pipelines", "extend", "dml/cli", "dml/experiments", "dml/inference", "dml/registry", "dml/tracking")
"""Folders of tests in which several packages are at work."""
SEED = int(os.environ.get("DML_TEST_SEED", "20260"))


def pytest_report_header() -> str:
    return f"seed {SEED} (DML_TEST_SEED); development data in {_shared_data()}"


def _shared_data() -> Path:
    return Path(os.environ.get("DML_SHARED_DATA", ROOT.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.parent
        if any(ROOT / "tests" / name in (folder, *folder.parents) for name in INTEGRATION):
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
