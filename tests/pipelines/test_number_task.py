"""A number from stores to a registered, promoted and served model, through the stages themselves."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from mlflow import MlflowClient

from dml.config import params as config
from dml.core.files import read_json, write_csv, write_json, write_parquet
from dml.core.predictions import read_predictions
from dml.experiments.ablation import Ablation, score_variants, select_variants
from dml.experiments.tuning.objective import Objective
from dml.inference.ensemble import Ensemble
from dml.inference.file_access import FileAccess
from dml.inference.predictor import Predictor
from dml.registry import promotion
from pipelines import (
    distill_student,
    evaluate,
    probe,
    register,
    train_deep_baseline,
    train_linear_baselines,
    train_teacher,
)
from tests.synthetic import cohort, write_store

TASK, FOLDS = "score", (0, 1)
CONTENT = {
    "cohort": "synthetic",
    "tasks": [TASK],
    "folds": list(FOLDS),
    "embed": {"encoder": "fake"},
    "model": {"width": 16, "heads": 2, "n_queries": 3, "gene_width": 16},
    "optimisation": {"epochs": 12, "batch_size": 8, "learning_rate": 3e-3, "device": "cpu"},
    "baselines": {"deep": ["abmil"]},
    "evaluation": {"resamples": 100, "subgroups": {"young": {"stage": ["I"]}}},
    "probes": {"repeats": 2, "faithfulness_patients": 4},
    "promotion": {"floors": {"spearman": 0.2}},
}
DATA = cohort(80, seed=2)


def splits() -> pd.DataFrame:
    group, roles = np.arange(80) % 4, np.array(["test", "validation", "train", "train"])
    inner = np.array([-1, 0, 1, 1])
    ids = [case.patient_id for case in DATA.cases]
    turns = [(group // 2 - fold) % 2 * 2 + group % 2 for fold in FOLDS]
    turns = [np.where(turn < 2, 0, np.where(np.arange(80) % 5 == 0, 1, 2)) for turn in turns]
    parts = [
        {"patient_id": ids, "fold": fold, "role": roles[turn], "inner_fold": inner[turn], "stratum": ""}
        for fold, turn in zip(FOLDS, turns, strict=True)
    ]
    return pd.concat([pd.DataFrame(part) for part in parts])


def run(monkeypatch: pytest.MonkeyPatch, stage: ModuleType, **arguments: object) -> None:
    options = [f"--{name}={value}" for name, value in {"task": TASK, **arguments}.items()]
    monkeypatch.setattr(sys, "argv", [stage.__name__, *options])
    assert stage.main() == 0, stage.__name__


@pytest.fixture
def project(client: MlflowClient, workplace: Path) -> Path:
    """A repository root with params.yaml and the stores of the example cohort, its split in two."""
    store = write_store(DATA, workplace / "data" / "synthetic")
    patients = store.patients().assign(stage=["I" if i % 2 else "II" for i in range(80)])
    classes = {**store.patients().attrs["classes"], "stage": ["I", "II"]}
    write_parquet(store.patients_path, pa.Table.from_pandas(patients), {"classes": classes, "cohort": "synthetic"})
    slides = pd.DataFrame({"slide_id": [f"slide-{c.patient_id}" for c in DATA.cases], "path": None, "mpp": np.nan})
    slides["patient_id"] = [c.patient_id for c in DATA.cases]
    for name, table in {"splits": splits(), "slides": slides}.items():
        write_parquet(store.folder / f"{name}.parquet", pa.Table.from_pandas(table))
    (workplace / "params.yaml").write_text(yaml.safe_dump(CONTENT))
    for stage in ("cohort", "features"):
        write_json(Path(f"reports/synthetic/checks/{stage}.json"), {"success": True, "checks": []})
    return workplace


def test_from_stores_to_a_promoted_and_served_model(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fold in FOLDS:
        for stage in (train_teacher, distill_student, train_linear_baselines):
            run(monkeypatch, stage, fold=fold)
        run(monkeypatch, train_deep_baseline, fold=fold, model="abmil")
    for stage in (probe, evaluate, register):
        run(monkeypatch, stage)
    out = Path("reports/synthetic") / TASK
    metrics = read_json(out / "metrics.json")
    assert {"teacher", "student", "abmil", "linear_slide_genes", "null"} <= set(metrics)
    assert metrics["teacher"]["r2"]["value"] > 0.2
    assert metrics["linear_slide_genes"]["r2"]["value"] > 0.3
    assert "spearman_young" in metrics["student"]
    probes = read_json(out / "probes.json")
    assert probes["metric"] == "spearman"
    assert probes["modality_exchange"]["teacher"]["slides"]["difference"]["difference"] < 0
    params = config.load()
    gates = {gate.name: gate.passed for gate in promotion.promote(f"synthetic-{TASK}-teacher", params, "test").gates}
    assert {"spearman floor", "calibration_slope", "coverage", "spearman in young", "data checks"} <= set(gates)
    served = _served(project)
    stored = read_predictions(Path("models/synthetic") / TASK / "student" / "fold-0" / "predictions.parquet")[0]
    joined = served.merge(stored[stored["role"] == "test"], on="patient_id", suffixes=("", "_fold"))
    assert served["status"].eq("ok").all()
    assert np.corrcoef(joined["value"], joined["value_fold"])[0, 1] > 0.7
    assert ((served["value_lower"] <= served["value"]) & (served["value"] <= served["value_upper"])).all()


def _served(project: Path) -> pd.DataFrame:
    """Predict feature files of some patients as a served model does."""
    ensemble = Ensemble.load(Path("models/synthetic") / TASK / "student")
    assert (ensemble.outputs, ensemble.decisions) == (("value", "value_lower", "value_upper", "spread"), ())
    files = [project / f"data/synthetic/features/fake/0.5/slide-{c.patient_id}.parquet" for c in DATA.cases[:30]]
    rows = pd.DataFrame({"patient_id": [c.patient_id for c in DATA.cases[:30]], "path": [str(f) for f in files]})
    table = Predictor(ensemble, FileAccess.of_server())(rows)
    write_csv(project / "predictions.csv", table, "%.6g")
    return table


def test_a_number_is_tuned_and_ablated(project: Path) -> None:
    params = config.load()
    short = params.model_copy(update={"optimisation": params.optimisation.model_copy(update={"epochs": 1})})
    tuned = short.model_copy(update={"tuning": short.tuning.model_copy(update={"objective": "spearman"})})
    objective = Objective.of(tuned, "teacher", TASK, DATA, splits())
    assert -1 <= objective.score(tuned, 0).value <= 1
    ablation = Ablation(short, TASK, DATA, splits(), "stores")
    variants = select_variants(short, ["no aggregation"])
    rows = score_variants(ablation, variants, (0,))
    assert {row["metric"] for row in rows} == {"spearman"}
