"""Numbers of a benchmark: metrics with intervals, paired differences corrected over all of them, ranks, costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.tasks import make_task
from dml.core.types import Kind
from dml.evaluation.horizons import select_horizons
from dml.evaluation.intervals import holm, rounded
from dml.evaluation.metric_sets import MAIN, PRIMARY, leading_metric
from dml.evaluation.metrics import unweighted
from dml.evaluation.rank_tests import RankComparison, compare_ranks
from dml.evaluation.results import ModelResult, Results, Training
from dml.evaluation.scorer import Scorer
from dml.experiments.benchmark import Benchmark, read_patients
from dml.models import registry

Row = dict[str, Any]
GROUPS: Mapping[str, str] = {"slide": "slide alone", "genes": "genes alone", "slide+genes": "slide and genes"}
"""Groups of models that are ranked together: those with the same inputs."""


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """All numbers of a page.

    Attributes
    ----------
    task, kind, metric : str
        The task, its kind, and its leading metric.
    rows : list of dict
        One a cohort and model: cohort, model, inputs, patients, the main metrics each with ``_low`` and ``_high``,
        rank (among models of the same inputs, on patients that all of them predict), seconds, peak_gb.
    differences : list of dict
        Paired: cohort, model, reference, difference, ci_low, ci_high, p, p_holm (over the whole list), patients.
    ideas : list of dict
        The same of comparators and their plain backbones, corrected by themselves.
    ranks : mapping
        Group of inputs to its ranks over cohorts.
    left_out : list of str
        Models that are missing in a cohort, and why.
    budget : mapping
        Folds of each cohort, members, epochs.
    """

    task: str
    kind: Kind
    metric: str
    rows: list[Row]
    differences: list[Row]
    ideas: list[Row]
    ranks: Mapping[str, RankComparison]
    left_out: list[str]
    budget: Mapping[str, Any]


def score_benchmark(benchmark: Benchmark) -> BenchmarkResult:
    """Score all cells; trains what is not there."""
    rows, differences, ideas, left_out = [], [], [], []
    leading: dict[str, dict[str, float]] = {}
    for cohort in benchmark.parts:
        scorer, missing = make_scorer(benchmark, cohort)
        left_out += [f"{cohort}: {registry.label(m)} has nobody to learn from" for m in missing]
        leading[cohort] = _leading_on_common_patients(scorer.results)
        rows += _rows(benchmark, cohort, scorer, leading[cohort])
        metric = PRIMARY[scorer.results.kind]
        differences += _differences(scorer, cohort, metric, _pairs(list(scorer.results.models)))
        ideas += _differences(scorer, cohort, metric, _idea_pairs(list(scorer.results.models)))
    for table in (differences, ideas):
        for index, p in holm({str(i): row["p"] for i, row in enumerate(table)}).items():
            table[int(index)]["p_holm"] = rounded(p)
    part = next(iter(benchmark.parts.values()))
    kind = make_task(part.task, part.cohort.classes).kind
    return BenchmarkResult(
        part.task, kind, PRIMARY[kind], rows, differences, ideas, rank_models(leading), left_out, _budget(benchmark)
    )


def make_scorer(benchmark: Benchmark, cohort: str) -> tuple[Scorer, list[str]]:
    """Return the scorer of a cohort's test predictions, and the models that have none."""
    part, models, missing = benchmark.parts[cohort], dict[str, ModelResult](), []
    for name in benchmark.models:
        folds = benchmark.rows(cohort, name)
        if folds:
            models[name] = _model_result(name, folds)
        else:
            missing.append(name)
    task = make_task(part.task, part.cohort.classes)
    results = Results(part.task, task.kind, tuple(task.classes), models)
    settings = part.params.evaluation
    horizons = select_horizons(results, settings.years) if task.kind == "survival" else None
    return Scorer.of(results, horizons, read_patients(cohort), settings, part.params.seed), missing


def rank_models(leading: Mapping[str, Mapping[str, float]]) -> dict[str, RankComparison]:
    """Rank the models of each group of inputs that every cohort has; groups of one model are left out.

    Parameters
    ----------
    leading : mapping
        Cohort to the leading metric of each model.
    """
    ranks = {}
    for group in GROUPS:
        shared = [
            m for m in next(iter(leading.values())) if inputs_of(m) == group and all(m in x for x in leading.values())
        ]
        if len(shared) > 1:
            values = np.array([[each[model] for model in shared] for each in leading.values()])
            ranks[group] = compare_ranks(values, [registry.label(model) for model in shared])
    return ranks


def inputs_of(model: str) -> str:
    """Return the inputs of a model as one word.

    Examples
    --------
    >>> inputs_of("teacher"), inputs_of("linear_slide"), inputs_of("null")
    ('slide+genes', 'slide', '')
    """
    return "+".join(registry.entry(model).inputs)


def _model_result(name: str, folds: Sequence[tuple[pd.DataFrame, Mapping[str, Any]]]) -> ModelResult:
    tested = pd.concat([rows[rows["role"] == "test"] for rows, _ in folds], ignore_index=True)
    training = {
        int(rows["fold"].iloc[0]): Training(
            np.asarray(meta.get("train_days") or (), float),
            np.asarray(meta.get("train_event") or (), bool),
            meta.get("train_cutoff"),
        )
        for rows, meta in folds
    }
    rows = tested.assign(model=name).sort_values("patient_id", ignore_index=True)
    if "event" in rows:
        rows["event"] = rows["event"].astype(bool)
    return ModelResult(name, rows, training)


def _leading_on_common_patients(results: Results) -> dict[str, float]:
    """Return the leading metric of each model on the patients that all models with the same inputs predict."""
    values = {}
    for group in GROUPS:
        inside = {name: model.rows for name, model in results.models.items() if inputs_of(name) == group}
        common = set.intersection(*(set(rows["patient_id"]) for rows in inside.values())) if inside else set()
        for name, rows in inside.items():
            compared = rows[rows["patient_id"].isin(common)].reset_index(drop=True)
            metric = leading_metric(compared, results.kind, results.classes)
            values[name] = float(metric(unweighted(len(compared)))[0])
    return values


def _rows(benchmark: Benchmark, cohort: str, scorer: Scorer, leading: Mapping[str, float]) -> list[Row]:
    scores = scorer.score_models()
    ranks: dict[str, float] = {}
    for group in GROUPS:
        values = pd.Series({name: value for name, value in leading.items() if inputs_of(name) == group}, dtype=float)
        ranks |= {str(name): float(rank) for name, rank in values.rank(ascending=False).items()}
    lines = []
    for model, result in scorer.results.models.items():
        line: Row = {"cohort": cohort, "model": model, "inputs": inputs_of(model), "patients": len(result.rows)}
        for metric in MAIN[scorer.results.kind]:
            entry = scores[model].get(metric)
            ends = ("value", "ci_low", "ci_high")
            columns = (metric, f"{metric}_low", f"{metric}_high")
            line |= dict(zip(columns, (None if entry is None else entry[end] for end in ends), strict=True))
        lines.append({**line, "rank": ranks.get(model), **benchmark.cost(cohort, model)})
    return lines


def _pairs(models: Sequence[str]) -> dict[str, list[str]]:
    """Return teacher and student, each with the models of others that read the same or less."""
    pairs = {
        "teacher": [m for m in models if registry.is_baseline(m)],
        "student": [m for m in models if registry.is_baseline(m) and "genes" not in registry.entry(m).inputs],
        "student_undistilled": [],
    }
    if "student_undistilled" in models:
        pairs["student"].append("student_undistilled")
    return {model: others for model, others in pairs.items() if model in models and others}


def _idea_pairs(models: Sequence[str]) -> dict[str, list[str]]:
    return {m: [registry.entry(m).backbone] for m in models if registry.entry(m).backbone in models}


def _differences(scorer: Scorer, cohort: str, metric: str, pairs: Mapping[str, list[str]]) -> list[Row]:
    compared = scorer.compare(pairs)
    return [
        {"cohort": cohort, "model": model, "reference": reference, **metrics[metric]}
        for model, references in compared.items()
        for reference, metrics in references.items()
        if metric in metrics
    ]


def _budget(benchmark: Benchmark) -> dict[str, Any]:
    params: dict[str, config.Params] = {cohort: part.params for cohort, part in benchmark.parts.items()}
    first = next(iter(params.values()))
    return {
        "folds": {cohort: len(each.folds) for cohort, each in params.items()},
        "members": first.optimisation.ensemble_size,
        "epochs": first.optimisation.epochs,
        "learning_rate": first.optimisation.learning_rate,
        "seed": first.seed,
    }
