"""Stage split: patient-level folds with an inner validation part, written down as a file."""

import logging
import sys
from pathlib import Path

import pandas as pd

from dml.checks.fold_expectations import check_folds, eligible_patients
from dml.cohorts.description import CohortDescription
from dml.cohorts.merge_cohorts import merge_splits
from dml.cohorts.published_splits import load_published
from dml.cohorts.splits import make_splits, split_report, write_splits
from dml.cohorts.store_files import read_patients
from dml.config import params as config
from dml.core.files import only_writer
from pipelines.stage import stage


@stage
def main() -> None:
    """Write data/<cohort>/splits.parquet."""
    params = config.load()
    folder = Path("data") / params.cohort
    with only_writer("split"):
        patients = read_patients(folder / "patients.parquet")
        splits = make_cohort_splits(params, patients, eligible_patients(folder, params.split.test_population))
        check_folds(splits, patients, params.tasks, patients.attrs["classes"])
        report = split_report(splits, patients)
        write_splits(folder / "splits.parquet", splits, report)
    for fold, part in report.items():
        shared = len(part["test_sites_also_elsewhere"])
        logging.info("fold %s: %s; %d of %d test sites elsewhere", fold, part["patients"], shared, part["test_sites"])


def make_cohort_splits(params: config.Params, patients: pd.DataFrame, eligible: set[str]) -> pd.DataFrame:
    """Return the folds of the current cohort: those of its parts, published ones, or new ones."""
    description = CohortDescription.load(params.cohort)
    if description.combines:
        return merge_splits(description, eligible, len(params.folds))
    if description.published_splits:
        published = description.raw_folder / description.published_splits
        return load_published(published, patients, eligible, params.split, params.seed, params.checks.min_matched)
    return make_splits(patients, eligible, len(params.folds), params.split, params.seed)


if __name__ == "__main__":
    sys.exit(main())
