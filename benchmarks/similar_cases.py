"""What similarity alone tells: neighbours' Kaplan-Meier beside the linear models, on patients and on unseen hospitals.

    python -m benchmarks.similar_cases --cohort tcga_gbmlgg [--subset project=LGG]

Folds are those of the cohort's splits, and the same number of folds whose test hospitals are not learned from.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from dml.baselines.linear.fit import fit_baseline
from dml.baselines.linear.regression import make_regression
from dml.config import params as config
from dml.core.tasks import make_task
from dml.core.types import Cohort
from dml.data.cohort_store import CohortStore
from dml.evaluation.horizons import select_horizons
from dml.evaluation.intervals import bootstrap_weights, difference, estimate
from dml.evaluation.metric_sets import survival_metrics
from dml.evaluation.results import ModelResult, Results, Training
from dml.teachability.protocols import list_protocols

MODELS = ("linear_slide", "linear_genes", "linear_slide_genes", "neighbours_slide", "neighbours_genes",
          "neighbours_slide_genes")  # fmt: skip


def main() -> None:
    """Print one JSON object a protocol, subset and model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cohort", required=True)
    parser.add_argument("--subset", default="", help="column=value, e.g. project=LGG")
    arguments = parser.parse_args()
    params = config.load()
    store = CohortStore.of(arguments.cohort)
    encoder = next(path.name for path in store.features_folder.iterdir() if path.is_dir())
    mpps = sorted(float(path.name) for path in (store.features_folder / encoder).iterdir() if path.is_dir())
    cohort, patients = store.cohort(encoder, mpps), store.patients()
    for protocol, splits, reason in list_protocols(store.splits(), patients, params):
        if splits is None:
            print(json.dumps({"protocol": protocol, "left_out": reason}))
            continue
        for row in measure(cohort, splits, params, patients, arguments.subset):
            print(json.dumps({"cohort": arguments.cohort, "protocol": protocol, **row}), flush=True)


def measure(
    cohort: Cohort, splits: pd.DataFrame, params: config.Params, patients: pd.DataFrame, subset: str
) -> Iterator[dict[str, Any]]:
    """Fit every model on every fold; C and integrated Brier of the pooled test patients."""
    regression = make_regression("survival", cohort.classes, params.evaluation.years)
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in MODELS}
    training: dict[str, dict[int, Training]] = {name: {} for name in MODELS}
    for fold in sorted(splits["fold"].unique()):
        rows = splits[splits["fold"] == fold]
        test = cohort.subset(set(rows.loc[rows["role"] == "test", "patient_id"]))
        learning = cohort.subset(set(rows.loc[rows["role"] != "test", "patient_id"]))
        for name in MODELS:
            fitted = fit_baseline(name, learning, {"test": test}, regression, params.baselines)
            assert fitted is not None
            parts[name].append(fitted.rows.assign(fold=int(fold)))
            meta = fitted.metadata
            training[name][int(fold)] = Training(
                pd.Series(meta["train_days"]).to_numpy(float), pd.Series(meta["train_event"]).to_numpy(bool), None
            )
    tables = {name: pd.concat(rows).sort_values("patient_id", ignore_index=True) for name, rows in parts.items()}
    if subset:
        column, value = subset.split("=")
        inside = set(patients.loc[patients[column].astype(str) == value, "patient_id"])
        tables = {name: t[t["patient_id"].isin(inside)].reset_index(drop=True) for name, t in tables.items()}
    yield from score(tables, training, params)


def score(
    tables: Mapping[str, pd.DataFrame], training: Mapping[str, Mapping[int, Training]], params: config.Params
) -> Iterator[dict[str, Any]]:
    """Metrics with intervals, and the paired difference from the linear model of the same inputs."""
    task = make_task("survival", {})
    results = Results(task.name, task.kind, (), {n: ModelResult(n, t, training[n]) for n, t in tables.items()})
    horizons = select_horizons(results, params.evaluation.years)
    first = next(iter(tables.values()))
    weights = bootstrap_weights(first["fold"].to_numpy(int), params.evaluation.resamples, params.seed)
    metrics = {name: survival_metrics(table, horizons) for name, table in tables.items()}
    for name, bound in metrics.items():
        row: dict[str, Any] = {"model": name, "patients": len(tables[name])}
        for key in ("c_index", "ibs"):
            value = estimate(bound[key], weights, 0.95)
            row[key] = None if value is None else value.to_json()
        base = name.replace("neighbours", "linear")
        if base != name:
            other = difference(bound["c_index"], metrics[base]["c_index"], weights, 0.95)
            row["c_index_against_linear"] = None if other is None else other.to_json()
        yield row


if __name__ == "__main__":
    main()
