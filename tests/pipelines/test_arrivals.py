"""Every recipe of docs/howto/bring-your-data.md on small files in the real format: import, use, on to the checks."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from dml.cli.app import app
from dml.cohorts.gene_groups import RESOURCES
from dml.cohorts.store_files import read_expression, read_patients
from dml.config.params import load
from dml.core.files import read_json, read_parquet
from dml.encoders.registry import register
from pipelines import check_cohort, check_features, cohort, extract_features, tile
from tests import portals
from tests.painted import fake_card, tissue_pixels, write_image, write_slide

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/howto/bring-your-data.md").read_text()
RECIPES = dict(re.findall(r"```yaml\n# cohorts/(\w+)\.yaml\n(.*?)```", PAGE, re.DOTALL))
PATIENTS = portals.tcga(24)
SLIDES = [f"{p}-01Z-00-DX1" for p in PATIENTS]
DAYS = pd.Series(range(100, 124), PATIENTS)
DEAD = pd.Series([i % 2 for i in range(24)], PATIENTS)
GENES = [g for genes in yaml.safe_load((RESOURCES / "default.yaml").read_text()).values() if isinstance(genes, list)
         for g in genes if g in portals.known_genes()]  # fmt: skip
TPM = portals.expression_of(PATIENTS, GENES)


def clinical(folder: Path) -> None:
    pd.DataFrame({"case": PATIENTS, "days": DAYS.to_numpy(), "dead": DEAD.to_numpy()}).to_csv(
        folder / "clinical.csv", index=False
    )


def slides_only(folder: Path) -> None:
    ids = [f"P{i:03d}" for i in range(20)]
    outcome = {"case": ids, "months": range(20), "status": ["dead", "alive"] * 10}
    pd.DataFrame(outcome).to_csv(folder / "outcome.csv", index=False)
    for i, patient in enumerate(ids):
        write_slide(folder / f"wsi/{patient}-A1.tif", tissue_pixels(384, 320, seed=i, cover=0.9), levels=1)


def photos(folder: Path) -> None:
    """Twenty JPEGs, each with two fields that hold the tissue between them."""
    ids = [f"P{i:03d}" for i in range(20)]
    outcome = {"case": ids, "months": range(20), "status": ["dead", "alive"] * 10}
    pd.DataFrame(outcome).to_csv(folder / "outcome.csv", index=False)
    images = {"image": ids, "case": ids, "file": [f"images/{patient}.jpg" for patient in ids], "um_px": 0.7}
    pd.DataFrame(images).to_csv(folder / "images.csv", index=False)
    fields = [(patient, x, 0, 260, 384) for patient in ids for x in (0, 260)]
    columns = ["slide_id", "x", "y", "width", "height"]
    pd.DataFrame(fields, columns=columns).to_csv(folder / "fields.csv", index=False)
    for i, patient in enumerate(ids):
        write_image(folder / f"images/{patient}.jpg", tissue_pixels(520, 384, seed=i, cover=0.9))


def from_trident(folder: Path) -> None:
    clinical(folder)
    portals.write_trident(folder / "20x_256px_0px_overlap/features_uni_v1", SLIDES, width=1024)


def from_stamp(folder: Path) -> None:
    clinical(folder)
    portals.write_stamp(folder / "uni-9f3c2b1a", SLIDES, width=1024)


def from_clam(folder: Path) -> None:
    clinical(folder)
    portals.write_clam(folder, SLIDES, width=1024)


def from_mcat(folder: Path) -> None:
    portals.write_mcat(folder / "tcga_gbmlgg_all_clean.csv", PATIENTS, GENES)
    slides = pd.read_csv(folder / "tcga_gbmlgg_all_clean.csv")["slide_id"].str.removesuffix(".svs")
    portals.write_clam(folder, list(slides), width=1024)


def from_gdc(folder: Path) -> None:
    portals.write_gdc(folder, TPM, {PATIENTS[3]: "Solid Tissue Normal"})
    portals.write_gdc_clinical(folder / "clinical.tsv", DAYS, DEAD)
    portals.write_trident(folder / "features_uni_v1", SLIDES, width=1024)


def from_cbioportal(folder: Path) -> None:
    portals.write_cbioportal(folder / "study", TPM, DAYS / 30.4375, DEAD)
    portals.write_trident(folder / "features_uni_v1", SLIDES, width=1024)


def from_xena(folder: Path) -> None:
    portals.write_xena(folder, TPM, DAYS, DEAD)
    portals.write_trident(folder / "features_uni_v1", SLIDES, width=1024)


WRITERS: dict[str, Callable[[Path], None]] = {
    writer.__name__: writer
    for writer in (
        slides_only,
        photos,
        from_trident,
        from_stamp,
        from_clam,
        from_mcat,
        from_gdc,
        from_cbioportal,
        from_xena,
    )
}
PIXELS = ("slides_only", "photos")
"""Recipes whose features are extracted from pixels."""


def bring_in(name: str, repository: Path) -> Path:
    """Do what the page says; return the cohort's stores."""
    source = repository / "elsewhere"
    source.mkdir()
    WRITERS[name](source)
    (repository / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (repository / "cohorts").mkdir()
    (repository / "cohorts" / f"{name}.yaml").write_text(RECIPES[name])
    for command in (["import", name, "--source", str(source)], ["use", name]):
        done = CliRunner().invoke(app, ["cohort", *command], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    if name in PIXELS:
        register(fake_card("efficientnet_lite0"))
        text = (repository / "params.yaml").read_text().replace("tile_px: 256", "tile_px: 64")
        (repository / "params.yaml").write_text(text)
    for stage in (cohort, check_cohort, tile, extract_features, check_features):
        assert stage.main() == 0, stage.__name__
    return repository / "data" / name


def test_every_recipe_is_tested() -> None:
    assert {"mine", "together", *WRITERS} == set(RECIPES), "together: test_together.py"


@pytest.mark.parametrize(
    "name", [name if name == "from_gdc" else pytest.param(name, marks=pytest.mark.slow) for name in WRITERS]
)
def test_a_recipe_brings_its_files_to_the_checks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from dml.encoders import registry

    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    data = bring_in(name, tmp_path)
    assert load().cohort == name
    patients = read_patients(data / "patients.parquet")
    assert len(patients) == (20 if name in PIXELS else 24)
    manifest = read_parquet(data / "features/manifest.parquet")[0].to_pandas()
    assert set(manifest["status"]) == {"ok"}
    assert set(manifest["patient_id"]) == set(patients["patient_id"])
    expression = read_expression(data / "expression.parquet")
    checks = tmp_path / "reports" / name / "checks"
    assert read_json(checks / "features.json")["success"]
    summary = (checks / "cohort/summary.txt").read_text()
    if name in (*PIXELS, "from_trident", "from_stamp", "from_clam"):
        assert expression.unit == "absent"
        return
    assert set(expression.patient_ids) == set(PATIENTS)
    assert "tumor genes measured" in summary
    assert set(expression.genes) == set(GENES)
    if name != "from_mcat":
        follow_up = patients.set_index("patient_id")
        np.testing.assert_allclose(follow_up.loc[PATIENTS, "survival_days"], DAYS)
        assert follow_up.loc[PATIENTS, "event"].astype(int).tolist() == DEAD.tolist()
        np.testing.assert_allclose(
            expression.values, np.log2(TPM.loc[list(expression.patient_ids), list(expression.genes)] + 1), rtol=1e-5
        )


@pytest.mark.slow
def test_coordinates_and_magnification_of_trident_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dml.data.feature_store import read_features

    monkeypatch.chdir(tmp_path)
    data = bring_in("from_trident", tmp_path)
    tokens, coords, meta = read_features(data / "features/uni/0.5" / f"{SLIDES[0]}.parquet", "uni", 1024)
    assert coords is not None
    assert len(tokens) == len(coords)
    # level 0 is 40x (0.25 microns per pixel), patches of 512 of its pixels: 128 microns wide
    assert coords[:2].tolist() == [[64.0, 64.0], [192.0, 64.0]]
    assert (meta["tile_um"], meta["patient_id"]) == (128, PATIENTS[0])
