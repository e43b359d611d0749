"""Prediction of the hospital from a model's embeddings: it should not be possible, and often is (batch effects).

Per fold a ridge classifier of the site is fitted on the embeddings of the learning patients and tested on the test
patients; pairs within folds are pooled, so chance is an AUC of 0.5. For comparison the same classifier on the input
itself (mean tile features), and on the outcome alone: sites treat different patients.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from dml.core.tasks import Task
from dml.core.types import SUBSPACES, Case, Cohort
from dml.evaluation.intervals import rounded
from dml.evaluation.metrics.classification import balanced_accuracy, pooled_auc
from dml.linear_models.site_classifier import score_sites
from dml.probes.fold_models import FoldEmbeddings, FoldModels, with_slide
from dml.probes.paired_scorer import PairedScorer

Features = Callable[[Cohort], np.ndarray]


def probe_site(
    folds: Sequence[FoldModels],
    embeddings: Mapping[str, Sequence[FoldEmbeddings]],
    scorer: PairedScorer,
    min_patients: int,
) -> dict[str, Any]:
    """Predict the site of the test patients.

    Parameters
    ----------
    embeddings : mapping
        Model to the embeddings of every fold.
    min_patients : int
        Learning patients that a site must have in every fold.

    Returns
    -------
    dict
        ``sites``, ``patients``, ``chance`` (AUC 0.5, balanced accuracy), and ``sources``: per source (teacher, student,
        input, outcome) auc and balanced_accuracy with intervals; or ``left_out`` with the reason.
    """
    sites = _large_sites(folds, min_patients)
    tested = scorer.outcomes["site"].isin(sites).to_numpy()
    if len(sites) < 2 or scorer.outcomes.loc[tested, "site"].nunique() < 2:
        return {
            "left_out": f"fewer than two sites have {min_patients} learning patients in every fold and test patients"
        }
    scores = {name: _scores_from_embeddings(folds, parts, sites) for name, parts in embeddings.items()}
    mpps = folds[0].models["teacher"].spec.preprocessor.mpps
    scores |= {"input": _scores_from_features(folds, partial(_input_features, mpps=mpps), sites)}
    scores |= {"outcome": _scores_from_features(folds, partial(_outcome_features, task=scorer.task), sites)}
    chance = {"auc": 0.5, "balanced_accuracy": rounded(1 / len(sites))}
    sources = {name: _evaluate(scorer, rows, sites) for name, rows in scores.items()}
    return {"sites": sites, "patients": int(tested.sum()), "chance": chance, "sources": sources}


def _large_sites(folds: Sequence[FoldModels], min_patients: int) -> list[str]:
    counts = [Counter(case.site for case in with_slide(one.learning).cases) for one in folds]
    return sorted(site for site in counts[0] if all(count[site] >= min_patients for count in counts))


def _scores_from_embeddings(
    folds: Sequence[FoldModels], embeddings: Sequence[FoldEmbeddings], sites: list[str]
) -> dict[str, np.ndarray]:
    """Score the test patients for each site from both subspaces, mean over the members."""
    rows: dict[str, np.ndarray] = {}
    for one, embedding in zip(folds, embeddings, strict=True):
        learning, test = with_slide(one.learning), with_slide(one.test)
        pairs = [[np.concatenate([t[s] for s in SUBSPACES], axis=1) for t in pair] for pair in embedding.members]
        each = [_fit_and_score(learning, features, test, other, sites) for features, other in pairs]
        rows |= {patient: np.mean([scores[patient] for scores in each], axis=0) for patient in each[0]}
    return rows


def _scores_from_features(folds: Sequence[FoldModels], features: Features, sites: list[str]) -> dict[str, np.ndarray]:
    rows: dict[str, np.ndarray] = {}
    for one in folds:
        learning, test = with_slide(one.learning), with_slide(one.test)
        rows |= _fit_and_score(learning, features(learning), test, features(test), sites)
    return rows


def _fit_and_score(
    learning: Cohort, features: np.ndarray, test: Cohort, test_features: np.ndarray, sites: list[str]
) -> dict[str, np.ndarray]:
    """Fit a classifier of the sites on learning patients; score test patients: patient to one score per site."""
    fitted, scored = (np.array([case.site in sites for case in part.cases], bool) for part in (learning, test))
    label = np.array([sites.index(case.site) for case in learning.cases if case.site in sites])
    scores, _ = score_sites(features[fitted], label, test_features[scored])
    patients = [case.patient_id for case in test.cases if case.site in sites]
    return dict(zip(patients, scores, strict=True))


def _evaluate(scorer: PairedScorer, rows: Mapping[str, np.ndarray], sites: list[str]) -> dict[str, Any]:
    inside = scorer.outcomes["patient_id"].isin(rows.keys()).to_numpy()
    outcomes, restricted = scorer.outcomes[inside], scorer.restrict(inside)
    label, fold = outcomes["site"].map(sites.index).to_numpy(int), outcomes["fold"].to_numpy(int)
    scores = np.array([rows[patient] for patient in outcomes["patient_id"]])
    hard = {"label": label, "predicted": scores.argmax(axis=1), "classes": len(sites)}
    auc = partial(pooled_auc, label=label, scores=scores, fold=fold)
    return {"auc": restricted.value(auc), "balanced_accuracy": restricted.value(partial(balanced_accuracy, **hard))}


def _input_features(cohort: Cohort, mpps: Sequence[float]) -> np.ndarray:
    """Mean tile features, resolution by resolution; of a resolution a patient lacks, zeros."""
    bags = (bag for case in cohort.cases for bag in case.bags.values() if len(bag))
    width = next(bag.tokens.shape[1] for bag in bags)
    return np.array([np.concatenate([_mean_token(case, mpp, width) for mpp in mpps]) for case in cohort.cases])


def _mean_token(case: Case, mpp: float, width: int) -> np.ndarray:
    bags = [bag for resolution, bag in case.bags.items() if float(resolution) == mpp and len(bag)]
    return bags[0].tokens.double().mean(0).numpy() if bags else np.zeros(width)


def _outcome_features(cohort: Cohort, task: Task) -> np.ndarray:
    return np.array([task.target_features(case) for case in cohort.cases])
