"""The stages tile and embed in a folder of their own."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from dml.cohorts.slide_table import write_slides
from dml.data.feature_store import read_bags
from dml.encoders.registry import register
from pipelines import extract_features as embed
from pipelines import tile
from tests.painted import FAKE, fake_card, tissue_pixels, write_slide

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTION = """
name: small
patients: [{file: p.csv, id: id}]
features: [{path: bags, encoder: e, width: 4, mpp: 0.5, tile_um: 128, patient: "^(P.)"}]
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two good slides and a bad one; the fake encoder is chosen."""
    monkeypatch.chdir(tmp_path)
    register(fake_card())
    FAKE.batch_sizes.clear()
    choose({"mpps": [0.5, 1.0], "tile_px": 64, "max_failed": 0.5}, {"encoder": "fake"})
    names = ["a", "b", "bad"]
    for i, name in enumerate(names[:2]):
        write_slide(Path(f"data/raw/small/{name}.tif"), tissue_pixels(640, 512, seed=i))
    Path("data/raw/small/bad.tif").write_bytes(b"")
    Path("cohorts").mkdir()
    Path("cohorts/small.yaml").write_text(DESCRIPTION)
    paths = [f"data/raw/small/{name}.tif" for name in names]
    slides = pd.DataFrame({"slide_id": names, "patient_id": ["P0", "P1", "P1"], "path": paths, "mpp": np.nan})
    write_slides(Path("data/small/slides.parquet"), slides)
    return Path("data/small")


def choose(tiles: dict[str, object], options: dict[str, object]) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"cohort": "small"}
    params["tiles"] |= tiles
    params["embed"] |= options
    Path("params.yaml").write_text(yaml.safe_dump(params))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_slides_become_features(data: Path) -> None:
    assert tile.main() == 0
    assert embed.main() == 0
    manifest = pd.read_parquet(data / "features" / "manifest.parquet")
    assert manifest.groupby("slide_id")["status"].unique().str[0].to_dict() == {"a": "ok", "b": "ok", "bad": "failed"}
    pyramid = read_bags(data / "features" / "fake", ["a"], [0.5, 1.0])
    assert len(pyramid[0.5]) == manifest.query("slide_id == 'a' and mpp == 0.5")["tiles"].iloc[0]


def test_a_second_run_after_dvc_removed_the_outputs(data: Path) -> None:
    assert tile.main() == embed.main() == 0
    first = contents(data)
    FAKE.batch_sizes.clear()
    shutil.rmtree(data / "tiles")
    shutil.rmtree(data / "features")
    assert tile.main() == embed.main() == 0
    assert contents(data) == first
    assert FAKE.batch_sizes == []


def test_too_many_bad_slides_exit_non_zero(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    choose({"mpps": [0.5, 1.0], "tile_px": 64, "max_failed": 0.1}, {"encoder": "fake"})
    assert tile.main() == 3
    assert "1 of 3 slides failed" in caplog.text
    assert "bad: the file is empty" in caplog.text


def test_a_missing_store_exits_non_zero(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert embed.main() == 2
    assert "tiles/slides.parquet: the file does not exist" in caplog.text


def test_import(data: Path) -> None:
    choose({"mpps": [0.5]}, {"source": "import", "encoder": "e"})
    Path("data/raw/small/bags").mkdir()
    for i in range(2):
        with h5py.File(f"data/raw/small/bags/P{i}-x.h5", "w") as file:
            file["features"] = np.full((2 + i, 4), i, np.float16)
    frame = pd.DataFrame({"slide_id": ["P0-x", "P1-x"], "patient_id": ["P0", "P1"], "path": None, "mpp": np.nan})
    write_slides(data / "slides.parquet", frame)
    assert tile.main() == 0
    assert len(pd.read_parquet(data / "tiles" / "slides.parquet")) == 0
    assert embed.main() == 0
    pyramid = read_bags(data / "features" / "e", ["P1-x"], [0.5])
    assert pyramid[0.5].tokens.tolist() == [[1.0] * 4] * 3
