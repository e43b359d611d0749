"""Stage baseline: fit every classical reference of one task on one fold's training patients, predict the others."""

import sys
from dataclasses import replace

import pandas as pd

from dml.baselines.linear.fit import BASELINES, Reference, fit_reference, learner_of
from dml.core.device import torch_threads
from dml.core.files import only_writer, write_json
from dml.core.predictions import write_predictions
from dml.core.tasks import horizon_columns
from dml.tracking.fold_run import fold_run
from dml.training.folds import select_test_patients
from dml.training.runtime import one_blas_thread
from pipelines.inputs import Inputs, Job, read_inputs
from pipelines.stage import stage


@stage
def main() -> None:
    """Read the fold, write models/<cohort>/<task>/<name>/fold-<k>/ for each reference."""
    job = Job.from_command_line()
    with only_writer(f"baseline-{job.task}-{job.fold}"):
        inputs = read_inputs(job)
        for name in BASELINES:
            with fold_run(job.params, job.task, name, job.fold) as run:
                write(job, name, reference(job, inputs, name))
                run.log_artifacts(job.folder(name))


@torch_threads(1)
@one_blas_thread()
def reference(job: Job, inputs: Inputs, name: str) -> Reference | None:
    """Fit one reference on all learning patients of the fold, and on all inner parts but one to predict that one."""
    fold, settings = inputs.fold, job.params.baselines
    horizons = horizon_columns(job.params.evaluation.years)
    learner = learner_of(job.task, fold.learning, horizons)
    test = select_test_patients(inputs.cohort, inputs.splits, job.fold)
    whole = fit_reference(name, fold.learning, {"test": test}, learner, settings)
    if whole is None:
        return None
    turns = [(fold.training(turn), {"validation": fold.validation(turn)}) for turn in range(fold.n_inner_folds)]
    crossed = [fit_reference(name, training, judged, learner, settings) for training, judged in turns]
    rows = [reference.rows for reference in [*crossed, whole] if reference is not None]
    return replace(whole, rows=pd.concat(rows, ignore_index=True))


def write(job: Job, name: str, fitted: Reference | None) -> None:
    """Write model.json and predictions.parquet; of a reference whose source no patient has, only why."""
    folder = job.folder(name)
    if fitted is None:
        reason = f"no training patient has its sources: {', '.join(BASELINES[name])}"
        write_json(folder / "model.json", {"baseline": name, "left_out": reason})
        return
    write_json(folder / "model.json", {"task": job.task, "fold": job.fold, **fitted.description})
    write_predictions(folder / "predictions.parquet", fitted.rows.assign(fold=job.fold), fitted.metadata)


if __name__ == "__main__":
    sys.exit(main())
