"""A cohort of slides, some of them bad, becomes tiles and features; killed runs go on where they stopped."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dml.config.params import Embed, Tiles
from dml.core.errors import CheckFailed, ConfigError, InputError
from dml.core.types import Bag, Mpp, TileGrid
from dml.data.feature_store import read_bags, read_features
from dml.encoders.card import TileEncoder
from dml.encoders.registry import register
from dml.features.encode_cohort import encode_cohort
from dml.features.encode_slide import encode_slide
from dml.features.manifest import read_manifest
from dml.features.tile_cohort import tile_cohort
from dml.slides.grid_store import read_grid
from tests.painted import FAKE, fake_card, tissue_pixels, with_a_hole, write_slide

TILES = Tiles(tile_px=64, min_tissue=0.5, workers=2, max_failed=1.0)
EMBED = Embed(encoder="fake", batch_size=8, workers=2)
SIZE = 640


@pytest.fixture(autouse=True)
def encoder() -> None:
    register(fake_card())
    FAKE.batch_sizes.clear()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    for i, name in enumerate("abc"):
        write_slide(folder / f"{name}.tif", tissue_pixels(SIZE, SIZE - 64 * i, seed=i))
    return folder


class Cohort:
    """A folder with slides and what the stages make of them."""

    def __init__(self, root: Path, originals: Path) -> None:
        self.root = root
        shutil.copytree(originals, root / "raw")
        self.rows = [{"slide_id": s, "patient_id": f"P{i}", "mpp": None} for i, s in enumerate("abc")]

    def add(self, slide_id: str, mpp: float | None = None) -> Path:
        self.rows.append({"slide_id": slide_id, "patient_id": "P9", "mpp": mpp})
        return self.root / "raw" / f"{slide_id}.tif"

    def tile(self, tiles: Tiles = TILES) -> pd.DataFrame:
        shutil.rmtree(self.root / "tiles", ignore_errors=True)  # as DVC does
        slides = pd.DataFrame(self.rows)
        slides["path"] = [str(self.root / "raw" / f"{slide}.tif") for slide in slides["slide_id"]]
        return tile_cohort(slides, self.root / "tiles", tiles, self.root / "work")

    def embed(self, tiles: Tiles = TILES, embed: Embed = EMBED) -> pd.DataFrame:
        shutil.rmtree(self.root / "features", ignore_errors=True)
        table = pd.read_parquet(self.root / "tiles" / "slides.parquet")
        return encode_cohort(table, self.root / "tiles", self.root / "features", tiles, embed, self.root / "work")

    def contents(self, kind: str) -> dict[str, bytes]:
        folder = self.root / kind
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def cohort(tmp_path: Path, originals: Path) -> Cohort:
    return Cohort(tmp_path, originals)


def test_tiles_of_good_slides(cohort: Cohort) -> None:
    table = cohort.tile()
    assert table["status"].tolist() == ["ok"] * 3
    first = table.iloc[0]
    assert (first["mpp"], first["mpp_source"], first["magnification"], first["vendor"]) == (
        0.5,
        "file",
        20,
        "generic-tiff",
    )
    assert (first["width"], first["height"]) == (SIZE, SIZE)
    pd.testing.assert_frame_equal(pd.read_parquet(cohort.root / "tiles" / "slides.parquet"), table)
    fine, facts = read_grid(cohort.root / "tiles" / "0.5" / "a.parquet")
    coarse, _ = read_grid(cohort.root / "tiles" / "1" / "a.parquet")
    assert (fine.tile_px, fine.mpp, fine.slide_mpp, facts["slide_id"]) == (64, 0.5, 0.5, "a")
    assert facts["fingerprint"] == first["fingerprint"]
    assert len(fine.coords_px) + len(coarse.coords_px) == first["tiles"]
    assert (cohort.root / "tiles" / "thumbnails" / "a.jpg").stat().st_size > 1000


def test_features_of_good_slides(cohort: Cohort) -> None:
    table = cohort.tile()
    manifest = cohort.embed()
    assert manifest["status"].unique().tolist() == ["ok"]
    assert manifest[["slide_id", "mpp"]].to_numpy().tolist() == [[s, m] for s in "abc" for m in (0.5, 1.0)]
    assert manifest.groupby("slide_id")["tiles"].sum().tolist() == table["tiles"].tolist()
    pd.testing.assert_frame_equal(read_manifest(cohort.root / "features" / "manifest.parquet"), manifest)
    tokens, coords, meta = read_features(cohort.root / "features" / "fake" / "1" / "b.parquet", "fake", 8)
    assert meta["patient_id"] == "P1"
    assert (meta["tile_um"], meta["slide_mpp"], meta["weights"]) == (64.0, 0.5, "fake-weights")
    grid, _ = read_grid(cohort.root / "tiles" / "1" / "b.parquet")
    assert coords is not None
    np.testing.assert_array_equal(coords.numpy(), grid.coords_um.astype(np.float32))
    pyramid = read_bags(cohort.root / "features" / "fake", ["a", "c"], [0.5, 1.0])
    assert len(pyramid[0.5]) == manifest.query("mpp == 0.5 and slide_id != 'b'")["tiles"].sum()
    assert len(tokens) == len(grid.coords_px)


def add_bad(cohort: Cohort) -> dict[str, str]:
    """Add every kind of bad slide; return the reason each must be given."""
    pixels = tissue_pixels(SIZE, SIZE)
    cohort.add("missing")
    cohort.add("zero").write_bytes(b"")
    cohort.add("text").write_text("this is not a slide" * 100)
    cut = write_slide(cohort.add("cut"), pixels)
    cut.write_bytes(cut.read_bytes()[:-3000])
    write_slide(cohort.add("nowhere"), pixels, mpp=None)
    write_slide(cohort.add("glass"), np.full((SIZE, SIZE, 3), 244, np.uint8))
    glow = np.zeros((SIZE, SIZE, 3), np.uint8)
    glow[100:500:7, 100:500:5, 2] = 220
    write_slide(cohort.add("glow"), glow)
    write_slide(cohort.add("crumb"), tissue_pixels(SIZE, SIZE, cover=0.12))
    write_slide(cohort.add("coarse"), pixels, mpp=1.0)
    return {
        "missing": "the file does not exist",
        "zero": "the file is empty",
        "text": "not a slide",
        "cut": "truncated",
        "nowhere": "microns per pixel unknown",
        "glass": "no tissue found",
        "glow": "no tissue found",
        "crumb": "no tile of 32 microns is 50% tissue",
        "coarse": "its finest resolution is 1 microns per pixel, 0.5 is asked for",
    }


def test_bad_slides_are_recorded_and_the_rest_goes_on(cohort: Cohort) -> None:
    cohort.tile()
    good = {name: content for name, content in cohort.contents("tiles").items() if name != "slides.parquet"}
    reasons = add_bad(cohort)
    table = cohort.tile().set_index("slide_id")
    assert table["status"].to_dict() == {**dict.fromkeys("abc", "ok"), **dict.fromkeys(reasons, "failed")}
    for slide, reason in reasons.items():
        assert reason in table.loc[slide, "reason"]
    after = cohort.contents("tiles")
    assert {name: content for name, content in after.items() if name != "slides.parquet"} == good
    manifest = cohort.embed()
    assert set(manifest.query("status == 'ok'")["slide_id"]) == set("abc")
    failed = manifest.query("status == 'failed'")
    assert len(failed) == 2 * len(reasons)
    assert (failed["tiles"] == 0).all()
    assert reasons["glow"] in failed.query("slide_id == 'glow'")["reason"].iloc[0]


def test_a_stated_resolution_saves_a_slide(cohort: Cohort) -> None:
    write_slide(cohort.add("told", mpp=0.5), tissue_pixels(SIZE, SIZE), mpp=None)
    table = cohort.tile().set_index("slide_id")
    assert (table.loc["told", "status"], table.loc["told", "mpp_source"]) == ("ok", "slide list")
    assert cohort.embed().query("slide_id == 'told'")["status"].tolist() == ["ok", "ok"]


def test_too_many_failures_stop_the_stage_and_keep_the_rest(cohort: Cohort) -> None:
    cohort.add("zero").write_bytes(b"")
    strict = TILES.model_copy(update={"max_failed": 0.2})
    with pytest.raises(
        CheckFailed, match=r"1 of 4 slides failed, tiles\.max_failed allows 20%:\nzero: the file is empty"
    ):
        cohort.tile(strict)
    assert len(pd.read_parquet(cohort.root / "tiles" / "slides.parquet")) == 4
    cohort.tile(TILES.model_copy(update={"max_failed": 0.25}))
    with pytest.raises(CheckFailed, match="1 of 4 slides failed"):
        cohort.embed(strict)
    assert (cohort.root / "features" / "fake" / "0.5" / "a.parquet").exists()


def test_a_slide_damaged_after_tiling_fails_at_all_resolutions(cohort: Cohort) -> None:
    cohort.tile()
    path = cohort.root / "raw" / "b.tif"
    with_a_hole(path, tile=4)
    manifest = cohort.embed().set_index("slide_id")
    assert manifest.loc["b", "status"].tolist() == ["failed", "failed"]
    assert manifest.loc["a", "status"].tolist() == ["ok", "ok"]
    assert not list((cohort.root / "features").rglob("b.parquet"))


def test_repeats_are_bit_identical(cohort: Cohort) -> None:
    cohort.tile()
    cohort.embed()
    first = cohort.contents("tiles"), cohort.contents("features")
    shutil.rmtree(cohort.root / "work")
    cohort.tile(TILES.model_copy(update={"workers": 1}))
    cohort.embed(embed=EMBED.model_copy(update={"workers": 3, "batch_size": 5}))
    assert (cohort.contents("tiles"), cohort.contents("features")) == first


def test_finished_slides_are_not_encoded_again(cohort: Cohort) -> None:
    cohort.tile()
    cohort.embed()
    assert sum(FAKE.batch_sizes) > 0
    first = cohort.contents("features")
    FAKE.batch_sizes.clear()
    cohort.embed()
    assert FAKE.batch_sizes == []
    assert cohort.contents("features") == first


def test_a_killed_run_goes_on_with_the_missing_slides(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort.tile()
    undisturbed = cohort.embed().set_index(["slide_id", "mpp"])["tiles"]
    expected = cohort.contents("features")
    shutil.rmtree(cohort.root / "work" / "features")
    import dml.features.encode_cohort as module

    save, saved = module._save, []

    def killed_at_the_third(*args: object) -> None:
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(args)
        save(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_save", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        cohort.embed()
    monkeypatch.undo()
    FAKE.batch_sizes.clear()
    cohort.embed()
    assert sum(FAKE.batch_sizes[1:]) == undisturbed.iloc[3:].sum(), "after the trial tile"
    assert cohort.contents("features") == expected
    assert not list(cohort.root.rglob("*.tmp"))


def test_only_a_new_slide_is_cut_and_encoded(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort.tile()
    cohort.embed()
    FAKE.batch_sizes.clear()
    write_slide(cohort.add("d"), tissue_pixels(SIZE, SIZE, seed=9))
    import dml.features.tile_cohort as module

    tile, calls = module.tile_file, []
    monkeypatch.setattr(module, "tile_file", lambda path, *rest: calls.append(path.stem) or tile(path, *rest))
    table = cohort.tile().set_index("slide_id")
    cohort.embed()
    assert calls == ["d"]
    assert sum(FAKE.batch_sizes[1:]) == table.loc["d", "tiles"], "after the trial tile"


def test_other_parameters_or_weights_encode_again(cohort: Cohort) -> None:
    cohort.tile()
    cohort.embed()
    FAKE.batch_sizes.clear()
    cohort.tile(TILES.model_copy(update={"min_tissue": 0.9}))
    cohort.embed()
    assert sum(FAKE.batch_sizes) > 0


def test_one_slide_gives_what_the_cohort_run_stores(cohort: Cohort) -> None:
    cohort.tile()
    cohort.embed()
    pyramid = encode_slide(cohort.root / "raw" / "a.tif", "fake", TILES)
    stored = read_bags(cohort.root / "features" / "fake", ["a"], [0.5, 1.0])
    assert list(pyramid) == list(stored)
    for mpp, bag in stored.items():
        assert pyramid[mpp].tokens.equal(bag.tokens)
        assert pyramid[mpp].coords_um is not None
        assert bag.coords_um is not None
        assert pyramid[mpp].coords_um.equal(bag.coords_um)
        assert pyramid[mpp].slide.equal(bag.slide)
        assert (pyramid[mpp].tile_um, pyramid[mpp].encoder) == (bag.tile_um, "fake")


def test_one_bad_slide_says_why(cohort: Cohort) -> None:
    path = write_slide(cohort.add("glass"), np.full((SIZE, SIZE, 3), 244, np.uint8))
    with pytest.raises(InputError, match=r"glass\.tif: no tissue found"):
        encode_slide(path, "fake", TILES)
    with pytest.raises(InputError, match="hipt_4096: it cannot encode tiles"):
        encode_slide(path, "hipt_4096", TILES)
    with pytest.raises(ConfigError, match="unknown encoder"):
        encode_slide(path, "nobody", TILES)


def test_a_cohort_without_slide_files(tmp_path: Path) -> None:
    slides = pd.DataFrame({"slide_id": ["a"], "patient_id": ["P"], "path": [None], "mpp": [np.nan]})
    table = tile_cohort(slides, tmp_path / "tiles", TILES, tmp_path / "work")
    assert len(table) == 0
    assert list(pd.read_parquet(tmp_path / "tiles" / "slides.parquet").columns) == list(table.columns)


def test_the_encoder_is_loaded_once_for_slides_embedded_one_by_one(tmp_path: Path) -> None:
    loaded = []

    def load(device: str, precision: str) -> TileEncoder:
        loaded.append(device)
        return FAKE

    register(replace(fake_card("counted"), load_with=load))
    path = write_slide(tmp_path / "a.tif", tissue_pixels(1024, 1024))
    first, again = (encode_slide(path, "counted", TILES, EMBED) for _ in range(2))
    assert len(loaded) == 1
    assert all(torch.equal(first[mpp].tokens, again[mpp].tokens) for mpp in first)


def test_a_selection_encodes_the_coarsest_resolution_first(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", tissue_pixels(1024, 1024))
    seen = []

    def select(coarser: Bag, grid: TileGrid) -> TileGrid:
        seen.append((float(coarser.mpp), float(grid.mpp)))
        first = slice(0, 2)
        chosen = {name: getattr(grid, name)[first] for name in ("coords_px", "coords_um", "tissue")}
        return replace(grid, **chosen)

    whole, part = encode_slide(path, "fake", TILES, EMBED), encode_slide(path, "fake", TILES, EMBED, select=select)
    assert seen == [(1.0, 0.5)]
    assert list(part) == list(whole)
    assert part[Mpp(1.0)].tokens.equal(whole[Mpp(1.0)].tokens)
    assert part[Mpp(0.5)].tokens.equal(whole[Mpp(0.5)].tokens[:2])
