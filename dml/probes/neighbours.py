"""Neighbours in a model's tokens: prediction by their outcomes, shared labels, coverage of the interval.

Per fold the cases are the learning patients, with the tokens of members that did not train on them, and neighbours are
sought for the test patients, without those of the same hospital.

Shape legend: p test patients, k neighbours, t horizons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dml.case_bank.build_bank import build_bank, embed_all
from dml.case_bank.outcomes import known_follow_up, mean_survival
from dml.case_bank.similar_cases import SimilarCases, find_similar
from dml.core.tasks import class_column, horizon_columns
from dml.core.types import Case, Cohort
from dml.evaluation.intervals import rounded
from dml.evaluation.metrics import Metric
from dml.evaluation.metrics.kaplan_meier import kaplan_meier
from dml.evaluation.results import PAIR, Training
from dml.probes.fold_models import FoldModels, predict_folds
from dml.probes.neighbour_survival import probe_survival
from dml.probes.paired_scorer import PairedScorer

N_LABELLED = 10
"""Neighbours among which the share of the same label is counted."""


@dataclass(frozen=True, slots=True)
class TestNeighbours:
    """A test patient, and the learning patients like him."""

    __test__ = False
    case: Case
    similar: SimilarCases


def probe_neighbours(
    folds: Sequence[FoldModels], splits: pd.DataFrame, scorer: PairedScorer, years: Sequence[float], k: int
) -> dict[str, Any]:
    """Compare neighbours' outcomes with the model's predictions, for teacher and student.

    Parameters
    ----------
    splits : DataFrame
        With the inner folds, that is, which member did not train on which learning patient.
    years : sequence of float
        Horizons of survival.
    k : int
        Neighbours.

    Returns
    -------
    dict
        ``k``, and per model ``cases`` and ``held_out`` (mean over folds), ``prediction`` (leading metric of the
        neighbours' outcomes, of survival and classes), ``difference`` from the model, ``same_label`` (label to space to
        share, chance and difference), ``same_site`` (share without the rule that leaves out the patient's hospital, and
        chance), and of survival ``survival`` (see `dml.probes.neighbour_survival`).
    """
    result: dict[str, Any] = {"k": k}
    for name in PAIR:
        tested = [row for one in folds for row in find_neighbours(one, name, splits)]
        if len(tested) < len(scorer.outcomes):
            result[name] = {"left_out": "a test patient lacks what the model requires"}
            continue
        banks = {id(row.similar.bank): row.similar.bank.cases for row in tested}.values()
        content: dict[str, Any] = {
            "cases": rounded(float(np.mean([len(cases) for cases in banks]))),
            "held_out": rounded(float(np.mean([cases["held_out"].mean() for cases in banks]))),
            "same_label": _same_labels(tested, scorer),
            "same_site": _same_site(tested, scorer),
        }
        predicted = neighbour_predictions(tested, scorer, years, k)
        if predicted is not None:
            metric, model = scorer.metric(predicted), predict_folds(folds, name)
            content["prediction"] = scorer.value(metric)
            content["difference"] = scorer.difference(metric, scorer.metric(model))
            if scorer.task.kind == "survival":
                content["survival"] = probe_survival(predicted, model, scorer, years, k, _training(folds))
        result[name] = content
    return result


def find_neighbours(one: FoldModels, model: str, splits: pd.DataFrame) -> list[TestNeighbours]:
    """Compare every test patient of a fold with its learning patients."""
    rows = splits[(splits["fold"] == one.fold) & (splits["inner_fold"] >= 0)]
    inner = dict(zip(rows["patient_id"], rows["inner_fold"].astype(int), strict=True))
    fold = one.models[model]
    bank = build_bank([fold], one.learning, [inner])
    accepted = [case for case in one.test.cases if fold.spec.accepts(case)]
    part = Cohort(one.test.name, tuple(accepted), one.test.genes, one.test.unit, one.test.groups, one.test.classes)
    tokens = embed_all([fold], part)
    return [
        TestNeighbours(case, find_similar(bank, {b: v[i] for b, v in tokens.items()}, case.patient_id, case.site))
        for i, case in enumerate(accepted)
    ]


def _training(folds: Sequence[FoldModels]) -> dict[int, Training]:
    known = {one.fold: [c.survival for c in one.learning.cases if c.survival is not None] for one in folds}
    return {
        fold: Training(np.array([s.days for s in rows], float), np.array([s.event for s in rows], bool), None)
        for fold, rows in known.items()
    }


def neighbour_predictions(
    tested: Sequence[TestNeighbours], scorer: PairedScorer, years: Sequence[float], k: int
) -> pd.DataFrame | None:
    """Return the neighbours' outcomes as predictions: columns as a model's; None for a number."""
    if scorer.task.kind == "regression":
        return None
    space = next(iter(tested[0].similar.distances))
    rows = [{"patient_id": f.case.patient_id, **_outcome(f.similar.nearest(space, k), scorer, years)} for f in tested]
    return pd.DataFrame(rows).sort_values("patient_id", ignore_index=True)


def _outcome(neighbours: pd.DataFrame, scorer: PairedScorer, years: Sequence[float]) -> dict[str, float]:
    if scorer.task.kind == "survival":
        days, event = known_follow_up(neighbours)
        curve, horizons = kaplan_meier(days, event), horizon_columns(years)
        at = {name: float(curve.curve.at(np.array(float(day)))) for name, day in horizons.items()}
        return {"risk": -mean_survival(curve, float(max(horizons.values()))), **at}
    labels, classes = neighbours[scorer.task.name].dropna(), scorer.task.classes
    return {
        class_column(name): (float((labels == name).sum()) + 1 / len(classes)) / (len(labels) + 1) for name in classes
    }


def _same_labels(tested: Sequence[TestNeighbours], scorer: PairedScorer) -> dict[str, Any]:
    """Share of the ten nearest with the patient's label, against that of all who may be neighbours."""
    labels = sorted({name for row in tested for name in row.case.labels})
    return {
        label: {
            space: value for space in tested[0].similar.distances if (value := _share(tested, scorer, label, space))
        }
        for label in labels
    }


def _share(tested: Sequence[TestNeighbours], scorer: PairedScorer, label: str, space: str) -> dict[str, Any] | None:
    shares: dict[str, tuple[float, float]] = {}
    for row in tested:
        mine, allowed = row.case.labels.get(label), row.similar.bank.cases[~row.similar.excluded.any]
        known = allowed[label].dropna() if label in allowed else pd.Series(dtype=object)
        near = row.similar.nearest(space, N_LABELLED)
        near_known = near[label].dropna() if label in near else pd.Series(dtype=object)
        if mine is not None and len(near_known) and len(known):
            shares[row.case.patient_id] = float((near_known == mine).mean()), float((known == mine).mean())
    return _paired(shares, scorer)


def _same_site(tested: Sequence[TestNeighbours], scorer: PairedScorer) -> dict[str, Any] | None:
    """Share of the ten nearest that are of the same hospital, if they may be, against its share of all cases."""
    shares: dict[str, tuple[float, float]] = {}
    for row in tested:
        similar = row.similar
        sites = similar.bank.cases["site"].to_numpy(str)
        order = np.argsort(next(iter(similar.distances.values())), kind="stable")[:N_LABELLED]
        if (sites == row.case.site).any():
            same = sites == row.case.site
            shares[row.case.patient_id] = float(same[order].mean()), float(same.mean())
    return _paired(shares, scorer)


def _paired(shares: Mapping[str, tuple[float, float]], scorer: PairedScorer) -> dict[str, Any] | None:
    inside = scorer.outcomes["patient_id"].isin(shares.keys()).to_numpy()
    if not inside.any():
        return None
    part = scorer.restrict(inside)
    values = np.array([shares[patient] for patient in part.outcomes["patient_id"]])
    near, chance = _mean(values[:, 0]), _mean(values[:, 1])
    return {
        "patients": int(inside.sum()),
        "share": part.value(near),
        "chance": part.value(chance),
        "difference": part.difference(near, chance),
    }


def _mean(values: np.ndarray) -> Metric:
    return lambda weights: np.asarray(weights @ values / np.maximum(weights.sum(axis=1), 1e-12))
