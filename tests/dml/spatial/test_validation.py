"""Spatial validation of trained models on a painted cohort: planted maps are recovered, out of fold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dml.attribution.attribute import attribute
from dml.cohorts.spot_store import empty_spots, write_spots
from dml.core.errors import InputError
from dml.core.types import Mpp
from dml.data.batches import collate
from dml.data.cohort_store import CohortStore
from dml.spatial.cohort_validation import read_spatial_cohort, settings_of, validate_and_report
from dml.spatial.comparison import Settings
from dml.spatial.measurements import TUMOR_REGIONS
from dml.spatial.spatial_page import write_not_spatial
from dml.spatial.spot_predictions import predict_spots
from dml.spatial.tile_maps import SectionUnits, choose_output, folds_not_trained_on, map_tiles, section_units
from dml.spatial.token_origin import token_origins
from dml.spatial.validation import SpatialValidation, validate_model
from tests.dml.spatial.conftest import Painted
from tests.painted_sections import DIAMETER_UM, PARAMS, SECTIONS, SIDE, SLIDE_MPP, TILE_UM, Fields

SETTINGS = Settings(draws=299, resamples=200)


@pytest.fixture(scope="session")
def validation(painted: Painted) -> SpatialValidation:
    return validate_model("student", painted.folds, painted.data, SETTINGS)


def units_of(painted: Painted, section: str) -> SectionUnits:
    data = painted.data
    return section_units(section, data.slides, data.manifest, data.groups, data.cohort)


def test_a_section_is_mapped_by_the_one_fold_that_never_saw_it(painted: Painted, validation: SpatialValidation) -> None:
    assert [(s.section_id, s.folds, s.units) for s in validation.sections] == [(name, 1, 16) for name in SECTIONS]
    for number, section in enumerate(SECTIONS):
        assert folds_not_trained_on(painted.folds, units_of(painted, section)) == [painted.folds[number]]
    two = validate_model("student", painted.folds[:2], painted.data, SETTINGS)
    assert two.left_out == ("S3",)
    spots = replace(painted.spots, spots=painted.spots.spots[painted.spots.spots["section_id"] == "S3"])
    with pytest.raises(InputError, match="every fold of student was trained on each of the 1 sections"):
        validate_model("student", painted.folds[:2], replace(painted.data, spots=spots), SETTINGS)


def test_planted_maps_are_recovered(validation: SpatialValidation) -> None:
    rows = {(r.comparison.map, r.comparison.measurement, r.comparison.less): r for r in validation.claims}
    assert rows["predicted", TUMOR_REGIONS, None].shown
    assert rows["predicted", TUMOR_REGIONS, None].value > 0.65
    assert rows["tumor.contribution", TUMOR_REGIONS, None].value > 0.6
    planted = []
    for number, section in enumerate(validation.sections):
        positions = section.spots[["x_um", "y_um"]].to_numpy()
        tumor, tme = Fields.draw(number).at(positions).T
        planted.append(np.corrcoef(section.maps["predicted"], tumor - tme)[0, 1])
    assert min(planted) > 0.5


def test_magnifications_agree_on_the_planted_map(validation: SpatialValidation) -> None:
    rows = {r.comparison.map: r for r in validation.tables["magnifications"]}
    assert rows["tumor.contribution.0.5"].shown
    assert rows["tumor.contribution.0.5"].value > 0.4


def test_values_of_tiles_are_those_of_the_attribution_times_the_tiles_of_the_unit(painted: Painted) -> None:
    units = units_of(painted, "S1")
    level = map_tiles(painted.folds[:1], units, painted.cohort, "high")[1]
    case = units.whole[0]
    result = attribute(painted.folds[:1], painted.cohort.subset({case.patient_id}))
    part = result.part("tme", level.mpp)
    n = len(part.attention)
    assert level.values["tme", "contribution"][:n] == pytest.approx(n * part.contribution[:, 1])
    assert level.values["tme", "attention"][:n].mean() == pytest.approx(1)
    sums = [level.values[branch, "contribution"] for branch in ("tumor", "tme")]
    assert level.values["total", "contribution"] == pytest.approx(np.sum(sums, axis=0))
    assert len(level.coords_um) == SIDE**2


def test_a_spot_is_predicted_from_its_tiles_alone(painted: Painted, validation: SpatialValidation) -> None:
    units, section = units_of(painted, "S1"), validation.sections[0]
    spot = 40
    position = section.spots[["x_um", "y_um"]].to_numpy()[[spot]]
    alone = predict_spots(painted.folds[:1], units, painted.cohort, position, DIAMETER_UM, None)
    assert alone[0] == pytest.approx(section.maps["predicted"][spot], abs=1e-5)
    bags = {}
    for mpp, side in TILE_UM.items():
        every = [case.bags[Mpp(mpp)] for case in units.cases]
        coords = torch.cat([bag.coords_um for bag in every])
        reach = np.maximum(np.abs(coords.numpy() - position) - side / 2, 0)
        near = torch.from_numpy(np.flatnonzero(np.hypot(*reach.T) < DIAMETER_UM / 2 - 1e-6))
        tokens, slide = torch.cat([bag.tokens for bag in every])[near], torch.cat([bag.slide for bag in every])[near]
        bags[Mpp(mpp)] = replace(every[0], tokens=tokens, coords_um=coords[near], slide=slide)
    one = replace(painted.cohort, cases=(replace(units.cases[0], bags=bags, expression=None),))
    p = painted.folds[0].predict(one)["p_high"].iloc[0]
    assert alone[0] == pytest.approx(np.log(p / (1 - p)) / 2, abs=1e-4)
    far = predict_spots(painted.folds[:1], units, painted.cohort, np.array([[1e5, 1e5]]), DIAMETER_UM, None)
    assert np.isnan(far).all()


def test_the_origin_of_tokens_is_made_of_the_attention_of_the_queries(painted: Painted) -> None:
    fold, patient = painted.folds[0], painted.cohort.subset({painted.cohort.cases[0].patient_id})
    origins = {(o.subspace, o.mpp): o for o in token_origins([fold], patient)}
    assert set(origins) == {(s, mpp) for s in ("tumor", "tme") for mpp in TILE_UM}
    batch = collate([fold.reader(patient)(patient.cases[0])], fold.spec.preprocessor)
    with torch.inference_mode():
        output = fold.members[0](batch)
    for (subspace, mpp), traced in origins.items():
        attention = output.attention[subspace][sorted(TILE_UM).index(mpp)][0].numpy()
        assert traced.origin.sum() == pytest.approx(1, abs=1e-5)
        assert np.abs(traced.origin - attention).sum() < 0.3, "a gate close to uniform is close to the mean"
        assert 1 <= traced.effective_tokens <= traced.tokens == PARAMS.model.n_queries
        assert 1 <= traced.effective_tiles <= len(attention)


def test_the_report_has_all_files_and_says_first_what_is_not_shown(painted: Painted, tmp_path: Path) -> None:
    out = tmp_path / "spatial"
    (result,) = validate_and_report(
        {"student": painted.folds}, painted.store, painted.spots, painted.cohort, SETTINGS, out, "folds of models/x"
    )
    content = json.loads((out / "spatial.json").read_text())
    assert content["spatial"]
    model = content["models"]["student"]
    hidden = [row for row in model["tables"]["claims"] if not row["shown"]]
    assert model["not_shown"] == hidden
    assert model["draws"] == SETTINGS.draws
    page = (out / "spatial.html").read_text()
    assert page.index("Not shown: student") < page.index("What is compared")
    assert "The sections are of 3 patients" in page
    assert page.count("<figure>") == len(SECTIONS)
    assert {path.name for path in (out / "figures").iterdir()} >= {"student-S1.png", "student-S3-attention.png"}
    table = pd.read_parquet(out / "spots.parquet")
    assert len(table) == len(painted.spots.spots)
    assert {"model", "spot_id", "tumor.contribution.0.5", "tme.deviation", "tumor.tokens", "predicted"} <= set(table)
    assert table["x_um"].to_numpy() == pytest.approx(painted.spots.spots["x_px"].to_numpy() * SLIDE_MPP)
    assert result.to_json() == model


def test_a_teacher_is_said_to_read_the_genes(painted: Painted, tmp_path: Path) -> None:
    teacher = [painted.models.fold_model("teacher", 0)]
    settings = Settings(draws=99, resamples=50)
    validate_and_report({"teacher": teacher}, painted.store, painted.spots, painted.cohort, settings, tmp_path, "x")
    page = (tmp_path / "spatial.html").read_text()
    assert "also reads the expression" in page
    assert "S2, S3 left out" in page


def test_a_cohort_without_spots_gets_a_page_that_says_so(painted: Painted, tmp_path: Path) -> None:
    write_not_spatial("demo", "grade", tmp_path)
    assert json.loads((tmp_path / "spatial.json").read_text())["spatial"] is False
    assert "Not a spatial cohort" in (tmp_path / "spatial.html").read_text()
    assert len(pd.read_parquet(tmp_path / "spots.parquet")) == 0
    write_spots(tmp_path, empty_spots())
    with pytest.raises(InputError, match="nothing to validate"):
        read_spatial_cohort(CohortStore(tmp_path))


def test_settings_are_those_of_params(painted: Painted) -> None:
    settings = settings_of(PARAMS, 200.0)
    assert (settings.draws, settings.block, settings.confidence) == (999, 4, 0.95)
    assert settings_of(PARAMS, 55.0, draws=99).block == 15
    assert settings_of(PARAMS, 200.0, draws=99).draws == 99


def test_bad_input_is_named(painted: Painted) -> None:
    units = units_of(painted, "S1")
    spec = painted.folds[0].spec.model_copy(update={"training_patient_hashes": ()})
    with pytest.raises(InputError, match="do not name their training patients"):
        folds_not_trained_on([replace(painted.folds[0], spec=spec)], units)
    with pytest.raises(InputError, match="no output 'medium'"):
        choose_output(("low", "high"), "medium")
    without = tuple(replace(c, bags={m: replace(b, coords_um=None) for m, b in c.bags.items()}) for c in units.whole)
    bare = replace(painted.cohort, cases=without)
    with pytest.raises(InputError, match="features without coordinates"):
        map_tiles(painted.folds[:1], replace(units, whole=without), bare, None)
    other = replace(painted.data, manifest=painted.data.manifest.iloc[:0])
    with pytest.raises(InputError, match="no features of this section"):
        validate_model("student", painted.folds, other, SETTINGS)
