"""Stage cohort: the raw tables of the current cohort become validated stores, one row a patient."""

import logging
import sys
from pathlib import Path

from dml.cohorts.description import CohortDescription
from dml.cohorts.merge_cohorts import merge_cohorts
from dml.cohorts.regions import build_region_cohort
from dml.cohorts.spot_store import read_spot_positions, read_spots
from dml.cohorts.stores import CohortTables, build_cohort, write_cohort
from dml.config import params as config
from dml.core.files import only_writer
from pipelines.stage import stage


@stage
def main() -> None:
    """Write data/<cohort>/{patients,slides,expression}.parquet and gene_groups.json."""
    description = CohortDescription.load(config.load().cohort)
    folder = Path("data") / description.name
    with only_writer("cohort"):
        tables = _build(description, folder)
        write_cohort(folder, description, tables)
    groups, expression = tables.groups.groups, tables.expression
    logging.info("%s: %d patients, %d slides", description.name, len(tables.patients), len(tables.slides))
    shape = len(expression.patient_ids), len(expression.genes), expression.unit
    logging.info("expression of %d patients, %d genes (%s)", *shape)
    logging.info("gene groups: %d tumor, %d TME", len(groups.tumor), len(groups.tme))


def _build(description: CohortDescription, folder: Path) -> CohortTables:
    if description.combines:
        return merge_cohorts(description)
    if description.spatial is None:
        return build_cohort(description)
    if description.spatial.regions is not None:
        return build_region_cohort(description, read_spots(folder))
    return build_cohort(description, read_spot_positions(folder)[0])


if __name__ == "__main__":
    sys.exit(main())
