"""Maps of a slide: outlines against areas counted by hand, QuPath's form, pixels of the picture at known tiles."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage

from dml.core.errors import ConfigError, InputError
from dml.inference.maps import spatialdata_store
from dml.inference.maps.export import export_map
from dml.inference.maps.geojson import region_features, tile_features, trace_outline
from dml.inference.maps.slide_map import TOTAL, SlideMap, make_slide_map
from tests.dml.attribution.test_attribute import fold_model, patients
from tests.painted import tissue_pixels, write_image, write_slide

SIDE, GRID = 128.0, 6


def area(ring: list[tuple[float, float]]) -> float:
    x, y = np.array(ring, float).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_outlines_enclose_the_cells_and_nothing_else(mask: np.ndarray) -> None:
    labels, count = ndimage.label(mask)
    for i in range(1, count + 1):
        rings = trace_outline(labels == i)
        assert all(ring[0] == ring[-1] for ring in rings)
        assert sum(area(ring) for ring in rings) == (labels == i).sum()
        assert area(rings[0]) > 0
        assert all(area(ring) < 0 for ring in rings[1:])


def test_a_ring_of_cells_has_a_hole() -> None:
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    outer, hole = trace_outline(mask)
    assert set(outer) == {(0, 0), (3, 0), (3, 3), (0, 3)}
    assert set(hole) == {(1, 1), (2, 1), (2, 2), (1, 2)}


@pytest.fixture
def made(tmp_path: Path) -> SlideMap:
    """Contributions that grow to the right through tumor, and to the bottom, below zero, through tme."""
    path = write_slide(tmp_path / "s.tif", tissue_pixels(1800, 1600), mpp=0.5)
    y, x = (v.ravel() for v in np.mgrid[:GRID, :GRID])
    common = {"mpp": 0.5, "tile_um": SIDE, "x_um": (x + 0.5) * SIDE, "y_um": (y + 0.5) * SIDE, "deviation": 0.1}
    tumor, tme = x / GRID, -y / GRID
    parts = {"tumor": tumor, "tme": tme, TOTAL: tumor + tme}
    tiles = pd.concat(
        pd.DataFrame({"branch": b, **common, "attention": 1 / GRID**2, "contribution": v}) for b, v in parts.items()
    )
    return SlideMap("s", "p", "student", "survival", path, None, "risk", tiles.reset_index(drop=True), "survival")


def test_tiles_are_squares_in_pixels_of_the_slide_with_their_numbers(made: SlideMap) -> None:
    features = tile_features(made, 0.5, 0.5)
    assert len(features) == GRID**2
    second = features[1]
    assert second["geometry"]["coordinates"][0][0] == [256.0, 0.0]
    assert second["geometry"]["coordinates"][0][2] == [512.0, 256.0]
    assert second["properties"]["objectType"] == "tile"
    assert second["properties"]["measurements"]["tumor contribution"] == pytest.approx(1 / GRID)
    assert second["properties"]["measurements"]["tme contribution"] == 0


def test_regions_are_the_tiles_that_change_the_output_most(made: SlideMap) -> None:
    features = region_features(made, 0.5, 0.5, 1 / GRID)
    by_name = {f["properties"]["classification"]["name"]: f for f in features}
    assert set(by_name) == {"tumor raises risk", "tme lowers risk", "total raises risk", "total lowers risk"}
    (ring,) = by_name["tumor raises risk"]["geometry"]["coordinates"]  # the column at the right
    assert sorted(map(tuple, ring[:-1])) == [(1280, 0), (1280, 1536), (1536, 0), (1536, 1536)]
    measured = by_name["tumor raises risk"]["properties"]["measurements"]
    assert measured == {"contribution": pytest.approx(GRID * (GRID - 1) / GRID), "tiles": GRID}


@pytest.mark.parametrize("name", ["png", "pdf"])
def test_equal_maps_are_equal_pictures(made: SlideMap, tmp_path: Path, name: str) -> None:
    first, second = (export_map(made, tmp_path / folder, [name], 0.5, 0.1)[0].read_bytes() for folder in "ab")
    assert first == second
    assert len(first) > 10_000


def test_red_raises_and_blue_lowers(made: SlideMap, tmp_path: Path) -> None:
    """Panels: tissue, tumor, tme, total, difference, attention; the tumor's panel is red, that of tme is blue."""
    (path,) = export_map(made, tmp_path / "out", ["png"], 0.5, 0.1)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    panels = np.array_split(pixels[: pixels.shape[0] * 3 // 4], 6, axis=1)
    red, blue = ((panel[..., 0] - panel[..., 2]).mean() for panel in panels[1:3])
    assert red > (panels[0][..., 0] - panels[0][..., 2]).mean() > blue


def test_panels_are_level_and_only_maps_have_a_scale(made: SlideMap, tmp_path: Path) -> None:
    """The frames begin in the same row of pixels; below the tissue's there is white where the others have a bar."""
    (path,) = export_map(made, tmp_path / "out", ["png"], 0.5, 0.1)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    panels = np.array_split(pixels, 6, axis=1)
    dark = [np.flatnonzero((panel.sum(-1) < 120).mean(1) > 0.5) for panel in panels]
    frames = {(rows[0], rows[rows > rows[0] + 10][0]) for rows in dark}
    assert len(frames) == 1
    below = [panel[dark[0].max() + 5 :] for panel in panels]
    assert below[0].min() == 255
    assert all(part.min() < 200 for part in below[1:])


def test_geojson_is_written_as_a_collection(made: SlideMap, tmp_path: Path) -> None:
    tiles, regions = export_map(made, tmp_path / "out", ["geojson"], 0.5, 0.1)
    for path in (tiles, regions):
        content = json.loads(path.read_text())
        assert content["type"] == "FeatureCollection"
        assert {feature["geometry"]["type"] for feature in content["features"]} == {"Polygon"}


def test_anndata_has_tiles_branches_and_positions(made: SlideMap, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    (path,) = export_map(made, tmp_path / "out", ["h5ad"], 0.5, 0.1)
    table = anndata.read_h5ad(path)
    assert (table.n_obs, list(table.var_names)) == (GRID**2, ["tumor", "tme", TOTAL])
    np.testing.assert_allclose(table.obsm["spatial"][1], [1.5 * SIDE / 0.5, 0.5 * SIDE / 0.5])
    np.testing.assert_allclose(table.layers["deviation"], 0.1)


@pytest.mark.skipif(importlib.util.find_spec("spatialdata") is None, reason="needs the extra `spatialdata`")
@pytest.mark.filterwarnings("ignore:Call to deprecated class Scaler:DeprecationWarning")  # of spatialdata itself
@pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning")  # of anndata
def test_spatialdata_has_the_tiles_as_squares_in_pixels_and_microns(made: SlideMap, tmp_path: Path) -> None:
    """Written twice: the second replaces the first. Read by the library; contributions of every square by its id."""
    import spatialdata as sd

    for _ in range(2):
        (path,) = export_map(made, tmp_path / "out", ["zarr"], 0.5, 0.1)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["s.zarr"]
    data = sd.read_zarr(path)
    tumor = made.layer("tumor", 0.5)
    for system, factor in (("global", 0.5), ("microns", 1.0)):
        squares = sd.transform(data.shapes["tiles"], to_coordinate_system=system).geometry
        half = tumor["tile_um"] / 2
        edges = {"minx": tumor["x_um"] - half, "miny": tumor["y_um"] - half,
                 "maxx": tumor["x_um"] + half, "maxy": tumor["y_um"] + half}  # fmt: skip
        np.testing.assert_allclose(squares.bounds, pd.DataFrame(edges) / factor)
        np.testing.assert_allclose(squares.area, (SIDE / factor) ** 2)
    table = data.tables["contributions"]
    found = table[table.obs["tile"].to_numpy().argsort()]
    for branch in made.branches:
        values = np.asarray(found[:, branch].X).ravel()
        np.testing.assert_allclose(values, made.layer(branch, 0.5)["contribution"])
    joined, _ = sd.join_spatialelement_table(data, "tiles", table=table)
    assert len(joined["tiles"]) == GRID**2


def test_without_spatialdata_the_extra_is_named_and_nothing_written(
    made: SlideMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spatialdata_store, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'dml\[spatialdata\]'"):
        export_map(made, tmp_path / "out", ["zarr"], 0.5, 0.1)
    assert not list((tmp_path / "out").iterdir())


def test_an_unknown_resolution_lists_those_there_are(made: SlideMap, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tiles at 2 .*There are tiles at 0\.5"):
        export_map(made, tmp_path, ["png"], 2.0, 0.1)


def stores(tested: bool = True, slide_id: str = "P007-1") -> tuple[SimpleNamespace, SimpleNamespace]:
    slides = pd.DataFrame({"slide_id": [slide_id], "patient_id": "P007", "path": "x.tif", "mpp": np.nan})
    splits = pd.DataFrame({"patient_id": ["P007"], "fold": 1, "role": "test" if tested else "train"})
    manifest = pd.DataFrame({"slide_id": [slide_id], "patient_id": "P007", "status": "ok"})
    paths = {"slides_path": Path("slides.parquet"), "splits_path": Path("splits.parquet")}
    store = SimpleNamespace(slides=lambda: slides, splits=lambda: splits, manifest=lambda: manifest, **paths)
    return store, SimpleNamespace(fold_model=lambda name, fold: fold_model(name, "grade", True))


def test_a_map_is_of_the_slide_s_tiles_and_its_branches_sum_to_the_total() -> None:
    made = make_slide_map(*stores(), patients(), "student", "P007-1")  # type: ignore[arg-type]
    assert made.branches == ["tumor", "tme", "linear", TOTAL]
    for mpp in (0.5, 1.0):
        layers = {branch: made.layer(branch, mpp)["contribution"].to_numpy() for branch in made.branches}
        np.testing.assert_allclose(layers.pop(TOTAL), sum(layers.values()))
    assert make_slide_map(*stores(), patients(), "student", "P007-1", "low").output == "low"  # type: ignore[arg-type]


def test_refusals_name_what_is_missing() -> None:
    with pytest.raises(InputError, match=r"no slide absent\. There are: P007-1"):
        make_slide_map(*stores(), patients(), "student", "absent")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="P007 is tested in no fold"):
        make_slide_map(*stores(tested=False), patients(), "student", "P007-1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="The model has: low, high"):
        make_slide_map(*stores(), patients(), "student", "P007-1", "G4")  # type: ignore[arg-type]


def test_a_map_over_an_image_takes_the_resolution_of_the_slide_table(made: SlideMap, tmp_path: Path) -> None:
    path = write_image(tmp_path / "s.png", tissue_pixels(1800, 1600))
    image = replace(made, path=path, stated_mpp=0.5)
    of_slide, of_image = (
        export_map(each, tmp_path / each.path.suffix, ["geojson"], 0.5, 0.1) for each in (made, image)
    )
    assert [file.read_bytes() for file in of_image] == [file.read_bytes() for file in of_slide]
    assert export_map(image, tmp_path / "picture", ["png"], 0.5, 0.1)[0].stat().st_size > 10_000
    with pytest.raises(InputError, match="microns per pixel unknown"):
        export_map(replace(image, stated_mpp=None), tmp_path / "picture", ["png"], 0.5, 0.1)
