"""Stage check_features: Great Expectations on every feature bag; a broken rule stops the pipeline."""

import logging
import sys
from pathlib import Path

from dml import config
from dml.cohorts.checks import check_features
from dml.errors import DmlError
from dml.files import only_writer


def main() -> int:
    """Check data/<cohort>/features, write reports/<cohort>/checks/features*; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        params = config.load()
        out = Path("reports") / params.cohort / "checks"
        with only_writer("check_features"):
            check_features(Path("data") / params.cohort, params, out)
    except DmlError as error:
        logging.error("%s", error)
        return error.exit_code
    logging.info((out / "features" / "summary.txt").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
