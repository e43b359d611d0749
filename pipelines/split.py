"""Stage split: patient-level folds with an inner validation part, written down as a file."""

import logging
import sys
from pathlib import Path

from dml import config
from dml.cohorts.checks import paired_patients
from dml.cohorts.description import CohortDescription
from dml.cohorts.patients import read_patients
from dml.cohorts.published import load_published
from dml.cohorts.splits import make_splits, split_report, write_splits
from dml.files import only_writer
from pipelines.stage import stage


@stage
def main() -> None:
    """Deal the patients of the current cohort, write data/<cohort>/splits.parquet."""
    params = config.load()
    description, folder = CohortDescription.load(params.cohort), Path("data") / params.cohort
    with only_writer("split"):
        patients, paired = read_patients(folder / "patients.parquet"), paired_patients(folder)
        if description.published_splits:
            published = description.raw_folder / description.published_splits
            splits = load_published(published, patients, paired, params.split, params.seed)
        else:
            splits = make_splits(patients, paired, len(params.folds), params.split, params.seed)
        report = split_report(splits, patients)
        write_splits(folder / "splits.parquet", splits, report)
    for fold, part in report.items():
        shared = len(part["test_sites_also_elsewhere"])
        logging.info("fold %s: %s; %d of %d test sites elsewhere", fold, part["patients"], shared, part["test_sites"])


if __name__ == "__main__":
    sys.exit(main())
