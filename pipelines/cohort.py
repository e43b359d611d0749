"""Stage cohort: the raw tables of the current cohort become validated stores, one row a patient."""

import logging
import sys
from pathlib import Path

from dml import config
from dml.cohorts.building import build_cohort, write_cohort
from dml.cohorts.description import CohortDescription
from dml.errors import DmlError
from dml.files import only_writer


def main() -> int:
    """Write data/<cohort>/{patients,slides,expression}.parquet and gene_groups.json; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        description = CohortDescription.load(config.load().cohort)
        with only_writer("cohort"):
            tables = build_cohort(description)
            write_cohort(Path("data") / description.name, description, tables)
    except DmlError as error:
        logging.error("%s", error)
        return error.exit_code
    groups, expression = tables.groups.groups, tables.expression
    logging.info("%s: %d patients, %d slides", description.name, len(tables.patients), len(tables.slides))
    shape = len(expression.patient_ids), len(expression.genes), expression.unit
    logging.info("expression of %d patients, %d genes (%s)", *shape)
    logging.info("gene groups: %d tumor, %d TME", len(groups.tumor), len(groups.tme))
    return 0


if __name__ == "__main__":
    sys.exit(main())
