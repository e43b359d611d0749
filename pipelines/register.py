"""Stage `register`: teacher and student of a task as versions of their registered models, each the new challenger."""

import sys
from pathlib import Path

from dml.config import params as config
from dml.core.files import only_writer, write_json
from dml.registry import registration
from dml.registry.versions import CHALLENGER
from pipelines.stage import parse_arguments, stage


def run(task: str) -> None:
    """Register and write reports/<cohort>/<task>/registered.json: what was registered, not when or as which version."""
    params = config.load()
    written = {}
    for model in registration.REGISTERED:
        version = registration.register(params, task, model)
        written[version.name] = {
            "digest": version.tags["digest"],
            "folds": len(params.folds),
            "metrics": version.metrics,
            "alias": CHALLENGER,
        }
    write_json(Path("reports") / params.cohort / task / "registered.json", written)


@stage
def main() -> None:
    """Register the models of one task."""
    task = parse_arguments("task")["task"]
    with only_writer(f"register-{task}"):
        run(task)


if __name__ == "__main__":
    sys.exit(main())
