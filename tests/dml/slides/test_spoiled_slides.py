"""Slides with bytes changed or cut off are read or refused by name: no traceback, whatever library fails."""

import ctypes
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dml.config.params import Tiles
from dml.core.errors import InputError
from dml.features.tile_cohort import tile_cohort
from tests.painted import tissue_pixels, write_slide

PIXELS = tissue_pixels(256, 256, seed=3)


def write_plain(path: Path) -> Path:
    return write_slide(path, PIXELS, levels=2)


def write_aperio(path: Path) -> Path:
    return write_slide(path, PIXELS, levels=2, description="Aperio painted|AppMag = 20|MPP = 0.5")


def write_ome(path: Path) -> Path:
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, PIXELS, ome=True, photometric="rgb", tile=(128, 128), compression="zlib", metadata=metadata)
    return path


WRITERS = {"plain.tif": write_plain, "aperio.svs": write_aperio, "ome.ome.tif": write_ome}


@pytest.mark.filterwarnings("ignore")  # tifffile warns of what it repairs
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(WRITERS)), data=st.data())
def test_a_spoiled_slide_is_tiled_or_fails_by_name(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(WRITERS[kind](tmp_path / kind).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content), 3000) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / kind).write_bytes(content[: data.draw(st.integers(1, len(content)))])
    slides = pd.DataFrame([{"slide_id": "a", "patient_id": "P", "path": str(tmp_path / kind), "mpp": np.nan}])
    tiles = Tiles(mpps=(0.5,), tile_px=64, max_failed=1.0, workers=1)
    row = tile_cohort(slides, tmp_path / "tiles", tiles, tmp_path / "work").iloc[0]
    assert row["status"] in ("ok", "failed")
    assert row["status"] == "ok" or row["reason"]


@pytest.mark.parametrize("slide_id", ["../escape", "/etc/escape", "a/b", "..", "a\\b"])
def test_an_id_cannot_write_outside_its_folder(tmp_path: Path, slide_id: str) -> None:
    write_plain(tmp_path / "raw.tif")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    slides = pd.DataFrame([{"slide_id": slide_id, "patient_id": "P", "path": str(tmp_path / "raw.tif"), "mpp": 0.5}])
    tiles = Tiles(mpps=(0.5,), tile_px=64, max_failed=1.0)
    row = tile_cohort(slides, tmp_path / "data/tiles", tiles, tmp_path / "work").iloc[0]
    assert row["status"] == "failed"
    assert "cannot name a file" in row["reason"]
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert after - before == {tmp_path / "data/tiles/slides.parquet"}


def test_an_error_of_any_library_is_a_failed_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dml.slides.tile_slide as module

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    good = write_plain(tmp_path / "good.tif")
    bad = write_plain(tmp_path / "bad.tif")
    bad.write_bytes(bad.read_bytes() + b"x")
    monkeypatch.setattr(module, "call_limited", lambda path, function, *rest: function(*rest))
    tile = module.tile_slide
    monkeypatch.setattr(
        module, "tile_slide", lambda slide, *rest, **how: {bad: fail}.get(slide.path, tile)(slide, *rest, **how)
    )
    rows = [{"slide_id": path.stem, "patient_id": "P", "path": str(path), "mpp": np.nan} for path in (good, bad)]
    tiles = Tiles(mpps=(0.5,), tile_px=64, max_failed=1.0)
    table = tile_cohort(pd.DataFrame(rows), tmp_path / "tiles", tiles, tmp_path / "work").set_index("slide_id")
    assert table["status"].to_dict() == {"good": "ok", "bad": "failed"}
    assert table.loc["bad", "reason"].startswith("cannot be read (ZeroDivisionError: division by zero)")


def crash(*_: object) -> None:
    ctypes.string_at(0)


def test_a_slide_that_crashes_its_reader_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dml.slides.tile_slide as module

    good, bad = write_plain(tmp_path / "good.tif"), write_plain(tmp_path / "bad.tif")
    bad.write_bytes(bad.read_bytes() + b"x")
    call = module.call_limited
    monkeypatch.setattr(
        module, "call_limited", lambda path, run, *rest: call(path, crash if path == bad else run, *rest)
    )
    rows = [{"slide_id": path.stem, "patient_id": "P", "path": str(path), "mpp": np.nan} for path in (good, bad)]
    tiles = Tiles(mpps=(0.5,), tile_px=64, max_failed=1.0)
    table = tile_cohort(pd.DataFrame(rows), tmp_path / "tiles", tiles, tmp_path / "work").set_index("slide_id")
    assert table["status"].to_dict() == {"good": "ok", "bad": "failed"}
    assert "the process that read it died (SIGSEGV)" in table.loc["bad", "reason"]


def test_a_reader_that_fails_while_encoding_names_the_slide(tmp_path: Path) -> None:
    from dml.core.types import Mpp, TileGrid
    from dml.features.encode_tiles import EncodingJob, encode_tiles
    from tests.painted import FAKE

    grid = TileGrid(np.zeros((1, 2), np.int64), np.full((1, 2), 32.0), np.ones(1), 64, Mpp(0.5), Mpp(0.5))
    jobs = [EncodingJob(name, tmp_path / f"{name}.tif", grid) for name in ("gone", "here")]
    write_plain(tmp_path / "here.tif")
    results = list(encode_tiles(jobs, FAKE, workers=1, batch=4))
    assert isinstance(results[0].error, InputError)
    assert results[1].tokens is not None
