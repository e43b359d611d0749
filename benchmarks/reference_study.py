"""Teacher and student beside their linear references, shrunk towards them and as trained, on one cohort.

`python -m benchmarks.reference_study --cohort NAME --task survival --members 5 --out FOLDER`, after `dml cohort import`
and `use` and `dvc repro check_features split`. Everything is trained with the parameters of params.yaml and tested on
the outer folds; nothing is chosen here. With `--as-trained` also the networks without shrinkage; with `--set
distillation.targets=genes` (repeatable) another value of a parameter, and a folder of its own for each setting, since
finished folds are not trained again. With `--set 'pretraining.cohorts=[a, b]'` networks start from pairs of
these cohorts, imported in the same way; the numbers of each fold's pretraining are in pretraining-<fold>.json. Writes
predictions and metrics.json for each version; prints the leading metric, integrated Brier score, calibration slope, and
paired differences.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dml.baselines.linear.fit import fit_baseline
from dml.baselines.linear.regression import make_regression
from dml.config import params as config
from dml.core.device import torch_threads
from dml.core.errors import ConfigError
from dml.core.files import write_json
from dml.core.predictions import write_predictions
from dml.data.cohort_store import CohortStore
from dml.evaluation.horizons import select_horizons
from dml.evaluation.results import read_results
from dml.evaluation.scorer import Scorer
from dml.experiments.tuning.search_space import override
from dml.models.initial_weights import InitialWeights
from dml.pretraining.pretrain import pretrain_fold
from dml.pretraining.pretrained import Network
from dml.training.folds import make_fold, predict_fold, select_test_patients
from dml.training.runtime import one_blas_thread
from dml.training.train import distill_student, train_baseline, train_teacher
from dml.training.training_result import TrainingResult

LINEAR = ("null", "linear_slide", "linear_genes", "linear_slide_genes")
PAIRS = {
    "teacher": ["linear_slide_genes", "linear_genes", "abmil", "null"],
    "student": ["linear_slide", "abmil", "null"],
}
SHOWN = ("c_index", "auc", "spearman", "ibs", "brier", "calibration_slope", "ece", "log_loss")


@torch_threads(1)
@one_blas_thread()
def train_fold(
    params: config.Params, task: str, store: CohortStore, index: int, out: Path, versions: Sequence[str]
) -> None:
    """Train and test all models of one fold; a fold that is complete is not trained again."""
    if (out / versions[-1] / "abmil" / f"fold-{index}" / "predictions.parquet").exists():
        return
    cohort, splits = store.cohort(params.embed.encoder, params.tiles.mpps), store.splits()
    fold, test = make_fold(cohort, splits, index), select_test_patients(cohort, splits, index)
    regression = make_regression(task, fold.learning.classes, params.evaluation.years)
    written: dict[str, tuple[Any, Mapping[str, Any]]] = {}
    for name in LINEAR:
        fitted = fit_baseline(name, fold.learning, {"test": test}, regression, params.baselines)
        if fitted is not None:
            written[name] = fitted.rows.assign(fold=index), fitted.metadata
    initial: dict[Network, InitialWeights | None] = {"teacher": None, "student": None}
    if params.other_cohorts:
        pretrained = pretrain_fold(cohort, splits, index, params)
        write_json(out / f"pretraining-{index}.json", dict(pretrained.report))
        initial |= {name: pretrained.initial(name) for name in params.pretraining.start}
    for version in versions:
        shrinkage = params.optimisation.shrinkage if version == "shrunk" else None
        optimisation = params.optimisation.model_copy(update={"shrinkage": shrinkage})
        changed = params.model_copy(update={"optimisation": optimisation})
        teacher = train_teacher(fold, changed, task, initial=initial["teacher"])
        student = distill_student(fold, changed, task, teacher.model, initial=initial["student"])
        results: dict[str, TrainingResult | None] = {"teacher": teacher, "student": student}
        if version == versions[0]:
            results["abmil"] = train_baseline(fold, changed, task, "abmil")
        for name, result in results.items():
            if result is not None:
                written[name] = predict_fold(result, fold, test, name)
        for name, (rows, metadata) in written.items():
            path = out / version / name / f"fold-{index}" / "predictions.parquet"
            write_predictions(path, rows[rows["role"] == "test"], dict(metadata))


def parse_setting(text: str) -> tuple[str, Any]:
    """Return name and value of ``NAME=VALUE``; the value is read as YAML."""
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--set {text}: write NAME=VALUE, e.g. distillation.targets=genes")
    return name, yaml.safe_load(value)


def score(params: config.Params, store: CohortStore, folder: Path) -> dict[str, Any]:
    """Return metrics of all models, and paired differences."""
    results = read_results(folder)
    horizons = select_horizons(results, params.evaluation.years) if results.kind == "survival" else None
    scorer = Scorer.of(results, horizons, store.patients(), params.evaluation, params.seed)
    return {"metrics": scorer.score_models(), "differences": scorer.compare(PAIRS)}


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", required=True)
    parser.add_argument("--task", default="survival")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--as-trained", action="store_true", help="also the networks without shrinkage")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of a parameter; repeatable")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = config.load()
    if params.cohort != arguments.cohort:
        parser.error(f"params.yaml is about {params.cohort}: dml cohort use {arguments.cohort}")
    try:
        params = override(params, dict(parse_setting(text) for text in arguments.set))
    except ConfigError as error:
        parser.error(str(error))
    optimisation = params.optimisation.model_copy(update={"ensemble_size": arguments.members})
    params = params.model_copy(update={"optimisation": optimisation})
    store, out = CohortStore.of(params.cohort), arguments.out / params.cohort / arguments.task
    versions = ("as_trained", "shrunk") if arguments.as_trained else ("shrunk",)
    for index in params.folds:
        train_fold(params, arguments.task, store, index, out, versions)
    for version in versions:
        result = score(params, store, out / version)
        (out / version / "metrics.json").write_text(json.dumps(result, indent=2))
        print_result(version, result)


def print_result(version: str, result: Mapping[str, Any]) -> None:
    """Print one line a model and one a difference."""
    for model, metrics in result["metrics"].items():
        print(version, model, *(f"{name} {as_text(metrics[name])}" for name in SHOWN if name in metrics), sep=" | ")
    for model, others in result["differences"].items():
        for other, metrics in others.items():
            shown = [f"{name} {as_text(metrics[name], '+')}" for name in SHOWN if name in metrics]
            print(version, f"{model} - {other}", *shown, sep=" | ")


def as_text(entry: Mapping[str, Any], sign: str = "") -> str:
    """Return a value, or a difference, with its interval."""
    value = entry.get("value", entry.get("difference"))
    return f"{value:{sign}.3f} ({entry['ci_low']:{sign}.3f} to {entry['ci_high']:{sign}.3f})"


if __name__ == "__main__":
    main()
