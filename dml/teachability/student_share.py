"""Shares of the teachable and of the whole gap that a trained model closes, with paired intervals.

    share of the teachable gap = (M(model) - M(slide)) / (M(slide, predicted) - M(slide))
    share of the whole gap     = (M(model) - M(slide)) / (M(slide, genes) - M(slide))

All on the same test patients and bootstrap draws. What distillation itself brings is the same with the student that was
trained without a teacher in the place of M(slide) in the numerator. Shape legend: r resamples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dml.core.types import Kind
from dml.evaluation.intervals import bootstrap_weights
from dml.teachability.gap import bind_metric, describe_difference, draw
from dml.teachability.ratio import fieller
from dml.teachability.teachability_files import Teachability

REFERENCE_ARMS = ("slide", "slide_predicted", "slide_genes")
SHARED_MODELS = ("student", "student_undistilled", "teacher")
"""Models whose shares of the gap are reported."""
UNDISTILLED = {"student": "student_undistilled"}
"""Model to the same model without its teacher."""


def share_closed(
    measured: Teachability, models: Mapping[str, pd.DataFrame], groups: Mapping[str, set[str]] | None = None
) -> list[dict[str, Any]]:
    """Return one row a model and group of patients: its gain over the slide, and the shares it closes.

    Parameters
    ----------
    measured : Teachability
        Of the same cohort, task and folds.
    models : mapping
        Model to its test predictions: patient_id, fold, outputs and targets.
    groups : mapping, optional
        Subgroup to its patients; all test patients are always there.

    Returns
    -------
    list of dict
        model, protocol, group, patients, `gain`, `teachable_share`, `whole_share`, and for a model that has an
        undistilled twin `by_distillation` and `distilled_share` (of the teachable gap). A protocol whose folds are not
        the models' is left out: a model that has learnt from a test patient cannot be compared.
    """
    summary, rows = measured.summary, []
    for protocol, predictions in measured.predictions.groupby("protocol"):
        arms = {str(arm): part.set_index("patient_id") for arm, part in predictions.groupby("arm")}
        for group, members in {"all": None, **(groups or {})}.items():
            for model in models:
                row = _row(arms, models, model, members, summary)
                if row is not None:
                    rows.append({"model": model, "protocol": protocol, "group": group, **row})
    return rows


def _row(
    arms: Mapping[str, pd.DataFrame],
    models: Mapping[str, pd.DataFrame],
    model: str,
    members: set[str] | None,
    summary: Mapping[str, Any],
) -> dict[str, Any] | None:
    twin = UNDISTILLED.get(model)
    compared = [models[name].set_index("patient_id") for name in (model, twin) if name is not None and name in models]
    shared = _shared_patients([arms["slide"], *compared], members)
    if not _same_folds([arms["slide"], *compared], shared) or not len(shared):
        return None
    kind, classes = summary["kind"], summary["classes"]
    fold = arms["slide"].loc[shared, "fold"].to_numpy(int)
    weights = bootstrap_weights(fold, summary["resamples"], summary["seed"])
    tables = {**{name: arms[name] for name in REFERENCE_ARMS}, "model": compared[0]}
    if len(compared) > 1:
        tables["twin"] = compared[1]
    draws = {name: _draw(table.loc[shared], kind, classes, weights) for name, table in tables.items()}
    confidence = summary["confidence"]
    teachable, whole = draws["slide_predicted"] - draws["slide"], draws["slide_genes"] - draws["slide"]
    gain = draws["model"] - draws["slide"]
    content: dict[str, Any] = {
        "patients": len(shared),
        "gain": describe_difference(gain, confidence),
        "teachable_share": fieller(gain, teachable, confidence).to_json(),
        "whole_share": fieller(gain, whole, confidence).to_json(),
    }
    if "twin" in draws:
        by_distillation = draws["model"] - draws["twin"]
        content["by_distillation"] = describe_difference(by_distillation, confidence)
        content["distilled_share"] = fieller(by_distillation, teachable, confidence).to_json()
    return content


def _draw(rows: pd.DataFrame, kind: Kind, classes: Sequence[str], weights: np.ndarray) -> np.ndarray:
    return draw(bind_metric(rows, kind, classes), weights)


def _shared_patients(tables: Sequence[pd.DataFrame], members: set[str] | None) -> list[str]:
    shared = set.intersection(*(set(table.index) for table in tables))
    return sorted(shared if members is None else shared & members)


def _same_folds(tables: Sequence[pd.DataFrame], shared: Sequence[str]) -> bool:
    first = tables[0].loc[list(shared), "fold"].to_numpy(int)
    return all(np.array_equal(first, table.loc[list(shared), "fold"].to_numpy(int)) for table in tables[1:])
