"""Whether the subspaces are apart, and each is about its own group of genes.

The tokens f_T and f_M of the test patients should have little in common (distance correlation), and each should tell
the principal components of its own gene group better than the other token does. Where the planted factors of a
generated cohort are known, the same is asked of them. Components and regressions are fitted on a fold's learning
patients, the explained variance is that of its test patients, member by member.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dml.core.types import SUBSPACES, Subspace
from dml.data.batches import Patient
from dml.evaluation.metrics import Metric, ratio
from dml.evaluation.metrics.dependence import distance_correlation
from dml.evaluation.probes.fold_models import View
from dml.evaluation.probes.scoring import Judge
from dml.evaluation.rounding import rounded

PENALTIES = np.logspace(-1, 5, 13)
"""Ridge penalties that leave-one-out of the learning patients chooses from."""
Targets = Callable[[Sequence[Patient], Sequence[Patient]], tuple[np.ndarray, np.ndarray]]
"""Learning and test patients to what is to be told of them; NaN rows where it is not known."""


@dataclass(frozen=True, slots=True)
class Told:
    """Squared errors of a regression on test patients, and those of saying the learning patients' mean."""

    patient_ids: tuple[str, ...]
    error: np.ndarray
    spread: np.ndarray


def subspaces(
    seen: Mapping[str, Sequence[View]], judge: Judge, components: int, planted: pd.DataFrame | None
) -> dict[str, Any]:
    """Measure the subspaces of teacher and student.

    Parameters
    ----------
    seen : mapping
        Model to what it keeps of the patients of every fold.
    components : int
        Principal components of each gene group.
    planted : DataFrame, optional
        patient_id, and a column per subspace with the factor that made the patient.

    Returns
    -------
    dict
        Per model: ``distance_correlation`` (value, folds) and, for ``genes`` and ``planted``, per target (tumor, tme)
        the share of variance explained from ``tumor`` and ``tme`` with intervals, and the paired ``own_minus_other``.
        ``genes`` is empty in a cohort without transcriptomes.
    """
    expressed = any(patient.present for views in seen.values() for view in views for patient in view.learning)
    kinds: dict[str, Mapping[Subspace, Targets]] = {
        "genes": {s: _components(s, components) for s in SUBSPACES} if expressed else {}
    }
    if planted is not None:
        kinds["planted"] = {s: _factor(planted, s) for s in SUBSPACES}
    return {model: _of_model(own, judge, kinds) for model, own in seen.items()}


def _of_model(seen: Sequence[View], judge: Judge, kinds: Mapping[str, Mapping[Subspace, Targets]]) -> dict[str, Any]:
    each = [float(np.mean([distance_correlation(t["tumor"], t["tme"]) for _, t in view.kept])) for view in seen]
    apart = {"value": rounded(float(np.mean(each))), "folds": [rounded(value) for value in each]}
    return {"distance_correlation": apart, **{kind: _scored(seen, aims, judge) for kind, aims in kinds.items()}}


def _scored(seen: Sequence[View], aims: Mapping[Subspace, Targets], judge: Judge) -> dict[str, Any]:
    """Per target, what each subspace tells of it and by how much its own one tells more."""
    found: dict[str, Any] = {}
    ids = judge.truth["patient_id"].tolist()
    for target, aim in aims.items():
        metrics = {source: explained(_told(seen, aim, source), ids) for source in SUBSPACES}
        own, other = metrics[target], next(metrics[source] for source in SUBSPACES if source != target)
        values: dict[str, Any] = {source: judge.value(metric) for source, metric in metrics.items()}
        found[target] = {**values, "own_minus_other": judge.apart(own, other)}
    return found


def _told(seen: Sequence[View], aim: Targets, source: Subspace) -> list[Told]:
    return [
        _explain(known[source], shown[source], *aim(view.learning, view.test), [p.patient_id for p in view.test])
        for view in seen
        for known, shown in view.kept
    ]


def explained(told: Sequence[Told], patient_ids: Sequence[str]) -> Metric:
    """Share of the variance that is explained, over all members and folds, as a function of patient weights."""
    error, spread = (pd.Series(0.0, index=pd.Index(patient_ids)) for _ in range(2))
    for part in told:
        error.loc[list(part.patient_ids)] += part.error
        spread.loc[list(part.patient_ids)] += part.spread
    return lambda weights: 1 - ratio(weights @ error.to_numpy(), weights @ spread.to_numpy())


def _explain(
    known: np.ndarray, shown: np.ndarray, wanted: np.ndarray, truth: np.ndarray, patient_ids: Sequence[str]
) -> Told:
    from sklearn.linear_model import RidgeCV

    usable, judged = np.isfinite(wanted).all(axis=1), np.isfinite(truth).all(axis=1)
    middle, scale = known[usable].mean(axis=0), known[usable].std(axis=0) + 1e-9
    fitted = RidgeCV(alphas=PENALTIES).fit((known[usable] - middle) / scale, wanted[usable])
    said = np.asarray(fitted.predict((shown[judged] - middle) / scale)).reshape(int(judged.sum()), -1)
    error = ((truth[judged] - said) ** 2).sum(axis=1)
    spread = ((truth[judged] - wanted[usable].mean(axis=0)) ** 2).sum(axis=1)
    ids = tuple(patient for patient, kept in zip(patient_ids, judged, strict=True) if kept)
    return Told(ids, error, spread)


def _components(subspace: Subspace, components: int) -> Targets:
    """Tell the leading principal components of a gene group, as scaled for the model, fitted on learning patients."""

    def targets(learning: Sequence[Patient], test: Sequence[Patient]) -> tuple[np.ndarray, np.ndarray]:
        known, shown = (_genes(part, subspace) for part in (learning, test))
        usable = known[np.isfinite(known).all(axis=1)]
        middle = usable.mean(axis=0)
        _, _, axes = np.linalg.svd(usable - middle, full_matrices=False)
        return (known - middle) @ axes[:components].T, (shown - middle) @ axes[:components].T

    return targets


def _genes(patients: Sequence[Patient], subspace: Subspace) -> np.ndarray:
    rows = [getattr(p, subspace) if p.present else np.full(len(getattr(p, subspace)), np.nan) for p in patients]
    return np.array(rows, dtype=float)


def _factor(planted: pd.DataFrame, subspace: Subspace) -> Targets:
    known = planted.set_index("patient_id")[subspace]

    def targets(learning: Sequence[Patient], test: Sequence[Patient]) -> tuple[np.ndarray, np.ndarray]:
        one, other = (known.reindex([p.patient_id for p in part]).to_numpy(float) for part in (learning, test))
        return one[:, None], other[:, None]

    return targets
