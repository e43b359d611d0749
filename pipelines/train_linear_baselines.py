"""Stage train_linear_baselines: fit every linear baseline of one task on one fold, predict the other patients."""

import sys
from dataclasses import replace

import pandas as pd

from dml.baselines.linear.fit import BaselineResult, fit_baseline
from dml.baselines.linear.regression import make_regression
from dml.core.device import torch_threads
from dml.core.files import only_writer, write_json
from dml.core.predictions import write_predictions
from dml.models import registry
from dml.tracking.fold_run import fold_run
from dml.training.folds import select_test_patients
from dml.training.runtime import one_blas_thread
from pipelines.inputs import Inputs, Job, read_inputs
from pipelines.stage import stage


@stage
def main() -> None:
    """Read the fold, write models/<cohort>/<task>/<name>/fold-<k>/ for each baseline."""
    job = Job.from_command_line()
    with only_writer(f"train_linear_baselines-{job.task}-{job.fold}"):
        inputs = read_inputs(job)
        for name in registry.linear_names():
            with fold_run(job.params, job.task, name, job.fold) as run:
                write(job, name, fit(job, inputs, name))
                run.log_artifacts(job.folder(name))


@torch_threads(1)
@one_blas_thread()
def fit(job: Job, inputs: Inputs, name: str) -> BaselineResult | None:
    """Fit one baseline on all training patients of the fold, and on all inner folds but one to predict that one."""
    fold, settings = inputs.fold, job.params.baselines
    regression = make_regression(job.task, fold.learning.classes, job.params.evaluation.years)
    test = select_test_patients(inputs.cohort, inputs.splits, job.fold)
    whole = fit_baseline(name, fold.learning, {"test": test}, regression, settings)
    if whole is None:
        return None
    inner = [
        fit_baseline(name, fold.training(i), {"validation": fold.validation(i)}, regression, settings)
        for i in range(fold.n_inner_folds)
    ]
    rows = [result.rows for result in [*inner, whole] if result is not None]
    return replace(whole, rows=pd.concat(rows, ignore_index=True))


def write(job: Job, name: str, result: BaselineResult | None) -> None:
    """Write model.json and predictions.parquet; of a baseline whose inputs no patient has, only why."""
    folder = job.folder(name)
    if result is None:
        reason = f"no training patient has its inputs: {', '.join(registry.entry(name).inputs)}"
        write_json(folder / "model.json", {"name": name, "left_out": reason})
        return
    write_json(folder / "model.json", {"task": job.task, "fold": job.fold, **result.description})
    write_predictions(folder / "predictions.parquet", result.rows.assign(fold=job.fold), result.metadata)


if __name__ == "__main__":
    sys.exit(main())
