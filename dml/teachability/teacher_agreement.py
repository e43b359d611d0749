"""How much of the teacher's answer other models give: correlation and mutual information with its predictions.

What a slide-only model can learn from a teacher is bounded by what it can tell of the teacher's answer. A teacher that
reads the slide, too, is followed in part without any distillation: the undistilled student stands beside the student.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dml.baselines.linear.regression import Regression
from dml.config import params as config
from dml.evaluation.intervals import bootstrap_weights
from dml.teachability.association import associate
from dml.teachability.gap import describe

TEACHER = "teacher"


def agree_with_teacher(
    models: Mapping[str, pd.DataFrame], regression: Regression, settings: config.Evaluation, seed: int
) -> list[dict[str, Any]]:
    """Compare scores of test patients with the teacher's, within folds.

    Parameters
    ----------
    models : mapping
        Model to its test predictions: patient_id, fold and outputs.
    regression : Regression
        Whose scale the scores have: log cumulative hazard, log-odds against the first class, or the number.
    settings : Evaluation
        Resamples and confidence.
    seed : int
        Of the resamples.

    Returns
    -------
    list of dict
        One a model and score: `model`, `score` (a class; "" if there is one score), `patients`, `r` and `nats` with
        intervals; empty without a teacher.
    """
    if TEACHER not in models:
        return []
    teacher, rows = models[TEACHER].set_index("patient_id"), []
    names = regression.task.classes[1:] if len(regression.task.classes) > 2 else ("",)
    for name in (model for model in models if model != TEACHER):
        other = models[name].set_index("patient_id")
        shared = teacher.index.intersection(other.index)
        shared = shared[(teacher.loc[shared, "fold"] == other.loc[shared, "fold"]).to_numpy()]
        if shared.empty:
            continue
        target, prediction = (regression.linear_predictor(each.loc[shared]) for each in (teacher, other))
        fold = teacher.loc[shared, "fold"].to_numpy(int)
        weights = bootstrap_weights(fold, settings.resamples, seed)
        agreement = associate(target, prediction, np.zeros_like(target), fold, weights)
        for k, score in enumerate(names):
            measures = {"r": agreement.r[:, k], "nats": agreement.nats[:, k]}
            described = {key: describe(values, settings.confidence) for key, values in measures.items()}
            rows.append({"model": name, "score": score, "patients": len(shared), **described})
    return rows
