"""Stage distil: train the slide-only student of one task and fold, once from its teacher and once on its own."""

import sys

from dml.core.files import only_writer
from dml.tracking.fold_run import fold_run
from dml.training.checkpoint import FoldModel
from dml.training.train import distil
from pipelines.inputs import Inputs, Job, read_inputs, save
from pipelines.stage import stage


@stage
def main() -> None:
    """Read the fold and its teacher, train both students, write them beside the teacher."""
    job = Job.from_command_line()
    with only_writer(f"distil-{job.task}-{job.fold}"):
        inputs = read_inputs(job)
        train(job, inputs, "student", FoldModel.load(job.folder("teacher")))
        train(job, inputs, "student_undistilled", None)


def train(job: Job, inputs: Inputs, name: str, teacher: FoldModel | None) -> None:
    """Train, write and track one student."""
    with fold_run(job.params, job.task, name, job.fold) as run:
        trained = distil(inputs.fold, job.params, job.task, teacher)
        save(trained, inputs, job, name)
        run.log_epochs(trained.history)
        run.log_artifacts(job.folder(name))


if __name__ == "__main__":
    sys.exit(main())
