"""Stage train_deep_baseline: train one deep baseline of one task and fold by the trainer of the teacher."""

import sys

from dml.config import params as config
from dml.core.files import only_writer
from dml.training.train import train_baseline
from pipelines.inputs import Job, read_inputs, train_model
from pipelines.stage import parse_arguments, stage


@stage
def main() -> None:
    """Write models/<cohort>/<task>/<model>/fold-<k>."""
    arguments = parse_arguments("task", "fold", "model")
    job, name = Job(config.load(), arguments["task"], int(arguments["fold"])), arguments["model"]
    with only_writer(f"train_deep_baseline-{job.task}-{job.fold}-{name}"):
        inputs = read_inputs(job)
        train_model(job, inputs, name, lambda: train_baseline(inputs.fold, job.params, job.task, name))


if __name__ == "__main__":
    sys.exit(main())
