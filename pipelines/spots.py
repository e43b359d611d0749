"""Stage spots: spatial expression of the current cohort becomes one row a spot and sparse counts."""

import logging
import sys
from pathlib import Path

from dml.cohorts.description import CohortDescription
from dml.cohorts.spot_store import write_spots
from dml.cohorts.spots import build_spots
from dml.config import params as config
from dml.core.files import only_writer
from pipelines.stage import stage


@stage
def main() -> None:
    """Write data/<cohort>/spots.parquet and spot_counts.parquet; without rows for a cohort without `spatial`."""
    description = CohortDescription.load(config.load().cohort)
    with only_writer("spots"):
        table = build_spots(description)
        write_spots(Path("data") / description.name, table)
    if not len(table.spots):
        logging.info("%s: not a spatial cohort", description.name)
        return
    logging.info("%d spots of %d sections, %d genes", len(table.spots), len(table.sections), len(table.genes))


if __name__ == "__main__":
    sys.exit(main())
