"""Independence of the subspaces, and what each represents of its own group of genes.

The tokens f_T and f_M of the test patients should have little in common (distance correlation), and each should predict
the principal components of its own gene group better than the other token does. Where the planted factors of a
generated cohort are known, the same is computed for them. Components and regressions are fitted on a fold's learning
patients, the explained variance is that of its test patients, member by member.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dml.core.types import SUBSPACES, Subspace
from dml.data.patient_reader import Patient
from dml.evaluation.intervals import rounded
from dml.evaluation.metrics import Metric, ratio
from dml.evaluation.metrics.dependence import distance_correlation
from dml.probes.fold_models import FoldEmbeddings
from dml.probes.paired_scorer import PairedScorer

PENALTIES = np.logspace(-1, 5, 13)
"""Ridge penalties; chosen by leave-one-out of the learning patients."""
Targets = Callable[[Sequence[Patient], Sequence[Patient]], tuple[np.ndarray, np.ndarray]]
"""Learning and test patients to the values to predict; NaN rows where they are unknown."""


@dataclass(frozen=True, slots=True)
class RegressionErrors:
    """Squared errors of a regression on test patients, and those of predicting the learning patients' mean."""

    patient_ids: tuple[str, ...]
    error: np.ndarray
    total: np.ndarray


def probe_subspaces(
    embeddings: Mapping[str, Sequence[FoldEmbeddings]],
    scorer: PairedScorer,
    components: int,
    planted: pd.DataFrame | None,
) -> dict[str, Any]:
    """Measure the subspaces of teacher and student.

    Parameters
    ----------
    embeddings : mapping
        Model to the embeddings of every fold.
    components : int
        Principal components of each gene group.
    planted : DataFrame, optional
        patient_id, and a column per subspace with the factor that made the patient.

    Returns
    -------
    dict
        Per model: ``distance_correlation`` (value, folds) and, for ``genes`` and ``planted``, per target (tumor, tme)
        the share of variance explained from ``tumor`` and ``tme`` with intervals, and the paired ``difference`` of its
        own token to the other one. ``genes`` is empty in a cohort without transcriptomes.
    """
    expressed = any(patient.present for parts in embeddings.values() for part in parts for patient in part.learning)
    kinds: dict[str, Mapping[Subspace, Targets]] = {
        "genes": {s: _gene_components(s, components) for s in SUBSPACES} if expressed else {}
    }
    if planted is not None:
        kinds["planted"] = {s: _planted_factor(planted, s) for s in SUBSPACES}
    return {model: _probe_model(parts, scorer, kinds) for model, parts in embeddings.items()}


def explained_variance(parts: Sequence[RegressionErrors], patient_ids: Sequence[str]) -> Metric:
    """Share of the variance that is explained, over all members and folds, as a function of patient weights."""
    error, total = (pd.Series(0.0, index=pd.Index(patient_ids)) for _ in range(2))
    for part in parts:
        error.loc[list(part.patient_ids)] += part.error
        total.loc[list(part.patient_ids)] += part.total
    return lambda weights: 1 - ratio(weights @ error.to_numpy(), weights @ total.to_numpy())


def _probe_model(
    folds: Sequence[FoldEmbeddings], scorer: PairedScorer, kinds: Mapping[str, Mapping[Subspace, Targets]]
) -> dict[str, Any]:
    each = [float(np.mean([distance_correlation(t["tumor"], t["tme"]) for _, t in fold.members])) for fold in folds]
    correlation = {"value": rounded(float(np.mean(each))), "folds": [rounded(value) for value in each]}
    return {
        "distance_correlation": correlation,
        **{kind: _score_targets(folds, targets, scorer) for kind, targets in kinds.items()},
    }


def _score_targets(
    folds: Sequence[FoldEmbeddings], targets: Mapping[Subspace, Targets], scorer: PairedScorer
) -> dict[str, Any]:
    """Per target, what each token explains of it and by how much its own token explains more."""
    results: dict[str, Any] = {}
    ids = scorer.outcomes["patient_id"].tolist()
    for target, values in targets.items():
        metrics = {source: explained_variance(_regress(folds, values, source), ids) for source in SUBSPACES}
        other = next(metrics[source] for source in SUBSPACES if source != target)
        shares: dict[str, Any] = {source: scorer.value(metric) for source, metric in metrics.items()}
        results[target] = {**shares, "difference": scorer.difference(metrics[target], other)}
    return results


def _regress(folds: Sequence[FoldEmbeddings], targets: Targets, source: Subspace) -> list[RegressionErrors]:
    return [
        _fit_ridge(
            learning[source], test[source], *targets(fold.learning, fold.test), [p.patient_id for p in fold.test]
        )
        for fold in folds
        for learning, test in fold.members
    ]


def _fit_ridge(
    tokens: np.ndarray, test_tokens: np.ndarray, values: np.ndarray, test_values: np.ndarray, ids: Sequence[str]
) -> RegressionErrors:
    from sklearn.linear_model import RidgeCV

    fitted, scored = np.isfinite(values).all(axis=1), np.isfinite(test_values).all(axis=1)
    middle, scale = tokens[fitted].mean(axis=0), tokens[fitted].std(axis=0) + 1e-9
    model = RidgeCV(alphas=PENALTIES).fit((tokens[fitted] - middle) / scale, values[fitted])
    predicted = np.asarray(model.predict((test_tokens[scored] - middle) / scale)).reshape(int(scored.sum()), -1)
    error = ((test_values[scored] - predicted) ** 2).sum(axis=1)
    total = ((test_values[scored] - values[fitted].mean(axis=0)) ** 2).sum(axis=1)
    return RegressionErrors(tuple(patient for patient, one in zip(ids, scored, strict=True) if one), error, total)


def _gene_components(subspace: Subspace, components: int) -> Targets:
    """Leading principal components of a gene group, scaled as for the model, fitted on learning patients."""

    def targets(learning: Sequence[Patient], test: Sequence[Patient]) -> tuple[np.ndarray, np.ndarray]:
        genes, test_genes = (_genes(part, subspace) for part in (learning, test))
        complete = genes[np.isfinite(genes).all(axis=1)]
        middle = complete.mean(axis=0)
        _, _, axes = np.linalg.svd(complete - middle, full_matrices=False)
        return (genes - middle) @ axes[:components].T, (test_genes - middle) @ axes[:components].T

    return targets


def _genes(patients: Sequence[Patient], subspace: Subspace) -> np.ndarray:
    rows = [getattr(p, subspace) if p.present else np.full(len(getattr(p, subspace)), np.nan) for p in patients]
    return np.array(rows, dtype=float)


def _planted_factor(planted: pd.DataFrame, subspace: Subspace) -> Targets:
    factor = planted.set_index("patient_id")[subspace]

    def targets(learning: Sequence[Patient], test: Sequence[Patient]) -> tuple[np.ndarray, np.ndarray]:
        one, other = (factor.reindex([p.patient_id for p in part]).to_numpy(float) for part in (learning, test))
        return one[:, None], other[:, None]

    return targets
