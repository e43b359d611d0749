"""Stain normalisation in encoding: the same in stage and serving, estimated once of the whole slide, or warned of."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dml.config.params import Embed, Tiles
from dml.core.types import Bag, Mpp, TileGrid
from dml.data.feature_store import bag_path, read_bags, read_features
from dml.encoders.registry import register
from dml.features import encode_tiles as module
from dml.features.encode_cohort import encode_cohort
from dml.features.encode_slide import encode_slide
from dml.features.tile_cohort import tile_cohort
from dml.slides.reader import Slide
from dml.slides.stain import SlideStains
from tests.painted import FAKE, fake_card, tissue_pixels, write_slide

TILES = Tiles(tile_px=64, workers=1, max_failed=1.0)
PLAIN = Embed(encoder="fake", batch_size=8, workers=2)
MACENKO = Embed(encoder="fake", batch_size=8, workers=2, stain_normalisation="macenko")
SIZE = 640


@pytest.fixture(autouse=True)
def encoder() -> None:
    register(fake_card())


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same tissue twice, the second time in stains twice as strong; and in eosin alone."""
    folder, pixels = tmp_path_factory.mktemp("slides"), tissue_pixels(SIZE, SIZE)
    strong = np.rint(255 * (pixels / 255.0) ** 2).astype(np.uint8)
    amount = -np.log(pixels[..., 1:2] / 255.0)
    eosin = np.rint(255 * np.exp(-amount * (0.2, 1.0, 0.4))).astype(np.uint8)
    drawn = {"pale": pixels, "strong": strong, "eosin": eosin}
    return {name: write_slide(folder / f"{name}.tif", image) for name, image in drawn.items()}


@pytest.fixture
def estimates(monkeypatch: pytest.MonkeyPatch) -> list[TileGrid]:
    """Grids from which stains were estimated."""
    read, grids = module.read_stains, []

    def counted(slide: Slide, grid: TileGrid) -> SlideStains | None:
        grids.append(grid)
        return read(slide, grid)

    monkeypatch.setattr(module, "read_stains", counted)
    return grids


def extract(slides: dict[str, Path], root: Path, embed: Embed = MACENKO, tiles: Tiles = TILES) -> pd.DataFrame:
    """Tile and encode below `root`; finished work is kept there."""
    table = pd.DataFrame({"slide_id": list(slides), "patient_id": list(slides), "mpp": np.nan})
    table["path"] = [str(path) for path in slides.values()]
    shutil.rmtree(root / "features", ignore_errors=True)
    cut = tile_cohort(table, root / "tiles", tiles, root / "work")
    return encode_cohort(cut, root / "tiles", root / "features", tiles, embed, root / "work")


def tokens(root: Path, slide: str, mpp: float = 0.5) -> NDArray[np.float64]:
    return read_features(bag_path(root / "features", "fake", mpp, slide))[0].double().numpy()


def test_features_of_two_renderings_become_nearly_the_same(slides: dict[str, Path], tmp_path: Path) -> None:
    pair = {name: slides[name] for name in ("pale", "strong")}
    extract(pair, tmp_path / "plain", PLAIN)
    extract(pair, tmp_path / "macenko")
    whole = [np.ix_(np.arange(9), np.arange(3))] * 2  # mean colours of tiles that both have
    before, after = (
        np.abs(tokens(tmp_path / kind, "pale")[whole[0]] - tokens(tmp_path / kind, "strong")[whole[1]]).mean()
        for kind in ("plain", "macenko")
    )
    assert before > 0.05
    assert after < before / 5


def test_one_slide_gives_what_the_stage_stores(slides: dict[str, Path], tmp_path: Path) -> None:
    extract(slides, tmp_path)
    for name, path in slides.items():
        served = encode_slide(path, "fake", TILES, MACENKO.model_copy(update={"workers": 1, "batch_size": 3}))
        stored = read_bags(tmp_path / "features" / "fake", [name], TILES.mpps)
        assert all(served[mpp].tokens.equal(bag.tokens) for mpp, bag in stored.items())


def test_stains_are_estimated_once_a_slide_from_its_finest_tiles(
    slides: dict[str, Path], tmp_path: Path, estimates: list[TileGrid]
) -> None:
    extract(slides, tmp_path)
    assert [float(grid.mpp) for grid in estimates] == [0.5] * 3


def test_a_selection_of_tiles_is_normalised_as_the_whole_slide_is(slides: dict[str, Path]) -> None:
    def first_two(coarser: Bag, grid: TileGrid) -> TileGrid:
        chosen = {name: getattr(grid, name)[:2] for name in ("coords_px", "coords_um", "tissue")}
        return replace(grid, **chosen)

    whole = encode_slide(slides["strong"], "fake", TILES, MACENKO)
    part = encode_slide(slides["strong"], "fake", TILES, MACENKO, select=first_two)
    assert part[Mpp(1.0)].tokens.equal(whole[Mpp(1.0)].tokens)
    assert part[Mpp(0.5)].tokens.equal(whole[Mpp(0.5)].tokens[:2])


def test_a_slide_of_one_stain_is_encoded_as_it_is_and_named(
    slides: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        manifest = extract(slides, tmp_path / "macenko")
    assert set(manifest["status"]) == {"ok"}
    warned = [record.getMessage() for record in caplog.records if "stain" in record.getMessage()]
    assert warned == ["slide eosin: no two stains found in its tissue, encoded without stain normalisation"]
    extract(slides, tmp_path / "plain", PLAIN)
    assert (tokens(tmp_path / "macenko", "eosin") == tokens(tmp_path / "plain", "eosin")).all()


def test_changing_it_encodes_again_and_changing_it_back_does_not(slides: dict[str, Path], tmp_path: Path) -> None:
    plain = extract(slides, tmp_path, PLAIN)
    macenko = extract(slides, tmp_path)
    assert not set(plain["fingerprint"]) & set(macenko["fingerprint"])
    assert read_features(bag_path(tmp_path / "features", "fake", 1.0, "pale"))[2]["stain_normalisation"] == "macenko"
    FAKE.batch_sizes.clear()
    assert extract(slides, tmp_path, PLAIN).equals(plain)
    assert FAKE.batch_sizes == []
    assert "stain_normalisation" not in read_features(bag_path(tmp_path / "features", "fake", 1.0, "pale"))[2]


def test_other_tiles_to_estimate_from_are_other_features(slides: dict[str, Path], tmp_path: Path) -> None:
    both = extract(slides, tmp_path).query("mpp == 1")
    coarse = extract(slides, tmp_path / "coarse", tiles=TILES.model_copy(update={"mpps": (1.0,)}))
    assert not set(both["fingerprint"]) & set(coarse["fingerprint"])


def test_a_damaged_slide_fails_alone(slides: dict[str, Path], tmp_path: Path) -> None:
    gone = write_slide(tmp_path / "gone.tif", tissue_pixels(SIZE, SIZE))
    table = pd.DataFrame({"slide_id": ["gone", "pale"], "patient_id": ["P", "Q"], "mpp": np.nan})
    table["path"] = [str(gone), str(slides["pale"])]
    cut = tile_cohort(table, tmp_path / "tiles", TILES, tmp_path / "work")
    gone.unlink()
    manifest = encode_cohort(cut, tmp_path / "tiles", tmp_path / "features", TILES, MACENKO, tmp_path / "work")
    assert manifest.set_index("slide_id")["status"].to_dict() == {"gone": "failed", "pale": "ok"}
    assert "the file does not exist" in manifest["reason"][0]
