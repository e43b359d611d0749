"""A registered model on a whole other cohort: scored there, or refused with the reason."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from dml.cohorts.store_files import ExpressionMatrix, write_expression
from dml.config.params import Evaluation, Params
from dml.core.errors import InputError
from dml.core.files import digest, read_json, write_json, write_parquet
from dml.data.feature_store import write_bag
from dml.experiments.external_validation import validate_external
from dml.features.manifest import write_manifest
from dml.registry import registration
from tests.trained_models import ENCODER, GENES, GROUPS, cohort, write_folds

SETTINGS = Evaluation(resamples=50)


@pytest.fixture
def stores(client: MlflowClient) -> Callable[..., None]:
    """Write data/other from the tiny cohort."""

    def write(
        encoder: str = ENCODER,
        mpps: tuple[float, ...] = (0.5, 1.0),
        genes: int = len(GENES),
        unit: str = "log2_tpm",
        tile_px: int = 256,
        stains: dict[str, str] | None = None,
        patients: int = 24,
    ) -> None:
        folder, rows, whole = Path("data/other"), [], cohort(patients)
        for case in whole.cases:
            for mpp in mpps:
                bag = next(iter(case.bags.values()))
                meta = {"encoder": encoder, "mpp": mpp, "tile_um": tile_px * mpp, "slide_id": f"s-{case.patient_id}"}
                path = folder / "features" / encoder / f"{mpp:g}" / f"s-{case.patient_id}.parquet"
                write_bag(path, bag.tokens.numpy(), None, {**meta, "patient_id": case.patient_id, **(stains or {})})
                row = {"slide_id": f"s-{case.patient_id}", "patient_id": case.patient_id, "mpp": mpp, "tiles": len(bag)}
                rows.append({**row, "status": "ok", "reason": None, "fingerprint": ""})
        write_manifest(folder / "features/manifest.parquet", rows)
        patients = pd.DataFrame(
            {
                "patient_id": [c.patient_id for c in whole.cases],
                "site": [c.site for c in whole.cases],
                "survival_days": [c.survival.days if c.survival else None for c in whole.cases],
                "event": [c.survival.event if c.survival else None for c in whole.cases],
                "grade": [c.labels["grade"] for c in whole.cases],
                "purity": [c.values["purity"] for c in whole.cases],
            }
        )
        write_parquet(
            folder / "patients.parquet",
            pa.Table.from_pandas(patients),
            {"classes": {"grade": ["G2", "G3", "G4"], "purity": []}, "cohort": "other"},
        )
        values = np.array([case.expression for case in whole.cases])[:, :genes]
        ids = tuple(case.patient_id for case in whole.cases)
        write_expression(folder / "expression.parquet", ExpressionMatrix(ids, GENES[:genes], values, unit, "test"))
        write_json(folder / "gene_groups.json", {"tumor": GROUPS.tumor, "tme": GROUPS.tme, "provenance": ""})

    return write


@pytest.fixture
def registered(client: MlflowClient, params: Callable[..., Params]) -> Callable[..., str]:
    def register(model: str, task: str = "survival", training_patients: tuple[str, ...] = ()) -> str:
        folder = write_folds(Path("models/demo") / task / model, model, task=task)
        for path in folder.glob("*/model.json"):
            write_json(
                path, read_json(path) | {"training_patient_hashes": [digest(patient) for patient in training_patients]}
            )
        reports = Path("reports/demo") / task
        reports.mkdir(parents=True, exist_ok=True)
        (reports / "metrics.json").write_text(json.dumps({model: {"c_index": {"value": 0.7}}}))
        return f"{registration.register(params(), task, model).name}@challenger"

    return register


@pytest.mark.parametrize(("model", "task", "metric"), [("teacher", "survival", "c_index"), ("student", "grade", "auc")])
def test_every_patient_is_predicted_and_scored(
    stores: Callable[..., None], registered: Callable[..., str], model: str, task: str, metric: str
) -> None:
    stores()
    out = validate_external(registered(model, task), "other", SETTINGS)
    assert out == Path(f"reports/other/external/demo-{task}-{model}")
    scored = read_json(out / "metrics.json")[model][metric]
    assert 0 <= scored["ci_low"] <= scored["value"] <= scored["ci_high"] <= 1
    rows = pd.read_parquet(out / "predictions.parquet")
    rows = rows[rows["model"] == model]
    assert sorted(rows["patient_id"]) == sorted(case.patient_id for case in cohort().cases)
    coverage = read_json(out / "coverage.json")
    assert (coverage["patients_evaluated"], coverage["genes"], coverage["genes_missing"]) == (24, 5, [])


@pytest.mark.parametrize(
    ("stored", "model", "reason"),
    [
        ({"encoder": "other"}, "student", "features of other"),
        ({"mpps": (0.5,)}, "student", "features at 0.5 microns per pixel"),
        ({"genes": 2}, "teacher", "40% of the model's genes"),
        ({"unit": "zscore"}, "teacher", "zscore"),
        ({"stains": {"stain_normalisation": "macenko"}}, "student", "stain normalisation macenko"),
        ({"tile_px": 512}, "student", "tiles of 512 microns .* trained on tiles of 128 at 0.5, 256 at 1"),
    ],
)
def test_an_incompatible_cohort_is_refused(
    stores: Callable[..., None], registered: Callable[..., str], stored: dict[str, object], model: str, reason: str
) -> None:
    stores(**stored)
    with pytest.raises(InputError, match=reason):
        validate_external(registered(model), "other", SETTINGS)


def test_a_number_is_predicted_scored_and_recalibrated(
    stores: Callable[..., None], registered: Callable[..., str]
) -> None:
    stores(patients=60)
    out = validate_external(registered("student", "purity"), "other", SETTINGS)
    metrics = read_json(out / "metrics.json")
    assert set(metrics) == {"student", "student-recalibrated"}
    rows = pd.read_parquet(out / "predictions.parquet")
    assert set(rows["target"].round(6)) == {round(0.2 + 0.1 * k, 6) for k in range(7)}
    assert abs(metrics["student-recalibrated"]["bias"]["value"]) < 0.02
    assert metrics["student-recalibrated"]["r2"]["value"] >= min(metrics["student"]["r2"]["value"], -0.1)
    assert "External evaluation of demo-purity-student version 1" in (out / "report.html").read_text()


def test_a_number_where_the_model_has_classes_is_refused(
    stores: Callable[..., None], registered: Callable[..., str]
) -> None:
    stores()
    path = Path("data/other/patients.parquet")
    rows = pd.read_parquet(path).assign(grade=1.5, purity="low")
    write_parquet(path, pa.Table.from_pandas(rows), {"classes": {"grade": [], "purity": ["low", "high"]}})
    for model, task, reason in (("student", "grade", "grade has numbers"), ("student", "purity", "trained on numbers")):
        with pytest.raises(InputError, match=reason):
            validate_external(registered(model, task), "other", SETTINGS)


def test_zero_shot_and_recalibrated_stand_apart(stores: Callable[..., None], registered: Callable[..., str]) -> None:
    stores(patients=60)
    out = validate_external(registered("teacher"), "other", SETTINGS)
    metrics = read_json(out / "metrics.json")
    assert set(metrics) == {"teacher", "teacher-recalibrated"}
    assert metrics["teacher-recalibrated"]["c_index"] == metrics["teacher"]["c_index"]
    ratios = {model: abs(values["oe_1y"]["value"] - 1) for model, values in metrics.items()}
    assert ratios["teacher-recalibrated"] < max(ratios["teacher"], 0.1)
    assert "ibs" in read_json(out / "comparisons.json")["teacher-recalibrated"]["teacher"]
    assert {group["column"] for group in read_json(out / "details.json")["subgroups"]["groups"]} >= {"transcriptome"}
    assert not list((out / "figures").glob("kaplan_meier_*recalibrated*"))
    page = (out / "report.html").read_text()
    assert "External evaluation of demo-survival-teacher version 1" in page
    assert "Fold by fold" not in page
    assert "60 of 60 patients evaluated" in page
    assert "genes: 100% of 5 measured" in page
    assert "a local refit" in page


def test_the_cohort_it_was_trained_on_is_refused(stores: Callable[..., None], registered: Callable[..., str]) -> None:
    with pytest.raises(InputError, match="was trained on demo"):
        validate_external(registered("student"), "demo", SETTINGS)


def test_patients_of_the_development_cohort_are_excluded(
    stores: Callable[..., None], registered: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores()
    reference = registered("student")
    ids, order = ["p0", "p1", *(f"elsewhere-{i}" for i in range(28))], np.arange(30.0)
    tested = pd.DataFrame({"patient_id": ids, "fold": 0, "days": order + 1, "event": True, "risk": -order})
    home = {"kind": "survival", "classes": []}
    monkeypatch.setattr("dml.registry.packaging.packed_predictions", lambda source: (tested, home))
    out = validate_external(reference, "other", SETTINGS)
    coverage = read_json(out / "coverage.json")
    assert (coverage["patients_seen_in_training"], coverage["patients_evaluated"]) == (2, 22)
    assert (coverage["home"]["cohort"], coverage["home"]["patients"], coverage["home"]["value"]) == ("demo", 30, 1.0)
    page = (out / "report.html").read_text()
    assert "in its development cohort (demo, 30 test patients) its Harrell C was 1.000" in page
    everyone = pd.DataFrame({"patient_id": [f"p{i}" for i in range(24)]})
    monkeypatch.setattr("dml.registry.packaging.packed_predictions", lambda source: (everyone, {}))
    with pytest.raises(InputError, match="every patient was used to develop the model"):
        validate_external(reference, "other", SETTINGS)


def test_patients_it_was_only_trained_on_are_excluded(
    stores: Callable[..., None], registered: Callable[..., str]
) -> None:
    stores(patients=40)
    out = validate_external(registered("student", training_patients=("p3", "p7", "p8", "elsewhere")), "other", SETTINGS)
    coverage = read_json(out / "coverage.json")
    assert (coverage["patients_seen_in_training"], coverage["patients_evaluated"]) == (3, 37)
    assert not {"p3", "p7", "p8"} & set(pd.read_parquet(out / "predictions.parquet")["patient_id"])
    page = (out / "report.html").read_text()
    assert "<b>37</b>not used to develop the model" in page
    assert "3 used in model development" in page


def test_a_student_needs_no_transcriptome(stores: Callable[..., None], registered: Callable[..., str]) -> None:
    stores(genes=1, unit="zscore")
    out = validate_external(registered("student"), "other", SETTINGS)
    assert read_json(out / "coverage.json")["expression_used"] is False
