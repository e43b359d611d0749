import zipfile
from pathlib import Path

import pandas as pd
import pytest

from dml.cohorts.description import CohortDescription
from dml.cohorts.provenance import Ledger
from dml.cohorts.slide_table import build_slides, write_slides
from dml.cohorts.store_files import read_slides
from dml.core.errors import InputError
from dml.readers.raw_files import Features
from dml.readers.slide_files import feature_files
from dml.slides.tile_slide import SlideOptions

HIPT = {"path": "f.zip", "encoder": "hipt", "width": 4, "mpp": 0.5, "tile_um": 2048, "patient": "^(P..)"}


def test_from_a_table_with_paths_below_raw(describe, tables) -> None:
    description = describe(tables)
    slides = build_slides(description)
    assert len(slides) == len(tables["slides"])
    assert slides["slide_id"].is_monotonic_increasing
    assert slides["path"][0] == str(description.raw_folder / "slides/P00-S1.tif")
    assert slides["mpp"].isna().all()


def test_mpp_from_a_column_or_one_number(describe, tables) -> None:
    table = {"file": "slides.csv", "id": "slide", "patient": "patient", "path": "file"}
    tables["slides"]["um"] = 0.25
    for mpp in ["um", 0.25]:
        assert set(build_slides(describe(tables, slides={"table": {**table, "mpp": mpp}}))["mpp"]) == {0.25}


def test_a_repeated_slide_id_names_its_rows(describe, tables) -> None:
    tables["slides"].loc[3, "slide"] = tables["slides"].loc[0, "slide"]
    with pytest.raises(
        InputError, match=r"slides\.csv: repeated slide ids: P00-S1 in rows 2, 5\. Each slide has one row"
    ):
        build_slides(describe(tables))


def test_from_a_folder_by_name(describe, tables) -> None:
    description = describe(tables, slides={"folder": {"folder": "slides", "patient": "^(P..)", "mpp": 0.5}})
    folder = description.raw_folder / "slides"
    (folder / "sub").mkdir()
    for name in ["P01-b.svs", "sub/P00-a.tif", "notes.txt"]:
        (folder / name).write_text("x")
    slides = build_slides(description)
    assert slides["slide_id"].tolist() == ["P00-a", "P01-b"]
    assert slides["patient_id"].tolist() == ["P00", "P01"]
    assert slides["path"].tolist() == [str(folder / "sub/P00-a.tif"), str(folder / "P01-b.svs")]
    (folder / "P01-b.tiff").write_text("x")
    with pytest.raises(InputError, match=r"P01-b\.svs and P01-b\.tiff are both of slide P01-b"):
        build_slides(description)


def test_a_folder_without_slides_is_refused(describe, tables) -> None:
    with pytest.raises(InputError, match=r"no file matches"):
        build_slides(describe(tables, slides={"folder": {"folder": "slides", "patient": "^(P..)"}}))


def zipped(raw: Path, names: list[str]) -> None:
    with zipfile.ZipFile(raw / "f.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "x")


def test_imported_features_are_slides_without_a_file(describe, tables) -> None:
    description = describe(tables, slides=None, features=[HIPT], exclude={"P01-x": "a recurrence"})
    zipped(description.raw_folder, ["P00-x.h5", "P01-x.h5", "P01-y.h5"])
    slides = build_slides(description)
    assert slides["slide_id"].tolist() == ["P00-x", "P01-y"]
    assert slides["path"].isna().all()


def test_features_of_slides_in_the_table_are_not_new_slides(describe, tables) -> None:
    description = describe(tables, features=[HIPT])
    zipped(description.raw_folder, ["P00-S1.h5", "P05-new.h5"])
    slides = build_slides(description)
    assert len(slides) == len(tables["slides"]) + 1
    assert slides.set_index("slide_id")["path"]["P00-S1"] is not None


def test_features_without_a_patient_pattern_follow_the_table(describe, tables, caplog) -> None:
    description = describe(tables, features=[{**HIPT, "patient": None}])
    zipped(description.raw_folder, ["P00-S1.h5", "Q-new.h5"])
    assert len(build_slides(description)) == len(tables["slides"])
    assert "not in the slide table, left out: Q-new" in caplog.text


def test_names_that_do_not_match_are_refused(describe, tables) -> None:
    description = describe(tables, slides=None, features=[HIPT])
    zipped(description.raw_folder, ["X00.h5"])
    with pytest.raises(InputError, match=r"no patient id .* in X00\. Correct `features\.patient`"):
        build_slides(description)
    source = Features.model_validate({**HIPT, "slide": r"(.+)\.pt$"})
    with pytest.raises(InputError, match=r"X00\.h5 does not match .*Correct `features\.slide`"):
        feature_files(description.raw_folder / "f.zip", source.slide)


def test_written_and_read_back_alike(describe, tables, tmp_path: Path) -> None:
    slides = build_slides(describe(tables))
    write_slides(tmp_path / "s.parquet", slides)
    pd.testing.assert_frame_equal(read_slides(tmp_path / "s.parquet"), slides, check_dtype=False)


def test_a_cohort_without_slides_has_an_empty_table(tmp_path: Path) -> None:
    description = CohortDescription.model_validate(
        {"name": "x", "raw": tmp_path, "patients": [{"file": "p", "id": "i"}]}
    )
    assert build_slides(description).columns.tolist() == ["slide_id", "patient_id", "path", "mpp"]
    assert len(build_slides(description)) == 0


@pytest.mark.parametrize("bad", ["../../etc/x", "/tmp/x", "NUL", "a\nb"])
def test_an_id_that_could_leave_its_folder_is_refused(describe, tables, bad: str) -> None:
    tables["slides"].loc[2, "slide"] = bad
    with pytest.raises(InputError, match=r"column 'slide', row 4: .*Identifiers name files"):
        build_slides(describe(tables))


def test_a_pattern_cannot_make_such_an_id_either(describe, tables) -> None:
    description = describe(tables, slides={"folder": {"folder": "slides", "slide": r"(.+)\.svs$", "patient": "^(P..)"}})
    (description.raw_folder / "slides/P01 .svs").write_text("x")
    with pytest.raises(InputError, match="begins or ends with a blank"):
        build_slides(description)


def test_slides_that_differ_in_case_only_are_refused(describe, tables) -> None:
    tables["slides"].loc[1, "slide"] = "p00-s1"
    with pytest.raises(InputError, match="differ in upper and lower case only: P00-S1, p00-s1"):
        build_slides(describe(tables))


def test_slides_of_normal_tissue_are_left_out_with_the_reason(describe, tables) -> None:
    tables["slides"].loc[0, "slide"] = "TCGA-02-0001-11A-01-TS1"
    tables["slides"].loc[1, "slide"] = "TCGA-02-0001-01Z-00-DX1"
    ledger = Ledger()
    slides = build_slides(describe(tables), ledger)
    assert "TCGA-02-0001-11A-01-TS1" not in set(slides["slide_id"])
    assert "TCGA-02-0001-01Z-00-DX1" in set(slides["slide_id"])
    assert ledger.left_out("slide") == {"tissue normal: not of the tumor": 1}


def test_how_features_match_the_slide_table_is_told(describe, tables) -> None:
    description = describe(tables, features=[{**HIPT, "patient": None}])
    with zipfile.ZipFile(description.raw_folder / "f.zip", "w") as archive:
        for name in ("P00-S1.h5", "P01_S1.h5", "P99-S1.h5"):
            archive.writestr(name, "x")
    ledger = Ledger()
    build_slides(description, ledger)
    (join,) = ledger.joins
    assert (join.name, join.matched, join.left, join.right) == ("features of f.zip to slides", 1, 3, 25)
    assert join.hint == "1 more match if dots, underscores and blanks are read as dashes: P01_S1 is P01-S1"
    assert [r.source for r in ledger.records if r.status == "left out"] == ["P01_S1", "P99-S1"]


TABLE = {"file": "slides.csv", "id": "slide", "patient": "patient", "path": "file", "mpp": 0.69}


@pytest.mark.parametrize("source", ["boxes", "boxes.csv"])
def test_fields_are_a_column_or_a_file_and_come_back_from_the_store(
    describe, tables, source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tables["slides"]["file"] = "slides/section.jpg"  # all are fields of one image
    tables["slides"]["boxes"] = ["0 0 100 80; 200 0 100 80"] * (len(tables["slides"]) - 1) + [""]
    slides = {"table": {**TABLE, "fields": source}, "upsample": True}
    description = describe(tables, slides=slides)
    named = tables["slides"]["slide"][:-1]
    lines = [f"{slide},{x},0,100,80" for slide in named for x in (0, 200)]
    (description.raw_folder / "boxes.csv").write_text("\n".join(["slide_id,x,y,width,height", *lines]))
    built = build_slides(description)
    assert set(built["path"]) == {str(description.raw_folder / "slides/section.jpg")}
    write_slides(tmp_path / "s.parquet", built)
    stored = read_slides(tmp_path / "s.parquet").set_index("slide_id")
    options = {name: SlideOptions.of_row(row) for name, row in stored.to_dict("index").items()}
    whole = options.pop("P00-S2")
    assert (whole.fields, whole.upsample, whole.mpp) == ((), True, 0.69)
    assert {each.fields for each in options.values()} == {((0, 0, 100, 80), (200, 0, 100, 80))}
    assert "1 slides without fields are cut whole: P00-S2" in caplog.text


def test_without_fields_and_upsample_the_store_is_as_before(describe, tables, tmp_path: Path) -> None:
    write_slides(tmp_path / "s.parquet", build_slides(describe(tables)))
    assert read_slides(tmp_path / "s.parquet").columns.tolist() == ["slide_id", "patient_id", "path", "mpp"]
