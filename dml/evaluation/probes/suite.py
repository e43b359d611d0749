"""All probes of one task: content of reports/<cohort>/<task>/probes.json."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.types import Cohort
from dml.evaluation.metric_sets import PRIMARY
from dml.evaluation.probes.fold_models import MODELS, Subject, one_member, read_subjects, truth, views
from dml.evaluation.probes.modalities import exchanged, missing_modality
from dml.evaluation.probes.permutation_test import shuffled_labels
from dml.evaluation.probes.scoring import Judge
from dml.evaluation.probes.site import site_probe
from dml.evaluation.probes.subspaces import subspaces
from dml.evaluation.rounding import rounded

log = logging.getLogger(__name__)


def probe(
    models: Path, cohort: Cohort, splits: pd.DataFrame, params: config.Params, task: str, planted: pd.DataFrame | None
) -> dict[str, Any]:
    """Probe teacher and student of every fold on their test patients.

    Parameters
    ----------
    models : Path
        ``models/<cohort>/<task>``.
    planted : DataFrame, optional
        patient_id, tumor and tme: the factors that made the patients of a generated cohort.

    Returns
    -------
    dict
        ``metric``, ``patients``, ``missing_modality``, ``exchanged``, ``site``, ``subspaces``, ``trainings`` and
        ``shuffled_labels`` (None unless `probes.permutations`).

    Raises
    ------
    InputError
        If a model of a fold is missing.
    """
    settings, subjects = params.probes, read_subjects(models, cohort, splits, task)
    prepared = subjects[0].models["teacher"].spec.preprocessor
    judge = Judge.of(prepared.kind, prepared.classes, truth(subjects, task), params.evaluation, params.seed)
    content: dict[str, Any] = {"metric": PRIMARY[prepared.kind], "patients": len(judge.truth)}
    content["missing_modality"] = missing_modality(
        subjects, judge, settings.missing_fractions, settings.repeats, params.seed
    )
    content["exchanged"] = exchanged(subjects, judge, settings.repeats, params.seed)
    seen = {model: views(subjects, model) for model in MODELS}
    content["site"] = site_probe(subjects, seen, judge, task, settings.min_site_patients)
    content["subspaces"] = subspaces(seen, judge, settings.components, planted)
    content["trainings"] = trainings(subjects, judge)
    repeats = settings.permutations
    content["shuffled_labels"] = shuffled_labels(cohort, splits, params, task, repeats) if repeats else None
    return content


def trainings(subjects: Sequence[Subject], judge: Judge) -> dict[str, Any]:
    """Judge the members of the models one by one: how far a number moves with the seed of the training alone."""
    found = {}
    for name in MODELS:
        members = min(len(subject.models[name].members) for subject in subjects)
        values = [_alone(subjects, judge, name, member) for member in range(members)]
        spread = rounded(float(np.std(values, ddof=1))) if members > 1 else None
        found[name] = {"values": [rounded(v) for v in values], "mean": rounded(float(np.mean(values))), "sd": spread}
    return found


def _alone(subjects: Sequence[Subject], judge: Judge, name: str, member: int) -> float:
    said = [one_member(subject.models[name], member).predict(subject.test) for subject in subjects]
    rows = pd.concat(said).sort_values("patient_id", ignore_index=True)
    return float(judge.metric(rows)(np.ones((1, len(rows))))[0])


def read_planted(path: Path) -> pd.DataFrame | None:
    """Read the planted factors of a generated cohort: oracle.csv beside its raw tables; None for real patients."""
    if not path.exists():
        return None
    planted = pd.read_csv(path, dtype={"patient_id": str})
    return planted[["patient_id", "tumor", "tme"]]
