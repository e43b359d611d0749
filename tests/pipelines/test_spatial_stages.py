"""The smallest spatial cohort, from one JPEG and two tables to checked spots; and the real sections of her2st."""

import shutil
from pathlib import Path

import pytest
import yaml

from dml.cohorts.import_raw import import_cohort, use_cohort
from dml.cohorts.spot_store import read_spots
from dml.cohorts.store_files import read_slides
from dml.core.files import read_json
from pipelines import check_spots, cohort, spots, tile
from tests.spatial_sections import MINIMAL, MPP, WIDTH, make_section, write_st

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"cohort": "small"}
    params["tiles"] |= {"mpps": [MPP, 2 * MPP], "tile_px": 16, "workers": 1}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("cohorts").mkdir()
    content = {**MINIMAL, "import": ["images", "A1_spots.tsv", "A1_counts.tsv.gz"]}
    Path("cohorts/small.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_one_jpeg_and_two_tables_become_checked_spots(repository: Path) -> None:
    section = make_section()
    write_st(Path("given"), section)
    assert len(import_cohort("small", Path("given"))) == 3
    assert [stage.main() for stage in (spots, cohort, tile, check_spots)] == [0, 0, 0, 0]
    table = read_spots(Path("data/small"))
    assert table.spots["spot_id"].tolist() == section.ids
    assert read_slides(Path("data/small/slides.parquet"))["mpp"].tolist() == pytest.approx([MPP])
    assert read_json(Path("reports/small/checks/spots.json"))["success"]


def test_a_mirrored_table_ends_with_the_status_of_a_failed_check(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    section = make_section()
    section.spots["pixel_x"] = WIDTH - section.spots["pixel_x"]
    write_st(Path("data/raw/small"), section)
    assert [stage.main() for stage in (spots, cohort, tile, check_spots)] == [0, 0, 0, 3]
    assert "mirrored left to right (x = 760 - x, y = y)" in caplog.text


def test_a_cohort_without_spatial_passes_both_stages(repository: Path) -> None:
    Path("cohorts/small.yaml").write_text("name: small\npatients: [{file: p.csv, id: id}]\n")
    assert spots.main() == 0
    assert check_spots.main() == 0
    assert read_json(Path("reports/small/checks/spots.json"))["counts"]["result"] == "not a spatial cohort"


@pytest.mark.data
@pytest.mark.slow
def test_the_sections_of_her2st_are_read_and_fit_their_tissue(repository: Path, shared_data: Path) -> None:
    if not (shared_data / "her2st").is_dir():
        pytest.skip(f"no her2st in {shared_data}")
    shutil.copy(ROOT / "cohorts/her2st.yaml", "cohorts")
    import_cohort("her2st", shared_data)
    use_cohort("her2st")
    assert [stage.main() for stage in (spots, cohort)] == [0, 0]
    table = read_spots(Path("data/her2st"))
    assert table.sections == ("C2", "C3", "C4", "C5", "C6")
    assert table.spots.groupby("section_id").size().tolist() == [187, 180, 184, 181, 178]
    assert set(table.spots["patient_id"]) == {"her2st_C"}
    assert read_slides(Path("data/her2st/slides.parquet"))["mpp"].between(0.684, 0.691).all()
    assert [stage.main() for stage in (tile, check_spots)] == [0, 0]
    report = read_json(Path("reports/her2st/checks/spots.json"))
    assert all(each["success"] for each in report["checks"])
