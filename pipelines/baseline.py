"""Stage baseline: fit every classical reference of one task on one fold's training patients, predict the others."""

import sys

from dml.files import only_writer, write_json
from dml.models.baselines.classical import BASELINES, Reference, fit_reference, learner_of
from dml.predictions import horizon_days, survival_column, write_predictions
from dml.training.folds import held_out
from pipelines.learning import Inputs, Job, read_inputs
from pipelines.stage import stage


@stage
def main() -> None:
    """Read the fold, write models/<cohort>/<task>/baseline_<x>/fold-<k>/ for each reference."""
    job = Job.from_command_line()
    with only_writer(f"baseline-{job.task}-{job.fold}"):
        inputs = read_inputs(job)
        for name in BASELINES:
            write(job, name, reference(job, inputs, name))


def reference(job: Job, inputs: Inputs, name: str) -> Reference | None:
    """Fit one reference on role train only."""
    horizons = {survival_column(year): horizon_days(year) for year in job.params.evaluation.years}
    test = held_out(inputs.cohort, inputs.splits, job.fold)
    judged = {"validation": inputs.fold.validation, "test": test}
    learner = learner_of(job.task, inputs.fold.training, horizons)
    return fit_reference(name, inputs.fold.training, judged, learner, job.params.baselines)


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
