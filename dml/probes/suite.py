"""All probes of one task: content of reports/<cohort>/<task>/probes.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.tasks import make_task
from dml.core.types import Cohort
from dml.evaluation.intervals import rounded
from dml.evaluation.metric_sets import PRIMARY
from dml.evaluation.results import PAIR
from dml.probes.clinical import hide_clinical_inputs
from dml.probes.faithfulness import probe_faithfulness
from dml.probes.fold_models import (
    FoldModels,
    collect_outcomes,
    embed_folds,
    read_fold_models,
    select_member,
)
from dml.probes.modalities import exchange_modalities, hide_transcriptomes
from dml.probes.neighbours import probe_neighbours
from dml.probes.paired_scorer import PairedScorer
from dml.probes.permutation_test import run_permutation_test
from dml.probes.site import probe_site
from dml.probes.subspaces import probe_subspaces


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
        ``metric``, ``patients``, ``missing_modality``, ``modality_exchange``, ``missing_clinical`` (None for a student
        without clinical inputs), ``site``, ``subspaces``,
        ``single_members``, ``faithfulness`` (None without `probes.faithfulness_patients`), ``neighbours`` and
        ``permutation_test`` (None unless `probes.permutations`).

    Raises
    ------
    InputError
        If a model of a fold is missing.
    """
    settings, target, seed = params.probes, make_task(task, cohort.classes), params.seed
    folds = read_fold_models(models, cohort, splits, target)
    scorer = PairedScorer.of(target, collect_outcomes(folds, target), params.evaluation, seed)
    embeddings = {model: embed_folds(folds, model) for model in PAIR}
    repeats = settings.permutations
    return {
        "metric": PRIMARY[target.kind],
        "patients": len(scorer.outcomes),
        "missing_modality": hide_transcriptomes(folds, scorer, settings.missing_fractions, settings.repeats, seed),
        "modality_exchange": exchange_modalities(folds, scorer, settings.repeats, seed),
        "missing_clinical": hide_clinical_inputs(folds, scorer, settings.missing_fractions, settings.repeats, seed),
        "site": probe_site(folds, embeddings, scorer, settings.min_site_patients),
        "subspaces": probe_subspaces(embeddings, scorer, settings.components, planted),
        "single_members": score_members(folds, scorer),
        "faithfulness": _faithfulness(folds, params),
        "neighbours": probe_neighbours(folds, splits, scorer, params.evaluation.years, settings.neighbours),
        "permutation_test": run_permutation_test(cohort, splits, params, task, repeats) if repeats else None,
    }


def _faithfulness(folds: Sequence[FoldModels], params: config.Params) -> dict[str, Any] | None:
    settings, evaluation = params.probes, params.evaluation
    if not settings.faithfulness_patients:
        return None
    counts = (settings.faithfulness_patients, settings.repeats)
    return probe_faithfulness(folds, *counts, evaluation.resamples, evaluation.confidence, params.seed)


def score_members(folds: Sequence[FoldModels], scorer: PairedScorer) -> dict[str, Any]:
    """Score the members of the models one by one: how much a number varies with the seed of the training alone."""
    results = {}
    for name in PAIR:
        members = min(len(one.models[name].members) for one in folds)
        values = [_score_member(folds, scorer, name, member) for member in range(members)]
        deviation = rounded(float(np.std(values, ddof=1))) if members > 1 else None
        results[name] = {
            "values": [rounded(v) for v in values],
            "mean": rounded(float(np.mean(values))),
            "sd": deviation,
        }
    return results


def _score_member(folds: Sequence[FoldModels], scorer: PairedScorer, name: str, member: int) -> float:
    predictions = [select_member(one.models[name], member).predict(one.test) for one in folds]
    rows = pd.concat(predictions).sort_values("patient_id", ignore_index=True)
    return float(scorer.metric(rows)(np.ones((1, len(rows))))[0])


def read_planted(path: Path) -> pd.DataFrame | None:
    """Read the planted factors of a generated cohort: oracle.csv beside its raw tables; None for real patients."""
    if not path.exists():
        return None
    planted = pd.read_csv(path, dtype={"patient_id": str})
    return planted[["patient_id", "tumor", "tme"]]
