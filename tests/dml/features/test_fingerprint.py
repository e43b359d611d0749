"""Keys change with everything a result depends on, and with nothing else."""

from pathlib import Path

import numpy as np
import pytest

from dml.config.params import Tiles
from dml.core.errors import InputError
from dml.core.types import Microns, Mpp, TileGrid
from dml.features.fingerprint import encoding_key, importing_key, tiling_key
from dml.slides.slide_fingerprint import slide_fingerprint


def grid(shift: float = 0.0, mpp: float = 0.5) -> TileGrid:
    um = np.array([[64.0, 64.0], [192.0, 64.0]]) + shift
    return TileGrid(np.zeros((2, 2), np.int64), um, np.ones(2), 256, Mpp(mpp), Mpp(0.25))


def test_content_counts_not_name_or_time(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 256, 9_000_000, dtype=np.uint8).tobytes()
    for name in "ab":
        (tmp_path / name).write_bytes(content)
    first = slide_fingerprint(tmp_path / "a")
    assert first == slide_fingerprint(tmp_path / "b")
    for changed in (content[:-1], content + b"\0", b"\0" + content[1:], content[:-1] + b"\0"):
        (tmp_path / "b").write_bytes(changed)
        assert slide_fingerprint(tmp_path / "b") != first


def test_small_files_are_hashed_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = bytearray(200_000)
    path.write_bytes(content)
    first = slide_fingerprint(path)
    content[123_457] = 1
    path.write_bytes(content)
    assert slide_fingerprint(path) != first


def test_the_folder_of_a_mirax_slide_counts(tmp_path: Path) -> None:
    (tmp_path / "a.mrxs").write_bytes(b"index")
    alone = slide_fingerprint(tmp_path / "a.mrxs")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Data0000.dat").write_bytes(bytes(10))
    first = slide_fingerprint(tmp_path / "a.mrxs")
    (tmp_path / "a" / "Data0000.dat").write_bytes(bytes(11))
    assert len({alone, first, slide_fingerprint(tmp_path / "a.mrxs")}) == 3


def test_unreadable_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.tif: cannot be read"):
        slide_fingerprint(tmp_path / "gone.tif")


def test_tiling_key() -> None:
    first = tiling_key("f", Tiles())
    assert first == tiling_key("f", Tiles(workers=7, max_failed=0.9, mpps=(1.0, 0.5)))
    others = [
        tiling_key("g", Tiles()),
        tiling_key("f", Tiles(), [0.5]),
        *(
            tiling_key("f", Tiles(**change))  # type: ignore[arg-type]
            for change in ({"mpps": (0.5,)}, {"tile_px": 224}, {"min_tissue": 0.4}, {"max_tiles": 10})
        ),
    ]
    assert len({first, *others}) == 7


def test_encoding_key() -> None:
    facts = {"encoder": "e", "weights": "w", "precision": "float32", "device": "cpu"}
    first = encoding_key("f", grid(), **facts)
    assert first == encoding_key("f", grid(), **facts)
    others = [
        encoding_key("g", grid(), **facts),
        encoding_key("f", grid(shift=1.0), **facts),
        encoding_key("f", grid(mpp=1.0), **facts),
        *(encoding_key("f", grid(), **{**facts, name: "x"}) for name in facts),
        encoding_key("f", grid(), **facts, stain_normalisation="macenko"),
        *(encoding_key("f", grid(), stains, **facts) for stains in (grid(), grid(shift=1.0), grid(mpp=1.0))),
    ]
    assert len({first, *others}) == 12


def test_importing_key() -> None:
    assert importing_key("c", {"mpp": 0.5}) == importing_key("c", {"mpp": 0.5})
    assert (
        len({importing_key("c", {"mpp": 0.5}), importing_key("d", {"mpp": 0.5}), importing_key("c", {"mpp": 1})}) == 3
    )


def test_tile_side_in_microns() -> None:
    assert grid(mpp=1.0).tile_um == Microns(256.0)
