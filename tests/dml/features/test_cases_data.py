"""Slides, features and encoders of ../shared/cases, where that folder is there, come out as its README says."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from dml.cohorts.description import CohortDescription
from dml.cohorts.slide_table import build_slides
from dml.config.params import Embed, Tiles
from dml.core.errors import InputError
from dml.encoders.registry import get
from dml.features.import_features import import_features
from dml.slides.reader import open_slide
from dml.slides.tile_slide import TiledSlide, tile_slide
from dml.slides.tissue import find_tissue, mask_mpp

CASES = Path(__file__).resolve().parents[3].parent / "shared/cases/slides"
pytestmark = [pytest.mark.data, pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")]
FEATURES = {"path": "bags", "encoder": "uni", "width": 16, "mpp": 0.5, "tile_um": 128, "patient": "^(P..|HE1)"}


def tile(name: str, mpp: float | None = None, mpp_from: str | None = None, tiles: Tiles | None = None) -> TiledSlide:
    with open_slide(CASES / "slides" / name, mpp, mpp_from) as slide:
        return tile_slide(slide, tiles or Tiles(mpps=(1.0,), tile_px=64))


@pytest.mark.parametrize(
    ("name", "tissue"),
    [("dark_and_pale_section.tif", 0.50), ("ihc_dab_light_counterstain.tif", 0.50), ("pale_tissue_no_glass.tif", 1.0),
     ("yellowish_glass.tif", 0.50), ("ome_rgba.ome.tif", 0.50)],
)  # fmt: skip
def test_tissue_is_not_lost_and_glass_is_none(name: str, tissue: float) -> None:
    with open_slide(CASES / "slides" / name) as slide:
        mask = find_tissue(slide.thumbnail(mask_mpp(slide))).mask
    assert mask.mean() == pytest.approx(tissue, abs=0.03)


def test_red_ink_is_told() -> None:
    with pytest.raises(InputError, match="100% as red pen ink"):
        tile("red_ink_only.tif")


@pytest.mark.parametrize(
    ("name", "listed", "message"),
    [
        ("mpp_tenfold_005.tif", None, r"the file says 0\.05 microns per pixel, which no slide scanner gives"),
        ("mpp_tenfold_005.tif", 0.5, r"the file says 0\.05 microns per pixel, the slide list says 0\.5 .*mpp_from"),
        ("mpp25_mag40.svs", None, r"the file says 2\.5 .*the objective \(40x\) says 0\.25"),
        ("nonsquare_025_050.tif", None, r"not square \(0\.25 x 0\.5 microns\)"),
        ("ome_empty_size.ome.tif", None, "microns per pixel unknown"),
    ],
)
def test_contradictions_and_impossible_resolutions_are_refused(name: str, listed: float | None, message: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: .*{message}"):
        tile(name, listed)


def test_the_cohort_decides_a_contradiction() -> None:
    assert tile("mpp_tenfold_005.tif", 0.5, "slide_list").facts["mpp"] == 0.5
    assert tile("ome_empty_size.ome.tif", 0.5).facts["mpp"] == 0.5


@pytest.mark.parametrize(
    "name",
    ["ome_tags_1um_xml_05um", "ome_pyvips_tags", "ome_72dpi_tags", "ome_comma", "ome_rgba", "ome_jpeg", "ome_jpeg2000"],
)
def test_the_resolution_of_ome_files_is_that_of_the_xml(name: str) -> None:
    if "jpeg" in name:
        pytest.importorskip("imagecodecs")
    facts = tile(f"{name}.ome.tif").facts
    assert (facts["mpp"], facts["mpp_source"]) == (0.5, "OME-XML")
    assert facts["tissue"] == pytest.approx(0.5, abs=0.03)


def test_transparent_is_white_in_tiles() -> None:
    with open_slide(CASES / "slides/ome_rgba.ome.tif") as slide:
        corner = slide.read(0, 0, (64, 64), 0.5)
    assert (corner == 255).all()


def bring(folder: Path, case: str, **changes: object) -> pd.DataFrame:
    """Import a case; return its manifest by slide."""
    shutil.copytree(CASES / "features" / case, folder / "data/raw/case/bags", copy_function=shutil.copyfile)
    (folder / "cohorts").mkdir()
    source = {**FEATURES, **changes}
    content = {"name": "case", "patients": [{"file": "p.csv", "id": "id"}], "features": [source]}
    (folder / "cohorts/case.yaml").write_text(yaml.safe_dump(content))
    description = CohortDescription.load("case")
    tiles, embed = Tiles(mpps=(0.5,), max_failed=1.0), Embed(source="import", encoder=str(source["encoder"]))
    slides = build_slides(description)
    return import_features(slides, description, Path("features"), tiles, embed).set_index("slide_id")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("other_magnification", "features at 1 microns per pixel, not 0.5"),
        ("other_encoder", "features of phikon_v2, not of uni"),
        ("nan", "data/raw/case/bags/P00.h5: "),
        ("pt_tuple", "holds a tuple of 2, not a tensor. Save one tensor"),
        ("pt_list", "holds a list of 12, not a tensor. Save one tensor"),
        ("pt_numpy", "holds NumPy arrays, which are pickled. Save the tensor"),
        ("pt_sparse", "is a sparse tensor. Save it dense"),
    ],
)
def test_features_that_are_not_as_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = bring(tmp_path, case)
    assert manifest.loc["P00", "status"] == "failed"
    assert message in manifest.loc["P00", "reason"]


def test_two_encoders_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = bring(tmp_path, "two_encoders_by_name")
    assert manifest.loc["P00_uni", "status"] == "ok"
    assert "by its name features of conch, not of uni" in manifest.loc["P00_conch", "reason"]


def test_one_name_in_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"A/HE1\.h5 and B/HE1\.h5 are both of slide HE1"):
        bring(tmp_path, "same_name")


def test_slide_vectors_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (bring(tmp_path, "slide_level")["tiles"] == 1).all()
    assert "every file has a single vector" in caplog.text


def test_locks_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = bring(tmp_path, "trident_lock")
    assert manifest["status"].tolist() == ["ok"] * 10
    assert "left out, not files of features: P03.h5.lock, P07.h5.lock" in caplog.text


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "message"), [("tuple", "returns a tuple"), ("fixed224", "fails on a tile of 256 x 256")]
)
def test_encoders_fail_on_the_trial_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CASES / "own_encoders", tmp_path / "encoders", copy_function=shutil.copyfile)
    with pytest.raises(InputError, match=rf"encoder {name} \(.*{name}\.yaml, .*{name}\.pt\): .*{message}"):
        get(name).load()
