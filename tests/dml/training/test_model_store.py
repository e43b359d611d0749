"""Trained models on disk: what is written is read back from the paths of the store."""

from pathlib import Path

import pandas as pd
import pytest

from dml.core.errors import InputError
from dml.training.folds import predict_fold, select_test_patients
from dml.training.model_store import ModelStore
from dml.training.train import train_baseline
from tests.synthetic import PARAMS, change, cohort, fold, splits


def test_a_model_with_history_and_predictions(tmp_path: Path) -> None:
    data = cohort(20)
    result = train_baseline(fold(data), change(PARAMS, optimisation={"epochs": 1}), "grade", "mean_pool")
    rows, metadata = predict_fold(result, fold(data), select_test_patients(data, splits(data), 0), "mean_pool")
    store = ModelStore.of("synthetic", "grade", tmp_path)
    store.write("mean_pool", 0, result, rows, metadata)
    assert store.fold_folder("mean_pool", 0) == tmp_path / "synthetic" / "grade" / "mean_pool" / "fold-0"
    pd.testing.assert_frame_equal(store.fold_model("mean_pool", 0).predict(data), result.model.predict(data))
    assert store.predictions("mean_pool", 0)[0]["patient_id"].tolist() == rows["patient_id"].tolist()
    assert len(pd.read_csv(store.history_path("mean_pool", 0))) == 1


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="abmil/fold-3"):
        ModelStore.of("synthetic", "grade", tmp_path).fold_model("abmil", 3)
