"""Stage check_spots: spots of the current cohort against the tissue of its slides; a broken rule stops the pipeline."""

import logging
import sys
from pathlib import Path

from dml.checks.spot_expectations import check_spots
from dml.config import params as config
from dml.core.files import only_writer
from pipelines.stage import stage


@stage
def main() -> None:
    """Check data/<cohort>, write reports/<cohort>/checks/spots.json and spots/."""
    params = config.load()
    out = Path("reports") / params.cohort / "checks"
    with only_writer("check_spots"):
        check_spots(Path("data") / params.cohort, params.cohort, params.checks, out, params.tiles.remove_ink)
    logging.info((out / "spots" / "summary.txt").read_text())


if __name__ == "__main__":
    sys.exit(main())
