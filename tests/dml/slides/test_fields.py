"""Fields of a slide: tiles lie inside them, magnifications nest, and several slides may be fields of one image."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dml.config.params import Embed, Tiles
from dml.core.errors import InputError
from dml.core.types import Mpp, TileGrid
from dml.data.feature_store import read_features
from dml.encoders.registry import register
from dml.features.encode_cohort import encode_cohort
from dml.features.tile_cohort import tile_cohort
from dml.report.context import FinerTiles, count_finer_tiles
from dml.slides import tile_slide as tiler
from dml.slides.fields import Field, check_fields, parse_fields
from dml.slides.grid import corners_px, tile_grids
from dml.slides.grid_store import read_grid
from dml.slides.tile_slide import SlideOptions, tile_file, tile_slide
from dml.slides.tissue import find_tissue
from tests.painted import FAKE, fake_card, tissue_pixels

TILES = Tiles(mpps=(0.5, 1.0), tile_px=32, min_tissue=0.5, max_failed=1.0)


@dataclass
class Glass:
    """As much of a slide as a grid needs."""

    dimensions: tuple[int, int]
    mpp: Mpp


def sides_px(grid: TileGrid) -> float:
    return float(grid.tile_um / grid.slide_mpp)


def inside(grid: TileGrid, fields: tuple[Field, ...]) -> np.ndarray:
    """Whether each tile lies wholly in one of the fields."""
    corners, side = corners_px(grid), sides_px(grid)
    boxes = np.array(fields, float)[:, None]
    low = (corners >= boxes[..., :2] - 1e-3).all(axis=-1)
    high = (corners + side <= boxes[..., :2] + boxes[..., 2:] + 1e-3).all(axis=-1)
    return np.asarray((low & high).any(axis=0))


def assert_nested(grids: dict[Mpp, TileGrid]) -> None:
    """Every fine tile has exactly one coarse one around it, and every coarse one a fine one."""
    for fine, coarse in pairwise(grids[mpp] for mpp in sorted(grids)):
        offset = fine.coords_um[:, None] - coarse.coords_um  # centres
        around = (np.abs(offset) <= (coarse.tile_um - fine.tile_um) / 2 + 1e-6).all(axis=-1)
        assert (around.sum(axis=1) == 1).all()
        assert around.any(axis=0).all()


boxes = st.builds(
    Field, st.integers(0, 900), st.integers(0, 700), st.integers(60, 300), st.integers(60, 300)
)  # a tile is 32 * 0.5 / 0.25 = 64 pixels


@settings(max_examples=60, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=4), st.sampled_from([(0.5,), (0.5, 1.0), (0.5, 1.0, 2.0), (0.5, 1.5)]))
def test_tiles_lie_inside_fields_and_nest(fields: list[Field], mpps: tuple[float, ...]) -> None:
    tiles = Tiles(mpps=mpps, tile_px=32, min_tissue=0.5)
    grids = dict(tile_grids(Glass((1200, 1000), Mpp(0.25)), np.ones((250, 300), bool), tiles, fields))
    assert inside(grids[Mpp(0.5)], tuple(fields)).all()
    assert_nested(grids)


@settings(max_examples=60, deadline=None)
@given(boxes)
def test_one_field_holds_as_many_tiles_as_fit_centred(field: Field) -> None:
    tiles = Tiles(mpps=(0.5,), tile_px=32)
    grid = tile_grids(Glass((1200, 1000), Mpp(0.25)), np.ones((250, 300), bool), tiles, [field])[Mpp(0.5)]
    columns, rows = field.width // 64, field.height // 64
    assert len(grid.coords_px) == columns * rows
    if columns * rows:
        corners = corners_px(grid)
        margins = corners.min(0) - field[:2], np.add(field[:2], field[2:]) - corners.max(0) - 64
        np.testing.assert_allclose(margins[0], margins[1], atol=1e-6)


def test_a_field_of_the_whole_slide_gives_the_tiles_of_the_slide() -> None:
    mask = np.zeros((128, 128), bool)
    mask[20:90, 30:100] = True
    glass = Glass((1024, 1024), Mpp(0.25))
    whole, field = (tile_grids(glass, mask, TILES, fields) for fields in ((), [Field(0, 0, 1024, 1024)]))
    for mpp, grid in whole.items():
        np.testing.assert_array_equal(field[mpp].coords_um, grid.coords_um)


def test_fields_that_share_an_image_cover_it_without_sharing_a_tile() -> None:
    glass, mask = Glass((1024, 1024), Mpp(0.25)), np.ones((128, 128), bool)
    halves = [[Field(0, 0, 512, 1024)], [Field(512, 0, 512, 1024)]]
    left, right = (tile_grids(glass, mask, TILES, fields)[Mpp(0.5)] for fields in halves)
    both = tile_grids(glass, mask, TILES, halves[0] + halves[1])[Mpp(0.5)]
    as_rows = {tuple(corner) for grid in (left, right) for corner in grid.coords_px.tolist()}
    assert len(as_rows) == len(left.coords_px) + len(right.coords_px) == 16 * 16
    assert as_rows == {tuple(corner) for corner in both.coords_px.tolist()}


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((900, 0, 101, 50), r"field 2 \(x 900, y 0, 101 x 50\) of 2 reaches beyond the image of 1000 x 800 pixels"),
        ((0, 751, 50, 50), r"field 2 \(x 0, y 751, 50 x 50\)"),
        ((-1, 0, 50, 50), r"field 2 \(x -1, y 0, 50 x 50\).*Correct these rows of slides\.table\.fields"),
    ],
)
def test_a_field_beyond_the_image_is_named(box: tuple[int, int, int, int], message: str) -> None:
    check_fields(Path("a.jpg"), [Field(900, 750, 100, 50)], (1000, 800))
    with pytest.raises(InputError, match=message):
        check_fields(Path("a.jpg"), [Field(0, 0, 1000, 800), Field(*box)], (1000, 800))


def test_what_pandas_makes_of_a_cell_is_read() -> None:
    cell = pd.Series([[[1, 2, 3, 4]]], dtype=object).to_frame("fields_px")["fields_px"][0]
    assert parse_fields(np.array([np.array([1, 2, 3, 4])])) == parse_fields(cell) == (Field(1, 2, 3, 4),)
    assert parse_fields(None) == parse_fields(float("nan")) == ()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(tissue_pixels(640, 640, seed=2, cover=0.9)).save(tmp_path / "section.jpg", quality=95)
    return tmp_path / "section.jpg"


def test_a_field_without_a_tile_says_how_large_one_is(image: Path) -> None:
    for field in (Field(300, 300, 20, 20), Field(0, 0, 40, 40)):  # too small; glass
        with pytest.raises(InputError, match=r"no tile with tissue lies inside .*a tile is 32 x 32 pixels.*Enlarge"):
            tile_file(image, TILES, SlideOptions(mpp=0.5, fields=(field,)))


def test_the_tissue_of_one_image_is_searched_once_for_all_its_fields(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    monkeypatch.setattr(tiler, "find_tissue", lambda *given: searched.append(1) or find_tissue(*given))
    options = [SlideOptions(0.5, fields=(Field(x, 200, 160, 160),)) for x in (150, 250, 350)]
    tiler._open_with_tissue.cache_clear()
    grids = [tiler._open_and_tile(image, TILES, each, None).grids[Mpp(0.5)] for each in options]
    tiler._open_with_tissue.cache_clear()
    assert len(searched) == 1
    monkeypatch.undo()
    with tiler.open_slide(image, 0.5) as slide:
        alone = tile_slide(slide, TILES, fields=options[2].fields).grids[Mpp(0.5)]
    np.testing.assert_array_equal(grids[2].coords_um, alone.coords_um)
    np.testing.assert_array_equal(grids[2].tissue, alone.tissue)


def test_regions_of_one_image_are_slides_from_the_table_to_the_features(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = {"r1": [[100, 200, 170, 170]], "r2": [[300, 200, 170, 170], [100, 400, 170, 100]], "whole": None}
    regions["beyond"] = [[600, 600, 41, 40]]
    rows = [
        {"slide_id": name, "patient_id": name, "path": str(image), "mpp": 0.5, "fields_px": fields}
        for name, fields in regions.items()
    ]
    table = tile_cohort(pd.DataFrame(rows), tmp_path / "tiles", TILES, tmp_path / "work")
    status = table.set_index("slide_id")
    assert status["status"].to_dict() == {"r1": "ok", "r2": "ok", "whole": "ok", "beyond": "failed"}
    assert (
        "field 1 (x 600, y 600, 41 x 40) of 1 reaches beyond the image of 640 x 640" in status.loc["beyond", "reason"]
    )
    for name in ("r1", "r2"):
        grid = read_grid(tmp_path / "tiles" / "0.5" / f"{name}.parquet")[0]
        assert inside(grid, parse_fields(regions[name])).all()
        assert len(grid.coords_px) > 10
    assert status.loc["whole", "tiles"] > status.loc["r2", "tiles"] > status.loc["r1", "tiles"]
    register(fake_card())
    encode_cohort(table, tmp_path / "tiles", tmp_path / "features", TILES, Embed(encoder="fake"), tmp_path / "work")
    with tiler.open_slide(image, 0.5) as slide:
        for name in ("r1", "r2"):
            grid = read_grid(tmp_path / "tiles" / "0.5" / f"{name}.parquet")[0]
            pixels = np.stack([slide.read_tile(x, y, 32, 0.5) for x, y in corners_px(grid)])
            tokens, coords, _ = read_features(tmp_path / "features" / "fake" / "0.5" / f"{name}.parquet")
            np.testing.assert_array_equal(tokens.numpy(), FAKE(pixels))
            np.testing.assert_allclose(coords.numpy(), grid.coords_um, rtol=1e-6)
    monkeypatch.setattr(tiler, "call_limited", lambda *_: pytest.fail("tiled again"))
    again = tile_cohort(pd.DataFrame(rows[:3]), tmp_path / "again", TILES, tmp_path / "work")
    assert again["tiles"].tolist() == table["tiles"][:3].tolist()
    rows[0]["fields_px"] = [[100, 200, 171, 170]]
    with pytest.raises(pytest.fail.Exception, match="tiled again"):
        tile_cohort(pd.DataFrame(rows[:1]), tmp_path / "again", TILES, tmp_path / "work")


def test_an_upsampled_cohort_is_tiled_encoded_and_counted(tmp_path: Path, image: Path) -> None:
    tiles = TILES.model_copy(update={"mpps": (0.25, 0.5)})
    rows = [{"slide_id": "a", "patient_id": "p", "path": str(image), "mpp": 0.5}]
    out = tmp_path / "data" / "photos"
    refused = tile_cohort(pd.DataFrame(rows), out / "tiles", tiles, tmp_path / "work")
    assert "finest resolution is 0.5" in refused["reason"][0]
    table = tile_cohort(pd.DataFrame(rows).assign(upsample=True), out / "tiles", tiles, tmp_path / "work")
    assert "tiles at 0.25 microns per pixel are interpolated" in table["notes"][0]
    register(fake_card())
    encode_cohort(table, out / "tiles", out / "features", tiles, Embed(encoder="fake"), tmp_path / "work")
    (tmp_path / "cohorts").mkdir()
    description = tmp_path / "cohorts" / "photos.yaml"
    description.write_text("slides: {upsample: true}")
    assert count_finer_tiles("photos", tmp_path) == FinerTiles(1, 1, 2.0)
    description.write_text("slides: {folder: {folder: x}}")
    assert count_finer_tiles("photos", tmp_path) is None
