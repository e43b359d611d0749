import numpy as np
import pandas as pd
import pytest

from dml.core.predictions import write_predictions
from dml.teachability.teacher_risk import associate_teacher


def write(data, folder, risk):
    """Predictions of a teacher for the learning patients (out of fold) and the test patients of every fold."""
    site = data.patients.set_index("patient_id")["site"]
    for fold, rows in data.splits.groupby("fold"):
        position = rows["patient_id"].str[1:].astype(int)
        table = pd.DataFrame(
            {
                "patient_id": rows["patient_id"],
                "site": site[rows["patient_id"]].to_numpy(),
                "fold": fold,
                "role": rows["role"].replace("train", "validation"),
                "model": "teacher",
                "risk": risk[position],
                "days": 1.0,
                "event": True,
            }
        )
        metadata = {"task": "survival", "kind": "survival", "classes": []}
        write_predictions(folder / f"fold-{fold}" / "predictions.parquet", table, metadata)


def test_a_teacher_that_is_half_slide_half_noise(plant, once, tmp_path):
    """r^2 of slide + noise of equal variance is one half, and nats -0.5 log(1 / 2)."""
    data = plant(0.5, patients=600)
    risk = data.shown / data.shown.std() + np.random.default_rng(1).normal(size=600)
    write(data, tmp_path, risk)
    (row,) = associate_teacher(tmp_path, data.cohort, once, "survival")
    r = np.corrcoef(risk, data.shown)[0, 1]
    assert row["name"] == "teacher's risk"
    assert row["r"]["value"] == pytest.approx(r, abs=0.02)
    assert row["r2"]["value"] == pytest.approx(0.5, abs=0.06)
    assert row["nats"]["value"] == pytest.approx(-0.5 * np.log(1 - r**2), abs=0.03)
    assert row["r"]["ci_low"] < r < row["r"]["ci_high"]


def test_without_predictions_there_is_nothing(plant, once, tmp_path):
    assert associate_teacher(tmp_path, plant(0.5, patients=60).cohort, once, "survival") == []
