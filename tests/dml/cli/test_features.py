"""`dml features export`: what leaves the store comes back through the reader of foreign files, bit by bit."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from dml.cli.app import app
from dml.data.feature_store import bag_path, write_bag
from dml.features.foreign_formats import read_features_file


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> np.ndarray:
    monkeypatch.chdir(tmp_path)
    values = rng.normal(size=(5, 8)).astype(np.float16)
    meta = {"encoder": "uni", "mpp": 0.5, "tile_um": 128.0, "slide_mpp": 0.25, "slide_id": "s1", "patient_id": "p"}
    coords = np.stack([np.arange(5) * 128.0 + 64, np.full(5, 64.0)], axis=1)
    write_bag(bag_path(Path("data/mine/features"), "uni", 0.5, "s1"), values, coords, meta)
    return values


def test_exported_features_can_be_imported_again(tokens: np.ndarray) -> None:
    done = CliRunner().invoke(app, ["features", "export", "out", "--cohort", "mine", "--slide", "s1"])
    assert done.exit_code == 0, done.output
    path = Path("out/uni/0.5/s1.h5")
    found, coords = read_features_file(path)
    np.testing.assert_array_equal(found, tokens)
    assert coords is not None
    assert coords[1].tolist() == [192.0, 64.0]
    with h5py.File(path) as file:
        assert file["coords"][1].tolist() == [512, 0]
        assert file["coords"].attrs["patch_size_level0"] == 512
