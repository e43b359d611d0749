"""Stage probe: what teacher and student of one task rely on, to reports/<cohort>/<task>/probes.json."""

import sys
from pathlib import Path

from dml.config import params as config
from dml.core.files import only_writer, write_json
from dml.probes.suite import probe, read_planted
from dml.tracking.run_reports import log_probes
from pipelines.inputs import read_stores
from pipelines.stage import parse_arguments, stage


@stage
def main() -> None:
    """Write the probes of a task and put their numbers on the runs of teacher and student."""
    params, task = config.load(), parse_arguments("task")["task"]
    with only_writer(f"probe-{task}"):
        run(params, task)
    log_probes(params, task, Path("reports") / params.cohort / task / "probes.json")


def run(params: config.Params, task: str) -> None:
    """Probe one task of the current cohort."""
    cohort, splits = read_stores(params)
    planted = read_planted(Path("data/raw") / params.cohort / "oracle.csv")
    models, reports = (Path(kind) / params.cohort / task for kind in ("models", "reports"))
    write_json(reports / "probes.json", probe(models, cohort, splits, params, task, planted))


if __name__ == "__main__":
    sys.exit(main())
