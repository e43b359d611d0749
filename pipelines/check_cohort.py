"""Stage check_cohort: Great Expectations on the tables of the current cohort; a broken rule stops the pipeline."""

import logging
import sys
from pathlib import Path

from dml import config
from dml.cohorts.checks import check_cohort
from dml.cohorts.description import CohortDescription
from dml.errors import DmlError
from dml.files import only_writer


def main() -> int:
    """Check data/<cohort>, write reports/<cohort>/checks/cohort.json and cohort/; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        params = config.load()
        description = CohortDescription.load(params.cohort)
        out = Path("reports") / params.cohort / "checks"
        with only_writer("check_cohort"):
            check_cohort(Path("data") / params.cohort, description, params.checks, out, params.tasks)
    except DmlError as error:
        logging.error("%s", error)
        return error.exit_code
    logging.info((out / "cohort" / "summary.txt").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
