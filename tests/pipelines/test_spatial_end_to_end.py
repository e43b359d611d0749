"""From painted JPEGs, spot tables and counts to registered models and the spatial page, as a user runs it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from tests.painted_sections import GENES, OTHERS, TME_GENES, TUMOR_GENES, Fields
from tests.pipelines.conftest import Workplace, copy_of_the_repository

pytestmark = pytest.mark.slow

MPP, SPACING_UM, SIDE, MARGIN_PX = 1.4, 200.0, 14, 150
STEP_PX = SPACING_UM / MPP
SECTIONS = ("S1", "S2", "S3", "S4")
NEW = "T1"
"""A section of another patient, which no model has seen."""
UNITS = {
    "size_um": 540,
    "min_spots": 4,
    "group": "section",
    "targets": {"burden": {"kind": "signature", "values": list(TUMOR_GENES)}},
}
SPATIAL = {
    "format": "st_tsv",
    "spots": "{slide}_spots.tsv",
    "counts": "{slide}_counts.tsv.gz",
    "spacing_um": SPACING_UM,
    "spot_diameter_um": 100,
}


def paint(fields: Fields, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Tissue whose nuclei are as dense as the tumor field says, and whose stroma is as red as the other field says."""
    side = round(SIDE * STEP_PX) + 2 * MARGIN_PX
    y, x = np.mgrid[:side:8, :side:8]
    positions = (np.column_stack([x.ravel(), y.ravel()]) - MARGIN_PX) * MPP
    tumor, tme = fields.at(positions).T.reshape(2, *x.shape)
    colour = np.stack([235 - 8 * tme, 170 - 30 * np.clip(tme, -2, 2), 205 - 12 * tme], -1)
    nuclei = rng.random(x.shape) < 0.12 + 0.3 / (1 + np.exp(-2 * tumor))
    colour[nuclei] = (95, 60, 140)
    inside = np.hypot(x - side / 2, y - side / 2) < side * 0.46
    colour[~inside] = (244, 243, 245)
    image = colour.clip(0, 255).astype(np.uint8).repeat(8, 0).repeat(8, 1)[:side, :side]
    noise = rng.integers(-5, 6, size=(side, side, 1))
    return np.asarray((image + noise).clip(0, 255), np.uint8)


def write_section(raw: Path, name: str, seed: int) -> None:
    rng, fields = np.random.default_rng(seed), Fields.draw(seed)
    image = paint(fields, rng)
    (raw / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(raw / "images" / f"{name}.jpg", quality=92)
    y, x = (axis.ravel() for axis in np.mgrid[:SIDE, :SIDE])
    pixels = np.column_stack([x, y]) * STEP_PX + STEP_PX / 2 + MARGIN_PX
    on = np.hypot(*(pixels - len(image) / 2).T) < len(image) * 0.43
    x, y, pixels = x[on], y[on], pixels[on]
    table = {"x": x, "y": y, "pixel_x": pixels[:, 0], "pixel_y": pixels[:, 1], "selected": 1}
    pd.DataFrame(table).to_csv(raw / f"{name}_spots.tsv", sep="\t", index=False)
    tumor, tme = fields.at((pixels - MARGIN_PX) * MPP).T
    parts = [np.exp(tumor)] * len(TUMOR_GENES) + [np.exp(tme)] * len(TME_GENES) + [np.full(len(x), 3.0)] * len(OTHERS)
    ids = [f"{a}x{b}" for a, b in zip(x, y, strict=True)]
    counts = pd.DataFrame(rng.poisson(5 * np.stack(parts, axis=1)), index=ids, columns=list(GENES))
    counts.to_csv(raw / f"{name}_counts.tsv.gz", sep="\t")


def describe(place: Workplace, name: str, patient: str, **more: object) -> None:
    groups = "tumor: [{}]\ntme: [{}]\n".format(", ".join(TUMOR_GENES), ", ".join(TME_GENES))
    (place.folder / "data/raw" / name / "groups.yaml").write_text(groups)
    content = {
        "name": name,
        "generated": True,
        "slides": {"folder": {"folder": "images", "patient_id": patient, "mpp": {"from": "spots"}}},
        "spatial": {**SPATIAL, "regions": UNITS},
        "gene_groups": {"file": "groups.yaml", "min_genes": 4},
        **more,
    }
    (place.folder / "cohorts" / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = copy_of_the_repository(tmp_path_factory.mktemp("sections"))
    for seed, section in enumerate(SECTIONS):
        write_section(place.folder / "data/raw/painted", section, seed)
    write_section(place.folder / "data/raw/unseen", NEW, 99)
    params = {
        "tasks": ["burden"],
        "folds": [0, 1, 2, 3],
        "tiles": {"mpps": [1.4, 2.8], "tile_px": 64},
        "split": {"validation_share": 0.34, "stratify": []},
        "inputs": {"auxiliary": []},
        "optimisation": {"epochs": 12, "ensemble_size": 1, "learning_rate": 1.0e-3},
        "evaluation": {"resamples": 100, "min_patients": 10},
        "baselines": {"deep": ["abmil"]},
        "probes": {"repeats": 1, "faithfulness_patients": 4},
        "spatial_validation": {"draws": 199, "resamples": 100},
    }
    describe(place, "painted", "P", params=params)
    describe(place, "unseen", "Q")
    place.run("dml", "cohort", "use", "painted")
    place.run("dvc", "repro")
    return place


def claims(place: Workplace, file: str, model: str) -> dict[tuple[str, str], dict[str, float]]:
    """Comparisons of a model's maps with measurements: maps alone, not differences of two."""
    rows = json.loads(place.read(file))["models"][model]["tables"]["claims"]
    return {(row["map"], row["measurement"]): row for row in rows if row["less"] is None}


def test_teacher_and_student_are_registered(place: Workplace) -> None:
    metrics = json.loads(place.read("reports/painted/burden/metrics.json"))
    assert metrics["student"]["spearman"]["value"] > 0.5
    assert json.loads(place.read("reports/painted/burden/registered.json"))


def test_the_planted_maps_are_found_on_sections_that_were_left_out(place: Workplace) -> None:
    page = place.read("reports/painted/burden/spatial/spatial.html").decode()
    assert "<img" in page
    for model in ("teacher", "student"):
        found = claims(place, "reports/painted/burden/spatial/spatial.json", model)
        for name in ("predicted", "tumor.contribution"):
            row = found[name, "signature.tumor"]
            assert row["value"] > 0.4
            assert row["p_table"] <= 0.05


def test_a_section_of_another_patient_is_validated_from_one_image_and_two_tables(place: Workplace) -> None:
    place.run("dml", "cohort", "use", "unseen")
    place.set("", tasks=["burden"])
    place.set("tiles", mpps=[1.4, 2.8], tile_px=64)
    place.run("dvc", "repro", "check_features", "check_spots")
    model = "painted-burden-student@challenger"
    place.run("dml", "validate-external", "--model", model, "--cohort", "unseen")
    place.run("dml", "spatial", "--model", model, "--cohort", "unseen", "--draws", "199")
    metrics = json.loads(place.read("reports/unseen/external/painted-burden-student/metrics.json"))
    assert metrics["student"]["spearman"]["value"] > 0.5
    found = claims(place, "reports/unseen/spatial/painted-burden-student/spatial.json", "student")
    assert found["predicted", "signature.tumor"]["value"] > 0.4
    assert b"<img" in place.read("reports/unseen/spatial/painted-burden-student/spatial.html")
