"""Stage check_cohort: Great Expectations on the tables of the current cohort; a broken rule stops the pipeline."""

import logging
import sys
from pathlib import Path

from dml.checks.run import check_cohort
from dml.cohorts.description import CohortDescription
from dml.config import params as config
from dml.core.files import only_writer
from pipelines.stage import stage


@stage
def main() -> None:
    """Check data/<cohort>, write reports/<cohort>/checks/cohort.json and cohort/."""
    params = config.load()
    description = CohortDescription.load(params.cohort)
    out = Path("reports") / params.cohort / "checks"
    with only_writer("check_cohort"):
        check_cohort(
            Path("data") / params.cohort, description, params.checks, out, params.tasks, params.split.test_population
        )
    logging.info((out / "cohort" / "summary.txt").read_text())


if __name__ == "__main__":
    sys.exit(main())
