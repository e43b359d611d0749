"""Stage `register`: teacher and student of a task as versions of their registered models, each the new challenger."""

import argparse
import logging
import sys
from pathlib import Path

from dml import config
from dml.errors import DmlError
from dml.files import only_writer, write_json
from dml.ops import registry


def run(task: str) -> None:
    """Register and write reports/<cohort>/<task>/registered.json: what was registered, not when or as which version."""
    params = config.load()
    written = {}
    for model in registry.MODELS:
        entry = registry.register(params, task, model)
        written[entry.name] = {
            "digest": entry.tags["digest"],
            "folds": len(params.folds),
            "metrics": entry.metrics,
            "alias": registry.CHALLENGER,
        }
    write_json(Path("reports") / params.cohort / task / "registered.json", written)


def main() -> int:
    """Run the stage from the command line; return the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    task = parser.parse_args().task
    try:
        with only_writer(f"register-{task}"):
            run(task)
    except DmlError as error:
        logging.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
