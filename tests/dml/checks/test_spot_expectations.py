"""The check of spots against slides: what stops the pipeline, what is a warning, what the report has."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dml.checks.spot_expectations import check_spots
from dml.cohorts.slide_table import write_slides
from dml.cohorts.spot_store import empty_spots, write_spots
from dml.cohorts.spots import build_spots
from dml.cohorts.stores import build_cohort
from dml.config.params import Checks
from dml.core.errors import CheckFailed, InputError
from dml.core.files import read_json
from tests.dml.cohorts.test_spots import describe
from tests.spatial_sections import HEIGHT, MPP, WIDTH, Section, make_section, write_st


@pytest.fixture
def section() -> Section:
    return make_section()


def check(folder: Path, section: Section, mpp: float = MPP, status: str = "ok", **checks: Any) -> dict[str, Any]:
    """Write the section, build its spots, pretend that its slide is tiled, and check; return the report."""
    write_st(folder / "raw", section)
    description = describe(folder / "raw")
    table = build_spots(description)
    write_spots(folder / "data", table)
    write_slides(folder / "data/slides.parquet", build_cohort(description, table.spots).slides)
    row = {"slide_id": "A1", "path": str(folder / "raw/images/A1.jpg"), "mpp": mpp, "width": WIDTH, "height": HEIGHT}
    (folder / "data/tiles").mkdir()
    pd.DataFrame([{**row, "status": status, "reason": "blurred"}]).to_parquet(folder / "data/tiles/slides.parquet")
    check_spots(folder / "data", "small", Checks(**checks), folder / "out")
    report: dict[str, Any] = read_json(folder / "out" / "spots.json")
    return report


def test_a_right_section_passes_with_its_numbers(tmp_path: Path, section: Section) -> None:
    report = check(tmp_path, section)
    assert report["success"]
    assert all(each["success"] for each in report["checks"])
    assert report["counts"]["A1"].startswith(f"{len(section.spots)} spots, 100% on tissue, empty places ")
    assert (tmp_path / "out/spots/docs/index.html").exists()


def test_a_spot_outside_the_image_names_spot_image_and_remedy(tmp_path: Path, section: Section) -> None:
    section.spots.loc[4, "pixel_x"] = 801.0
    with pytest.raises(InputError) as error:
        check(tmp_path, section)
    assert str(error.value) == (
        f"spots.parquet: 1 of {len(section.spots)} spots of A1 are outside its image of 760 x 600 px: "
        f"{section.ids[4]} at 801, {section.spots['pixel_y'][4]:.0f}. Is it the image that the positions are in? Else "
        "give their scale, or correct the positions (`spatial` of the cohort)"
    )


def test_a_mirrored_table_stops_the_pipeline_and_names_the_transform(tmp_path: Path, section: Section) -> None:
    section.spots["pixel_x"] = WIDTH - section.spots["pixel_x"]
    with pytest.raises(CheckFailed, match=r"better mirrored left to right \(x = 760 - x, y = y\)"):
        check(tmp_path, section)
    report = read_json(tmp_path / "out/spots.json")
    failed = {each["name"] for each in report["checks"] if not each["success"]}
    assert "oriented" in failed


def test_a_shift_alone_is_a_warning(tmp_path: Path, section: Section) -> None:
    section.spots["pixel_x"] += 80
    report = check(tmp_path, section, min_on_tissue=0.1)
    assert report["success"]
    centred = next(each for each in report["checks"] if each["name"] == "centred")
    assert centred["rows"][0]["better"] == "shifted (x = x - 80, y = y)"


def test_spots_off_tissue_stop_the_pipeline(tmp_path: Path, section: Section) -> None:
    section.pixels = np.roll(section.pixels, 260, axis=1)
    with pytest.raises(CheckFailed, match="at least 50% of the spots are on tissue"):
        check(tmp_path, section)


def test_counts_of_another_section_with_the_same_ids_are_a_warning(tmp_path: Path, section: Section) -> None:
    order = np.random.default_rng(6).permutation(len(section.counts))
    section.counts = section.counts[order]
    report = check(tmp_path, section)
    assert report["success"]
    assert [each["name"] for each in report["checks"] if not each["success"]] == ["library_size"]


def test_a_resolution_that_the_spacing_contradicts_is_refused_with_both(tmp_path: Path, section: Section) -> None:
    with pytest.raises(CheckFailed, match=r"mpp 2.5, mpp_of_spots 5.0.*Correct spatial.spacing_um"):
        check(tmp_path, section, mpp=2.5)


def test_a_spot_beside_its_array_place_is_a_warning(tmp_path: Path, section: Section) -> None:
    section.spots.loc[10, "pixel_y"] += 30
    report = check(tmp_path, section)
    row = next(each for each in report["checks"] if each["name"] == "on_grid")["rows"][0]
    assert row["examples"] == section.ids[10]


def test_a_section_whose_slide_failed_is_named(tmp_path: Path, section: Section) -> None:
    with pytest.raises(
        CheckFailed, match="every section has a slide that was tiled: failed for section A1, reason blurred"
    ):
        check(tmp_path, section, status="failed")


def test_a_cohort_without_spots_is_said_to_be_none(tmp_path: Path) -> None:
    write_spots(tmp_path, empty_spots())
    check_spots(tmp_path, "plain", Checks(), tmp_path / "out")
    report = read_json(tmp_path / "out/spots.json")
    assert (report["success"], report["checks"], report["counts"]["result"]) == (True, [], "not a spatial cohort")
