"""Stage distill_student: train the slide-only student of one task and fold, with its teacher and without."""

import sys

from dml.core.files import only_writer
from dml.pretraining.pretrained import read_initial
from dml.training.checkpoint import FoldModel
from dml.training.train import distill_student
from dml.training.training_result import TrainingResult
from pipelines.inputs import Job, read_inputs, train_model
from pipelines.stage import stage


@stage
def main() -> None:
    """Write models/<cohort>/<task>/student/fold-<k> and student_undistilled/fold-<k>."""
    job = Job.from_command_line()
    with only_writer(f"distill_student-{job.task}-{job.fold}"):
        inputs = read_inputs(job)
        teacher = FoldModel.load(job.folder("teacher"))
        initial = read_initial(job.params, "student", job.fold)

        def distill(teacher: FoldModel | None) -> TrainingResult:
            return distill_student(inputs.fold, job.params, job.task, teacher, initial=initial)

        train_model(job, inputs, "student", lambda: distill(teacher))
        train_model(job, inputs, "student_undistilled", lambda: distill(None))


if __name__ == "__main__":
    sys.exit(main())
