"""Can the hospital be told from what a model keeps of a patient? It should not matter, and often does (batch effects).

Per fold a ridge classifier learns the site from the representations of the learning patients and is tested on the
test patients; pairs within folds are pooled, so chance is an AUC of 0.5. Beside it stands what the input itself tells
(mean tile features) and what the outcome alone tells: sites see different patients.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from dml.core.types import SUBSPACES, Case, Cohort
from dml.evaluation.metrics.classification import balanced_accuracy, pooled_auc
from dml.evaluation.probes.fold_models import Subject, View, observed, with_slide
from dml.evaluation.probes.scoring import Judge
from dml.evaluation.rounding import rounded

PENALTIES = np.logspace(0, 6, 13)
"""Ridge penalties that leave-one-out of the learning patients chooses from."""
Features = Callable[[Cohort], np.ndarray]


def site_probe(
    subjects: Sequence[Subject], seen: Mapping[str, Sequence[View]], judge: Judge, task: str, smallest: int
) -> dict[str, Any]:
    """Tell the site of the test patients.

    Parameters
    ----------
    seen : mapping
        Model to what it keeps of the patients of every fold.
    task : str
        Whose outcome is the reference of the case mix.
    smallest : int
        Learning patients that a site must have in every fold.

    Returns
    -------
    dict
        ``sites``, ``patients``, ``chance`` (AUC 0.5, balanced accuracy), and ``told_from``: per source (teacher,
        student, input, outcome) auc and balanced_accuracy with intervals; or ``left_out`` with the reason.
    """
    sites = _large(subjects, smallest)
    tested = judge.truth["site"].isin(sites).to_numpy()
    if len(sites) < 2 or judge.truth.loc[tested, "site"].nunique() < 2:
        return {"left_out": f"fewer than two sites have {smallest} learning patients in every fold and test patients"}
    scores = {name: _from_views(subjects, own, sites) for name, own in seen.items()}
    mpps = subjects[0].models["teacher"].spec.preprocessor.mpps
    scores |= {"input": _from_features(subjects, partial(_input, mpps=mpps), sites)}
    scores |= {"outcome": _from_features(subjects, partial(_outcome, task=task), sites)}
    chance = {"auc": 0.5, "balanced_accuracy": rounded(1 / len(sites))}
    told = {name: _judged(judge, rows, sites) for name, rows in scores.items()}
    return {"sites": sites, "patients": int(tested.sum()), "chance": chance, "told_from": told}


def _large(subjects: Sequence[Subject], smallest: int) -> list[str]:
    counts = [Counter(case.site for case in with_slide(subject.learning).cases) for subject in subjects]
    return sorted(site for site in counts[0] if all(count[site] >= smallest for count in counts))


def _from_views(subjects: Sequence[Subject], seen: Sequence[View], sites: list[str]) -> dict[str, np.ndarray]:
    """Score the test patients for each site from both subspaces, mean over the members."""
    rows: dict[str, np.ndarray] = {}
    for subject, view in zip(subjects, seen, strict=True):
        known, shown = with_slide(subject.learning), with_slide(subject.test)
        each = [[np.concatenate([t[s] for s in SUBSPACES], axis=1) for t in pair] for pair in view.kept]
        said = [_scored(known, features, shown, other, sites) for features, other in each]
        rows |= {patient: np.mean([one[patient] for one in said], axis=0) for patient in said[0]}
    return rows


def _from_features(subjects: Sequence[Subject], features: Features, sites: list[str]) -> dict[str, np.ndarray]:
    rows: dict[str, np.ndarray] = {}
    for subject in subjects:
        known, shown = with_slide(subject.learning), with_slide(subject.test)
        rows |= _scored(known, features(known), shown, features(shown), sites)
    return rows


def _scored(
    known: Cohort, features: np.ndarray, shown: Cohort, other: np.ndarray, sites: list[str]
) -> dict[str, np.ndarray]:
    """Learn the sites from some patients, score others: patient to one score per site."""
    from sklearn.linear_model import RidgeClassifierCV

    kept, asked = (np.array([case.site in sites for case in part.cases], bool) for part in (known, shown))
    label = [sites.index(case.site) for case in known.cases if case.site in sites]
    middle, scale = features[kept].mean(axis=0), features[kept].std(axis=0) + 1e-9
    model = RidgeClassifierCV(alphas=PENALTIES, class_weight="balanced").fit((features[kept] - middle) / scale, label)
    scores = np.asarray(model.decision_function((other[asked] - middle) / scale)) if asked.any() else np.zeros((0, 2))
    scores = np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
    patients = [case.patient_id for case in shown.cases if case.site in sites]
    return dict(zip(patients, scores, strict=True))


def _judged(judge: Judge, rows: Mapping[str, np.ndarray], sites: list[str]) -> dict[str, Any]:
    inside = judge.truth["patient_id"].isin(rows.keys()).to_numpy()
    truth, few = judge.truth[inside], judge.restricted(inside)
    label, fold = truth["site"].map(sites.index).to_numpy(int), truth["fold"].to_numpy(int)
    scores = np.array([rows[patient] for patient in truth["patient_id"]])
    hard = {"label": label, "predicted": scores.argmax(axis=1), "classes": len(sites)}
    ranked = partial(pooled_auc, label=label, scores=scores, fold=fold)
    return {"auc": few.value(ranked), "balanced_accuracy": few.value(partial(balanced_accuracy, **hard))}


def _input(cohort: Cohort, mpps: Sequence[float]) -> np.ndarray:
    """Mean tile features, resolution by resolution; of a resolution a patient lacks, zeros."""
    bags = (bag for case in cohort.cases for bag in case.bags.values() if len(bag))
    width = next(bag.tokens.shape[1] for bag in bags)
    return np.array([np.concatenate([_mean(case, mpp, width) for mpp in mpps]) for case in cohort.cases])


def _mean(case: Case, mpp: float, width: int) -> np.ndarray:
    bags = [bag for resolution, bag in case.bags.items() if float(resolution) == mpp and len(bag)]
    return bags[0].tokens.double().mean(0).numpy() if bags else np.zeros(width)


def _outcome(cohort: Cohort, task: str) -> np.ndarray:
    """Follow-up and death, or the label as indicators; unknown as zeros."""
    rows = [observed(case, task) for case in cohort.cases]
    if task in cohort.classes:
        return np.array([[row.get("label") == name for name in cohort.classes[task]] for row in rows], float)
    logs = [np.log1p(row["days"]) if row else 0.0 for row in rows]
    died = [float(row["event"]) if row else 0.0 for row in rows]
    return np.array([[log, event, log * event] for log, event in zip(logs, died, strict=True)])
