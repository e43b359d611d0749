"""Teachability of a cohort and task: every fold fitted, test patients pooled, numbers with intervals.

Two protocols: the cohort's folds, and folds of the same patients whose test sites are not learned from. Nothing here
trains a network; 400 patients with 1,544 genes take well under a minute.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dml.baselines.linear.regression import make_regression
from dml.config import params as config
from dml.core.errors import InputError
from dml.core.types import Cohort
from dml.evaluation.intervals import bootstrap_weights
from dml.evaluation.subgroup_rules import patients_in_subgroup
from dml.teachability.association import Association, associate
from dml.teachability.cross_fit import CrossFit, FoldResult, Predicted
from dml.teachability.fold_patients import FoldPatients, TooFewPatients, divide
from dml.teachability.gap import bind_metric, decompose, describe, draw, leading
from dml.teachability.gene_targets import GeneSetMap, measured_sets
from dml.teachability.protocols import list_protocols
from dml.teachability.risk_models import ARMS
from dml.teachability.teachability_files import Teachability

log = logging.getLogger(__name__)

CLEARLY_PREDICTED = 0.3
"""Correlation above which a gene counts in the share of genes that a slide predicts."""


def analyse(
    cohort: Cohort,
    splits: pd.DataFrame,
    patients: pd.DataFrame,
    params: config.Params,
    task: str,
    hallmark: GeneSetMap | None = None,
) -> Teachability:
    """Measure what a slide can be taught.

    Parameters
    ----------
    cohort : Cohort
        All patients with their features and transcriptomes.
    splits : DataFrame
        The cohort's folds: patient_id, fold, role, inner_fold.
    patients : DataFrame
        patients.parquet, for folds of unseen sites and the subgroups of params.yaml.
    params : config.Params
        Sections teachability, baselines, evaluation, split; seed.
    task : str
        "survival", or a label.
    hallmark : mapping, optional
        Hallmark sets, as `read_hallmark_sets` returns them.

    Raises
    ------
    TooFewPatients
        If there are no paired test patients, or fewer than evaluation.min_patients or .min_events.
    InputError
        If nothing can be fitted to the learning patients of a fold, or the cohort has no such task.
    """
    if task != "survival" and task not in cohort.classes:
        known = ", ".join(["survival", *cohort.classes])
        raise InputError("params.yaml", f"unknown task {task!r}", f"Tasks of cohort {cohort.name}: {known}")
    regression = make_regression(task, cohort.classes, params.evaluation.years)
    sets = measured_sets(cohort, hallmark or {}, params.teachability.min_set_genes)
    fit = CrossFit(cohort, regression, params.baselines, params.teachability, sets)
    kind, classes = regression.task.kind, regression.task.classes
    content: dict[str, Any] = {}
    targets, predictions = [], []
    for protocol, folds, reason in list_protocols(splits, patients, params):
        if folds is None:
            content[protocol] = {"left_out": reason}
            continue
        try:
            content[protocol], table, rows = _measure(fit, folds, patients, params, task)
        except InputError as problem:
            if folds is splits:
                raise
            content[protocol] = {"left_out": str(problem)}  # folds by site of our making may lack deaths or a class
            continue
        targets.append(table.assign(protocol=protocol))
        predictions.append(rows.assign(protocol=protocol))
    metric = leading(kind)
    summary = {
        "cohort": cohort.name,
        "task": task,
        "kind": kind,
        "classes": list(classes),
        "metric": metric.name,
        "metric_label": metric.label,
        "chance": regression.task.chance,
        "confidence": params.evaluation.confidence,
        "resamples": params.evaluation.resamples,
        "seed": params.seed,
        "protocols": content,
    }
    return Teachability(summary, pd.concat(targets, ignore_index=True), pd.concat(predictions, ignore_index=True))


def _measure(
    fit: CrossFit, splits: pd.DataFrame, patients: pd.DataFrame, params: config.Params, task: str
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Fit every fold and return the summary of a protocol, its targets, and the predictions of the arms."""
    definition, settings = fit.regression.task, params.evaluation
    folds = divide(fit.cohort, splits, definition.is_known)
    _check_counts(fit.cohort, folds, task, settings)
    results = [fit.run(fold) for fold in folds if fold.test]
    rows = pd.concat([result.rows for result in results], ignore_index=True)
    weights = bootstrap_weights(_fold_of(rows), settings.resamples, params.seed)
    table = _describe_targets(results, _fold_of(rows), weights, settings.confidence)
    content = {
        **_counts(rows, folds, task),
        "gaps": _decompose(rows, patients, weights, settings, definition.kind, definition.classes),
        "associations": _summarise(table.drop(columns="draws"), table["draws"], settings.confidence),
    }
    return content, table.drop(columns="draws"), rows


def _check_counts(cohort: Cohort, folds: Sequence[FoldPatients], task: str, settings: config.Evaluation) -> None:
    tested = [case for fold in folds for case in fold.test]
    if task == "survival":
        events = sum(case.survival is not None and case.survival.event for case in tested)
        what = "deaths"
    elif not cohort.classes[task]:
        events, what = len({case.values[task] for case in tested}), "different numbers"
    else:
        counts = pd.Series([case.labels[task] for case in tested]).value_counts()
        events, what = int(counts.sum() - counts.max()), "patients outside the most frequent class"
    if len(tested) < settings.min_patients or events < settings.min_events:
        problem = f"{len(tested)} paired test patients with {events} {what}"
        remedy = f"evaluation asks for at least {settings.min_patients} and {settings.min_events}: add patients"
        raise TooFewPatients(f"cohort {cohort.name}, task {task}", problem, remedy)


def _fold_of(rows: pd.DataFrame) -> np.ndarray:
    """Return the fold of each test patient, in the order of one arm's rows."""
    first = next(iter(ARMS))
    return rows.loc[rows["arm"] == first, "fold"].to_numpy(int)


def _counts(rows: pd.DataFrame, folds: Sequence[FoldPatients], task: str) -> dict[str, Any]:
    one = rows[rows["arm"] == "slide"]
    events: dict[str, Any] = {}
    if task == "survival":
        events["deaths"] = int(one["event"].sum())
    elif "label" in one:
        events["labels"] = one["label"].value_counts().to_dict()
    learning = [sum(case.has_slide and case.has_expression for case in fold.learning) for fold in folds]
    return {"patients": len(one), **events, "folds": len(folds), "learning_pairs": learning}


def _describe_targets(
    results: Sequence[FoldResult], fold: np.ndarray, weights: np.ndarray, confidence: float
) -> pd.DataFrame:
    """Return one row a target with r, r2 and nats, their intervals, and the draws of r."""
    tables = []
    for part in ("genes", "risks"):
        predicted: list[Predicted] = [getattr(result, part) for result in results]
        target, prediction, mean = (
            np.concatenate([getattr(p, name) for p in predicted]) for name in ("target", "prediction", "mean")
        )
        association = associate(target, prediction, mean, fold, weights)
        tables.append(_tabulate(predicted[0].names, association, confidence))
    table = pd.concat(tables, ignore_index=True)
    return table[table["r"].notna()].reset_index(drop=True)


def _tabulate(names: pd.DataFrame, association: Association, confidence: float) -> pd.DataFrame:
    tail = (1 - confidence) / 2
    columns: dict[str, Any] = {}
    for name, draws in (("r", association.r), ("r2", association.r2), ("nats", association.nats)):
        filled = np.where(np.isfinite(draws[1:]), draws[1:], draws[:1])
        low, high = np.quantile(filled, [tail, 1 - tail], axis=0)
        columns |= {name: draws[0], f"{name}_low": low, f"{name}_high": high}
    return names.assign(**columns, draws=list(association.r.T))


def _summarise(table: pd.DataFrame, draws: pd.Series, confidence: float) -> dict[str, Any]:
    """Return risks, gene sets and components in full, and genes by their median and the share well predicted."""
    content: dict[str, Any] = {}
    for kind, rows in table.groupby("kind", sort=False):
        r = np.stack(draws[rows.index].to_list(), axis=1)
        summary = {
            "number": len(rows),
            "median_r": describe(np.nanmedian(r, axis=1), confidence),  # a rare gene may not vary in a resample
            "share_above": describe((r > CLEARLY_PREDICTED).sum(axis=1) / np.isfinite(r).sum(axis=1), confidence),
        }
        ordered = rows.sort_values("r", ascending=False) if kind != "component" else rows
        listed = ordered.head(10) if kind == "gene" else ordered
        content[str(kind)] = {**summary, "targets": [_row(row) for _, row in listed.iterrows()]}
    return content


def _row(row: pd.Series) -> dict[str, Any]:
    measures = {
        name: {"value": row[name], "ci_low": row[f"{name}_low"], "ci_high": row[f"{name}_high"]}
        for name in ("r", "r2", "nats")
    }
    rounded = {name: {key: round(float(value), 6) for key, value in each.items()} for name, each in measures.items()}
    return {"name": row["name"], **rounded}


def _decompose(
    rows: pd.DataFrame,
    patients: pd.DataFrame,
    weights: np.ndarray,
    settings: config.Evaluation,
    kind: Any,
    classes: Sequence[str],
) -> dict[str, Any]:
    """Take the gap apart on all test patients and inside each subgroup that has enough of them."""
    by_arm = {arm: part.reset_index(drop=True) for arm, part in rows.groupby("arm", sort=False)}
    tested = by_arm["slide"]["patient_id"]
    groups = {"all": np.ones(len(tested), bool)}
    for name, rule in settings.subgroups.items():
        groups[name] = tested.isin(patients_in_subgroup(patients, rule)).to_numpy()
    content: dict[str, Any] = {}
    for name, inside in groups.items():
        if inside.sum() < settings.min_patients:
            content[name] = {"left_out": f"{inside.sum()} test patients, fewer than {settings.min_patients}"}
            continue
        draws = {
            str(arm): draw(bind_metric(part[inside], kind, classes), weights[:, inside]) for arm, part in by_arm.items()
        }
        content[name] = {"patients": int(inside.sum()), **decompose(draws, settings.confidence)}
    return content
