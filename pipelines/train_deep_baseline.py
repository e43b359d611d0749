"""Stage deep_baseline: train the deep references that baselines.deep names on one task and fold, as ours are trained.

Every baseline there is has its folder, because DVC wants a stage's outputs known beforehand: one that is not named, or
whose sources no patient has, leaves only the reason in its model.json.
"""

import sys

from dml.core.files import only_writer, write_json
from dml.models import registry
from dml.tracking.fold_run import fold_run
from dml.training.train import train_baseline
from pipelines.inputs import Inputs, Job, read_inputs, save
from pipelines.stage import stage

NOT_NAMED = "not named in baselines.deep of params.yaml"


@stage
def main() -> None:
    """Write models/<cohort>/<task>/<name>/fold-<k>/ for each deep baseline."""
    job = Job.from_command_line()
    with only_writer(f"deep_baseline-{job.task}-{job.fold}"):
        chosen = {name: registry.entry(name) for name in job.params.baselines.deep}  # an unknown name ends it here
        for name in registry.deep_names():
            if name not in chosen:
                leave_out(job, name, NOT_NAMED)
        if chosen:
            inputs = read_inputs(job)
            for name in chosen:
                train(job, inputs, name)


def train(job: Job, inputs: Inputs, name: str) -> None:
    """Train, write and track one baseline."""
    with fold_run(job.params, job.task, name, job.fold) as run:
        trained = train_baseline(inputs.fold, job.params, job.task, name)
        if trained is None:
            needs = ", ".join(registry.entry(name).requires)
            leave_out(job, name, f"no training or no validation patient has a target and its sources: {needs}")
            return
        save(trained, inputs, job, name)
        run.log_epochs(trained.history)
        run.log_artifacts(job.folder(name))


def leave_out(job: Job, name: str, reason: str) -> None:
    """Write only why there is no such model."""
    write_json(job.folder(name) / "model.json", {"baseline": name, "left_out": reason})


if __name__ == "__main__":
    sys.exit(main())
