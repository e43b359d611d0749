"""Two cohorts of two portals, brought in one by one and then trained together; and one without transcriptomes."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from dml.cli.app import app
from dml.cohorts.gene_groups import RESOURCES
from dml.cohorts.store_files import read_expression, read_patients
from dml.config import params as config
from dml.core.files import read_json, read_parquet
from dml.data.feature_store import bag_path
from dml.models import registry
from dml.training.folds import select_test_patients
from dml.training.train import distill_student, train_teacher
from pipelines import check_cohort, check_features, cohort, evaluate, extract_features, split, tile
from pipelines import train_linear_baselines as baseline
from pipelines.inputs import Job, read_inputs
from tests import portals

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/howto/bring-your-data.md").read_text()
RECIPES = dict(re.findall(r"```yaml\n# cohorts/(\w+)\.yaml\n(.*?)```", PAGE, re.DOTALL))
PARTS = ("from_gdc", "from_xena")
STAGES: tuple[ModuleType, ...] = (cohort, check_cohort, tile, extract_features, check_features, split)
GENES = [g for genes in yaml.safe_load((RESOURCES / "default.yaml").read_text()).values() if isinstance(genes, list)
         for g in genes if g in portals.known_genes()]  # fmt: skip


def dml(*arguments: str) -> None:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output


def run(name: str) -> Path:
    """Use a cohort and run the stages up to the folds; return its stores."""
    dml("cohort", "use", name)
    for stage in STAGES:
        assert stage.main() == 0, f"{name}: {stage.__name__}"
    return Path("data") / name


def follow_up(patients: Sequence[str]) -> tuple[pd.Series, pd.Series]:
    days = pd.Series(np.arange(len(patients)) * 10 + 100, list(patients))
    return days, pd.Series([int(i % 3 > 0) for i in range(len(patients))], list(patients))


def write_gdc(folder: Path) -> list[str]:
    patients = portals.tcga(24)
    portals.write_gdc(folder, portals.expression_of(patients, GENES))
    portals.write_gdc_clinical(folder / "clinical.tsv", *follow_up(patients))
    portals.write_trident(folder / "features_uni_v1", [f"{p}-01Z-00-DX1" for p in patients], width=1024)
    return patients


def write_xena(folder: Path) -> list[str]:
    """Write another cohort: other patients, genes that the first does not measure, and a shift in all."""
    patients = [f"TCGA-76-{2000 + i}" for i in range(22)]
    genes = GENES[8:]
    portals.write_xena(folder, portals.expression_of(patients, genes, seed=9) * 8, *follow_up(patients))
    portals.write_trident(folder / "features_uni_v1", [f"{p}-01Z-00-DX1" for p in patients], width=1024, seed=4)
    return patients


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which the recipe `together` was followed up to the folds."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
        Path("cohorts").mkdir()
        for name in (*PARTS, "together"):
            Path(f"cohorts/{name}.yaml").write_text(RECIPES[name])
        for name, write in zip(PARTS, (write_gdc, write_xena), strict=True):
            write(folder / "elsewhere" / name)
            dml("cohort", "import", name, "--source", f"elsewhere/{name}")
            run(name)
        dml("cohort", "import", "together")
        run("together")
    return folder


@pytest.fixture(autouse=True)
def _inside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "place" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("place"))


@pytest.mark.slow
def test_two_cohorts_are_one_with_the_folds_of_each(place: Path) -> None:
    patients = read_patients(place / "data/together/patients.parquet")
    assert patients["cohort"].value_counts().to_dict() == {"from_gdc": 24, "from_xena": 22}
    assert read_expression(place / "data/together/expression.parquet").genes == tuple(sorted(GENES[8:]))
    slide = "TCGA-14-1000-01Z-00-DX1"
    first, second = (
        bag_path(place / "data" / name / "features", "uni", 0.5, slide) for name in ("from_gdc", "together")
    )
    assert first.samefile(second), "features are linked, not copied"
    folds = [read_parquet(place / "data" / name / "splits.parquet")[0].to_pandas() for name in (*PARTS, "together")]
    expected = pd.concat(folds[:2]).sort_values(["fold", "patient_id"], ignore_index=True)
    pd.testing.assert_frame_equal(folds[2], expected)


@pytest.mark.slow
def test_the_shift_between_them_is_shown(place: Path) -> None:
    table = pd.read_csv(place / "reports/together/checks/cohort/drift.csv")
    shifted = table[(table["site"] == "cohort from_xena") & (table["kind"] == "gene")]
    assert (shifted["d"] > 1).all(), "eight times the expression"
    summary = (place / "reports/together/checks/cohort/summary.txt").read_text()
    assert "site cohort from_xena, patients 22, genes 1.0" in summary


@pytest.mark.slow
def test_importing_again_does_nothing_and_follows_its_parts(place: Path) -> None:
    from dml.cohorts.import_raw import import_cohort

    assert import_cohort("together", None) == []
    gone = place / "data/raw/together/from_gdc/features/uni/0.5/old.parquet"
    gone.write_bytes(b"x")
    assert import_cohort("together", None) == []
    assert not gone.exists(), "what the part does not have goes"


@pytest.mark.slow
def test_a_teacher_learns_from_both_and_the_report_has_a_row_for_each(place: Path) -> None:
    params = config.load()
    quick = {"optimisation": params.optimisation.model_copy(update={"epochs": 1, "ensemble_size": 1})}
    quick |= {"evaluation": params.evaluation.model_copy(update={"resamples": 50, "min_patients": 10, "min_events": 5})}
    small = params.model.model_copy(update={"linear_offset": config.LinearOffset(), "width": 16})
    quick |= {"inputs": config.Inputs(time_bins=2), "model": small}
    params = params.model_copy(update=quick)
    job = Job(params, "survival", 0)
    inputs = read_inputs(job)
    model = train_teacher(inputs.fold, params, "survival").model
    test = select_test_patients(inputs.cohort, inputs.splits, 0)
    predicted = model.predict(test)
    assert np.isfinite(predicted["risk"]).all()
    assert {patient[:7] for patient in predicted["patient_id"]} == {"TCGA-02", "TCGA-14", "TCGA-76"}
    for fold in params.folds:
        own = Job(params, "survival", fold)
        for name in registry.linear_names():
            baseline.write(own, name, baseline.fit(own, read_inputs(own), name))
    evaluate.run(params, "survival")
    details = read_json(place / "reports/together/survival/details.json")
    rows = {(g["column"], g["value"]): g["patients"] for g in details["subgroups"]["groups"]}
    assert (rows["cohort", "from_gdc"], rows["cohort", "from_xena"]) == (24, 22)
    metrics = read_json(place / "reports/together/survival/metrics.json")
    assert {"c_index", "c_index_gdc", "c_index_xena"} <= set(metrics["linear_slide"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # a layer for no gene at all
def test_a_cohort_of_slides_alone_is_dealt_learnt_from_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    Path("cohorts").mkdir()
    Path("cohorts/from_trident.yaml").write_text(RECIPES["from_trident"])
    patients = portals.tcga(30)
    days, dead = follow_up(patients)
    source = tmp_path / "elsewhere"
    portals.write_trident(
        source / "20x_256px_0px_overlap/features_uni_v1", [f"{p}-01Z-00-DX1" for p in patients], width=1024
    )
    pd.DataFrame({"case": patients, "days": days.to_numpy(), "dead": dead.to_numpy()}).to_csv(source / "clinical.csv")
    dml("cohort", "import", "from_trident", "--source", "elsewhere")
    run("from_trident")
    splits = read_parquet(Path("data/from_trident/splits.parquet"))[0].to_pandas()
    assert sorted(splits.loc[splits["role"] == "test", "patient_id"]) == sorted(patients)
    params = config.load()
    quick = {"optimisation": params.optimisation.model_copy(update={"epochs": 1, "ensemble_size": 1})}
    small = params.model.model_copy(update={"linear_offset": config.LinearOffset(), "width": 16})
    quick |= {"inputs": config.Inputs(time_bins=2), "model": small}
    params = params.model_copy(update=quick)
    inputs = read_inputs(Job(params, "survival", 0))
    for teacher in (train_teacher(inputs.fold, params, "survival").model, None):
        student = distill_student(inputs.fold, params, "survival", teacher).model
        predicted = student.predict(select_test_patients(inputs.cohort, inputs.splits, 0))
        assert len(predicted) == 10
        assert np.isfinite(predicted["risk"]).all()
