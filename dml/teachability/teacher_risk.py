"""How well the slide predicts the risk of a trained teacher, where its predictions are there.

The teacher's out-of-fold predictions for the learning patients of a fold are regressed on the slide; the teacher's
predictions for the test patients are what the regression is compared with. Shape legend: n patients, k scores.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.baselines.linear.regression import Regression, SurvivalRegression, make_regression
from dml.config import params as config
from dml.core.predictions import read_predictions
from dml.core.types import Case, Cohort
from dml.evaluation.intervals import bootstrap_weights
from dml.linear_models.design_matrix import source_matrix
from dml.linear_models.kernel_ridge import MIN_TRAINING_PATIENTS, KernelRidge
from dml.teachability.association import associate
from dml.teachability.gap import describe


def associate_teacher(folder: Path, cohort: Cohort, params: config.Params, task: str) -> list[dict[str, Any]]:
    """Compare the teacher's score of test patients with its prediction from their slides.

    Parameters
    ----------
    folder : Path
        ``models/<cohort>/<task>/teacher``.
    cohort : Cohort
        Patients with their features.

    Returns
    -------
    list of dict
        One a score (one of survival, classes - 1 of a label) with its name, r, r2 and nats; empty without predictions.

    Raises
    ------
    InputError
        If a file of predictions is damaged.
    """
    regression = make_regression(task, cohort.classes, params.evaluation.years)
    by_id = {case.patient_id: case for case in cohort.cases if case.has_slide}
    paths = sorted(folder.glob("fold-*/predictions.parquet"))
    parts = [part for path in paths if (part := _predict(read_predictions(path)[0], cohort, by_id, params, regression))]
    if not parts:
        return []
    fold = np.concatenate([np.full(len(part["target"]), index) for index, part in enumerate(parts)])
    target, prediction, mean = (np.concatenate([p[name] for p in parts]) for name in ("target", "prediction", "mean"))
    weights = bootstrap_weights(fold, params.evaluation.resamples, params.seed)
    association = associate(target, prediction, mean, fold, weights)
    classes = regression.task.classes
    names = [f"teacher's risk: {name}" for name in classes[1:]] if len(classes) > 2 else ["teacher's risk"]
    measures = {"r": association.r, "r2": association.r2, "nats": association.nats}
    confidence = params.evaluation.confidence
    return [
        {"name": name, **{key: describe(values[:, k], confidence) for key, values in measures.items()}}
        for k, name in enumerate(names)
    ]


def _predict(
    rows: pd.DataFrame, cohort: Cohort, by_id: Mapping[str, Case], params: config.Params, regression: Regression
) -> dict[str, np.ndarray]:
    """Return target, prediction and learning mean [n k] of a fold's test patients; nothing if there are too few."""
    rows = rows[rows["patient_id"].isin(by_id.keys())].sort_values("patient_id")
    learning, test = rows[rows["role"] == "validation"], rows[rows["role"] == "test"]
    if len(learning) < MIN_TRAINING_PATIENTS or test.empty:
        return {}
    slides = [source_matrix(cohort, [by_id[p] for p in part["patient_id"]], "slide") for part in (learning, test)]
    lessons, target = (_score(part, regression) for part in (learning, test))
    ridge = KernelRidge.fit(slides[0], lessons, params.teachability.slide_components)
    return {"target": target, "prediction": ridge(slides[1]), "mean": np.tile(lessons.mean(axis=0), (len(target), 1))}


def _score(rows: pd.DataFrame, regression: Regression) -> np.ndarray:
    if isinstance(regression, SurvivalRegression):
        return rows[["risk"]].to_numpy(float)
    return regression.linear_predictor(rows)
