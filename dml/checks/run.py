"""The checks of a cohort and of its features: what is wrong stops the pipeline, with file, rows and remedy."""

from collections.abc import Sequence
from pathlib import Path

from dml.checks.cohort_expectations import cohort_counts, cohort_tables
from dml.checks.drift import Drift, compare_groups
from dml.checks.drift_report import write_drifts
from dml.checks.engine import validate
from dml.checks.feature_expectations import describe_bags, feature_tables
from dml.checks.site_expectations import AXES, cohort_sites
from dml.cohorts.description import CohortDescription
from dml.cohorts.store_files import read_patients
from dml.cohorts.stores import CohortTables, read_cohort_tables
from dml.config.params import Checks, Params, TestPopulation
from dml.core.errors import CheckFailed, listed
from dml.core.files import read_parquet


def check_cohort(
    folder: Path,
    description: CohortDescription,
    config: Checks,
    out: Path,
    tasks: Sequence[str] | None = None,
    tested: TestPopulation = "paired",
) -> None:
    """Check patients, slides, expression and gene groups of ``data/<cohort>``.

    Parameters
    ----------
    folder : Path
        The cohort's stores.
    description : CohortDescription
        The cohort they are of.
    config : Checks
        Thresholds.
    out : Path
        ``reports/<cohort>/checks``: cohort.json, cohort/summary.txt and cohort/docs/index.html are written there.
    tasks : sequence of str, optional
        What is trained: too few patients for another label are then only a warning.
    tested : paired or slide
        The patients that folds may test (`split.test_population`).

    Raises
    ------
    CheckFailed
        Lists each broken rule with file, rows and remedy; the report is written first.
    ConfigError
        If a task is not of this cohort.
    """
    cohort = read_cohort_tables(folder)
    counts = {"cohort": description.name, **cohort_counts(cohort)}
    drifts = _drifts(cohort, config.min_site_patients)
    write_drifts(out / "cohort" / "drift.csv", drifts)
    tables = cohort_tables(cohort, config, tasks, tested) + cohort_sites(drifts, config)
    validate("cohort", tables, counts, out, config.severity)


def check_features(folder: Path, params: Params, out: Path) -> None:
    """Check every feature bag of ``data/<cohort>/features`` against its manifest and the cohort's patients.

    Raises
    ------
    CheckFailed
        Lists each broken rule with files and remedy; the report ``features.json`` is written first.
    """
    encoder = params.embed.encoder
    manifest = read_parquet(folder / "features" / "manifest.parquet")[0].to_pandas()
    patients = read_patients(folder / "patients.parquet")
    bags = describe_bags(folder / "features", encoder, manifest)
    counts = {
        "cohort": params.cohort,
        "encoder": encoder,
        "slides": manifest["slide_id"].nunique(),
        "slides that failed": manifest.loc[manifest["status"] != "ok", "slide_id"].nunique(),
        "patients with features": bags["patient_id"].nunique(),
        "tokens": {f"{mpp:g}": int(rows["tokens"].dropna().sum()) for mpp, rows in bags.groupby("mpp")},
    }
    tables = feature_tables(bags, manifest, patients, folder / "features", encoder, params.checks)
    validate("features", tables, counts, out, params.checks.severity)


def check_disjoint(first: Path, second: Path) -> None:
    """Refuse two cohorts (folders ``data/<cohort>``) that share patients: one could not test a model of the other.

    Raises
    ------
    CheckFailed
        Lists the shared patients.
    """
    ids = [set(read_patients(folder / "patients.parquet")["patient_id"]) for folder in (first, second)]
    if both := sorted(ids[0] & ids[1]):
        remedy = "List them under `exclude` in one of the cohort descriptions"
        raise CheckFailed(f"{first} and {second} share {len(both)} patients: {listed(both)}. {remedy}")


def _drifts(cohort: CohortTables, min_patients: int) -> dict[str, Drift]:
    """Compare each cohort of several, and each site, with all others."""
    return {
        f"{prefix}{name}": drift
        for axis, prefix in AXES.items()
        if axis in cohort.patients
        for name, drift in compare_groups(
            axis, cohort.patients, cohort.expression, cohort.classes, min_patients
        ).items()
    }
