"""Stage train_teacher: train the slide + transcriptome teacher of one task and fold."""

import sys

from dml.core.files import only_writer
from dml.pretraining.pretrained import read_initial
from dml.training.train import train_teacher
from pipelines.inputs import Job, read_inputs, train_model
from pipelines.stage import stage


@stage
def main() -> None:
    """Write models/<cohort>/<task>/teacher/fold-<k>."""
    job = Job.from_command_line()
    with only_writer(f"train_teacher-{job.task}-{job.fold}"):
        inputs = read_inputs(job)
        initial = read_initial(job.params, "teacher", job.fold)
        train_model(job, inputs, "teacher", lambda: train_teacher(inputs.fold, job.params, job.task, initial=initial))


if __name__ == "__main__":
    sys.exit(main())
