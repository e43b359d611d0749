"""Regions of sections: every spot counts once, counts are summed before the logarithm, fields stay inside the image."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.sparse import csr_matrix

from dml.cohorts.description import CohortDescription
from dml.cohorts.regions import assign_regions, build_region_cohort, sum_counts
from dml.cohorts.spot_store import SpotTable
from dml.core.errors import ConfigError, InputError
from dml.readers.region_units import RegionUnits

GENES = ("EPCAM", "KRT8", "PTPRC")
TARGETS = {
    "invasive": {"kind": "share", "values": ["invasive"], "without": ["undetermined"]},
    "immune": {"kind": "proportion", "values": ["B", "T"], "min_spots": 3},
    "score": {"kind": "signature", "values": ["EPCAM", "KRT8"]},
    "tissue": {"kind": "dominant", "values": ["invasive", "stroma"], "min_share": 0.6},
}


def spot_table(columns: int = 6, rows: int = 4, sections: tuple[str, ...] = ("S1", "S2")) -> SpotTable:
    """Spots 100 um apart from (150, 150) px on, 1 um a pixel: left half invasive, right half stroma."""
    rng = np.random.default_rng(0)
    frames = []
    for section in sections:
        y, x = np.mgrid[:rows, :columns]
        frame = pd.DataFrame({"array_x": x.ravel(), "array_y": y.ravel()}, dtype=float)
        frame["spot_id"] = [f"{i}x{j}" for i, j in zip(x.ravel(), y.ravel(), strict=True)]
        frame["x_px"], frame["y_px"] = 150 + 100 * frame["array_x"], 150 + 100 * frame["array_y"]
        frame["on_tissue"], frame["section_id"], frame["patient_id"] = True, section, "P"
        frame["region"] = np.where(frame["array_x"] < columns / 2, "invasive", "stroma")
        frame["proportion.B"], frame["proportion.T"] = 0.1, frame["array_x"] / 10
        frames.append(frame)
    spots = pd.concat(frames, ignore_index=True)
    counts = csr_matrix(rng.poisson(20, (len(spots), 3)).astype(np.float32))
    spots["n_counts"] = np.asarray(counts.sum(axis=1)).ravel().astype(float)
    spots["n_genes"] = counts.getnnz(axis=1)
    return SpotTable(spots, counts, GENES, 100.0, 50.0)


def description(folder: Path, units: dict[str, object], **more: object) -> CohortDescription:
    raw = folder / "raw"
    (raw / "images").mkdir(parents=True)
    for name in ("S1", "S2"):
        Image.new("RGB", (760, 560), (200, 150, 180)).save(raw / "images" / f"{name}.png")
    spatial = {"format": "st_tsv", "spots": "s/{slide}.tsv", "counts": "c/{slide}.tsv", "spacing_um": 100}
    return CohortDescription.model_validate(
        {
            "name": "regions",
            "raw": raw,
            "slides": {"folder": {"folder": "images", "patient_id": "P", "mpp": 1.0}},
            "spatial": {**spatial, "spot_diameter_um": 50, "regions": units},
            "gene_groups": {"file": "groups.yaml"},
            **more,
        }
    )


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CohortDescription:
    made = description(tmp_path, {"size_um": 300, "min_spots": 3, "group": "section", "targets": TARGETS})
    (tmp_path / "raw" / "groups.yaml").write_text("tumor: [EPCAM, KRT8]\ntme: [PTPRC]\n")
    monkeypatch.chdir(tmp_path)
    return made


def test_every_spot_is_in_the_region_around_it() -> None:
    table = spot_table()
    regions = assign_regions(table, {"S1": 1.0, "S2": 1.0}, RegionUnits(size_um=300, min_spots=1))
    assert len(regions) == len(table.spots)
    spots = table.spots.loc[regions.index]
    for axis in ("x", "y"):
        offset = spots[f"{axis}_px"] - regions[f"{axis}0_px"]
        assert ((offset >= 0) & (offset < 300)).all()
    assert regions["x0_px"].min() == 100, "half a spacing before the first spot"
    assert set(regions["unit"]) == {f"{s}_r0{r}c0{c}" for s in ("S1", "S2") for r in (0, 1) for c in (0, 1)}


def test_regions_of_few_spots_and_spots_off_the_tissue_do_not_count() -> None:
    table = spot_table()
    table.spots.loc[table.spots["section_id"] == "S2", "on_tissue"] = False
    regions = assign_regions(table, {"S1": 1.0, "S2": 1.0}, RegionUnits(size_um=300, min_spots=9))
    assert set(regions["unit"]) == {"S1_r00c00", "S1_r00c01"}, "the second row of regions has three spots each"


def test_half_the_resolution_is_the_same_regions() -> None:
    table = spot_table()
    coarse = spot_table()
    coarse.spots[["x_px", "y_px"]] /= 2
    units = RegionUnits(size_um=300, min_spots=1)
    fine = assign_regions(table, {"S1": 1.0, "S2": 1.0}, units)
    half = assign_regions(coarse, {"S1": 2.0, "S2": 2.0}, units)
    assert fine["unit"].equals(half["unit"])
    assert np.allclose(half["x0_px"], fine["x0_px"] / 2)


def test_counts_are_summed_before_the_logarithm() -> None:
    table = spot_table()
    regions = assign_regions(table, {"S1": 1.0, "S2": 1.0}, RegionUnits(size_um=300, min_spots=1))
    matrix = sum_counts(table, regions)
    for i, unit in enumerate(matrix.patient_ids):
        total = table.counts[regions.index[regions["unit"] == unit]].toarray().sum(axis=0)
        expected = dict(zip(GENES, np.log2(total / total.sum() * 1e6 + 1), strict=True))
        assert matrix.values[i] == pytest.approx([expected[gene] for gene in matrix.genes], rel=1e-6)


def test_a_region_without_counts_is_named() -> None:
    table = spot_table()
    regions = assign_regions(table, {"S1": 1.0, "S2": 1.0}, RegionUnits(size_um=300, min_spots=1))
    empty = SpotTable(table.spots, csr_matrix(table.counts.shape, dtype=np.float32), GENES, 100.0, 50.0)
    with pytest.raises(InputError, match=r"no counts in the regions S1_r00c00"):
        sum_counts(empty, regions)


def test_a_region_cohort_has_a_patient_a_slide_and_an_expression_for_each_region(cohort: CohortDescription) -> None:
    tables = build_region_cohort(cohort, spot_table())
    ids = tuple(tables.patients["patient_id"])
    assert ids == tuple(tables.slides["slide_id"]) == tables.expression.patient_ids
    assert set(tables.patients["group"]) == set(tables.slides["section_id"]) == {"S1", "S2"}
    assert tables.classes == {"invasive": (), "immune": (), "score": (), "tissue": ("invasive", "stroma")}
    boxes = [box for boxes in tables.slides["fields_px"] for box in boxes]
    assert all(x >= 0 and y >= 0 and x + w <= 760 and y + h <= 560 for x, y, w, h in boxes)
    assert {tuple(box[2:]) for box in boxes} == {(300, 300), (300, 160)}, "cut where the image ends"
    assert tables.ledger.frame()["patient_id"].isin(ids).all()


def test_targets_are_what_their_spots_say(cohort: CohortDescription) -> None:
    table = spot_table()
    table.spots.loc[0, "region"] = "undetermined"
    table.spots.loc[[1, 2], "region"] = "stroma"
    table.spots.loc[table.spots["section_id"] == "S2", "proportion.T"] = np.nan
    patients = build_region_cohort(cohort, table).patients.set_index("patient_id")
    assert patients.loc["S1_r00c00", "invasive"] == pytest.approx(6 / 8), "nine spots, one undetermined, two stroma"
    assert patients.loc["S1_r00c01", "invasive"] == 0
    assert patients.loc["S1_r00c00", "immune"] == pytest.approx(0.1 + (0 + 0.1 + 0.2) / 3)
    assert patients.loc["S2_r00c00", ["immune"]].isna().all()
    assert patients.loc["S1_r00c00", "tissue"] == "invasive"
    assert patients.loc["S1_r00c01", "tissue"] == "stroma"
    matrix = build_region_cohort(cohort, table).expression
    rows = matrix.values[:, [matrix.genes.index("EPCAM"), matrix.genes.index("KRT8")]].mean(axis=1)
    assert patients["score"].to_numpy() == pytest.approx(rows)


def test_the_group_is_the_patient_unless_said_otherwise(cohort: CohortDescription) -> None:
    assert cohort.spatial is not None
    units = RegionUnits(size_um=300, min_spots=3)
    by_patient = cohort.model_copy(update={"spatial": cohort.spatial.model_copy(update={"regions": units})})
    assert set(build_region_cohort(by_patient, spot_table()).patients["group"]) == {"P"}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"kind": "share", "values": ["invasiv"]}, r"no invasiv; there are invasive, stroma"),
        ({"kind": "proportion", "values": ["NK"]}, r"no proportion\.NK"),
        ({"kind": "signature", "values": ["GFAP"]}, r"none of its 1 genes is measured: GFAP"),
    ],
)
def test_a_target_that_is_not_measured_is_named(
    cohort: CohortDescription, target: dict[str, object], message: str
) -> None:
    assert cohort.spatial is not None
    units = RegionUnits.model_validate({"size_um": 300, "min_spots": 3, "targets": {"wrong": target}})
    wrong = cohort.model_copy(update={"spatial": cohort.spatial.model_copy(update={"regions": units})})
    with pytest.raises(InputError, match=message):
        build_region_cohort(wrong, spot_table())


def test_no_region_with_enough_spots_is_an_error(cohort: CohortDescription) -> None:
    assert cohort.spatial is not None
    units = RegionUnits(size_um=300, min_spots=99)
    few = cohort.model_copy(update={"spatial": cohort.spatial.model_copy(update={"regions": units})})
    with pytest.raises(InputError, match=r"no region of 300 microns has 99 spots on tissue\. Lower"):
        build_region_cohort(few, spot_table())


def test_tables_of_patients_beside_regions_are_refused(cohort: CohortDescription) -> None:
    labelled = cohort.model_copy(update={"labels": {"grade": object()}})
    with pytest.raises(ConfigError, match=r"regions are the patients.*remove patients, expression and labels"):
        build_region_cohort(labelled, spot_table())
