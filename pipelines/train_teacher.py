"""Stage teach: train the slide + transcriptome teacher of one task and fold."""

import sys

from dml.core.files import only_writer
from dml.tracking.fold_run import fold_run
from dml.training.train import teach
from pipelines.inputs import Job, read_inputs, save
from pipelines.stage import stage


@stage
def main() -> None:
    """Read the fold, train, write models/<cohort>/<task>/teacher/fold-<k>."""
    job = Job.from_command_line()
    with (
        only_writer(f"teach-{job.task}-{job.fold}"),
        fold_run(job.params, job.task, "teacher", job.fold) as run,
    ):
        inputs = read_inputs(job)
        trained = teach(inputs.fold, job.params, job.task)
        save(trained, inputs, job, "teacher")
        run.log_epochs(trained.history)
        run.log_artifacts(job.folder("teacher"))


if __name__ == "__main__":
    sys.exit(main())
