"""The tables of a cohort: built from raw files and made consistent with each other, written and read."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import build_expression
from dml.cohorts.gene_groups import declare_gene_groups, write_gene_groups
from dml.cohorts.patients import build_patients, write_patients
from dml.cohorts.provenance import Ledger, Record, read_provenance, write_provenance
from dml.cohorts.slide_table import build_slides, write_slides
from dml.cohorts.spot_resolution import fill_resolution
from dml.cohorts.store_files import (
    DeclaredGroups,
    ExpressionMatrix,
    read_expression,
    read_gene_groups,
    read_patients,
    read_slides,
    write_expression,
)
from dml.core.errors import listed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CohortTables:
    """Patients, slides, expression and gene groups of one cohort; `classes` of each label in order, `ledger` of all."""

    patients: pd.DataFrame
    slides: pd.DataFrame
    expression: ExpressionMatrix
    groups: DeclaredGroups
    classes: Mapping[str, Sequence[str]]
    ledger: Ledger = field(default_factory=Ledger)

    def paired(self) -> set[str]:
        """Return the patients with slide and expression."""
        return set(self.slides["patient_id"]) & set(self.expression.patient_ids)


def build_cohort(description: CohortDescription, spots: pd.DataFrame | None = None) -> CohortTables:
    """Read all raw tables of a cohort.

    Expression of patients who are in no table is left out (matrices often hold more samples); their slides stay,
    because slides without a patient are a fault that the cohort check reports. A spatial cohort without tables of
    patients has those of its slides.

    Parameters
    ----------
    description : CohortDescription
        What is read.
    spots : DataFrame, optional
        The spots of a spatial cohort (`spot_store`); slides whose resolution is from spots need them.

    Raises
    ------
    InputError, ConfigError
        Naming file, row and remedy.
    """
    ledger = Ledger()
    slides = fill_resolution(build_slides(description, ledger), description, spots)
    patients = build_patients(description, ledger, () if description.patients else slides["patient_id"])
    expression = build_expression(description, ledger)
    groups = declare_gene_groups(description, expression.genes)
    included = set(patients["patient_id"])
    _match(description, ledger, included, set(slides["patient_id"]), set(expression.patient_ids))
    if unknown := sorted(set(expression.patient_ids) - included):
        logger.warning("expression of patients in no table is left out: %s", listed(unknown))
        ledger.leave_out("expression", set(unknown), "in no table of patients")
    if description.keep == "with_data":
        absent = included - set(slides["patient_id"]) - set(expression.patient_ids)
        included -= absent
        logger.info("%d patients with neither slide nor expression are left out", len(absent))
        rule = "neither slide nor expression (keep: with_data)"
        ledger.add(Record(patient, "patient", "left out", rule=rule) for patient in sorted(absent))
    patients = patients[patients["patient_id"].isin(included)].reset_index(drop=True)
    classes = {name: label.classes for name, label in description.labels.items()}
    return CohortTables(patients, slides, expression.subset(included), groups, classes, ledger)


def _match(
    description: CohortDescription, ledger: Ledger, patients: set[str], of_slides: set[str], of_expression: set[str]
) -> None:
    """Match the patients of expression, of slides and of each table with those of the others."""
    if description.expression is not None:
        ledger.match("expression to patients", of_expression, patients)
    if description.slides is not None or description.features:
        ledger.match("slides to patients", of_slides, patients)
    for name, ids in ledger.ids.items():
        others = of_slides.union(of_expression, *(each for key, each in ledger.ids.items() if key != name))
        if others and len(ledger.ids) > 1:
            ledger.match(f"table {name} to all others", ids, others)


def write_cohort(folder: Path, description: CohortDescription, tables: CohortTables) -> None:
    """Write patients, slides, expression and their provenance as Parquet, the gene groups as JSON."""
    write_patients(folder / "patients.parquet", tables.patients, tables.classes, description.name)
    write_slides(folder / "slides.parquet", tables.slides)
    write_expression(folder / "expression.parquet", tables.expression)
    write_gene_groups(folder / "gene_groups.json", tables.groups)
    write_provenance(folder / "provenance.parquet", tables.ledger)


def read_cohort_tables(folder: Path) -> CohortTables:
    """Read ``data/<cohort>``.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    patients = read_patients(folder / "patients.parquet")
    slides = read_slides(folder / "slides.parquet")
    expression = read_expression(folder / "expression.parquet")
    groups = read_gene_groups(folder / "gene_groups.json")
    path = folder / "provenance.parquet"
    ledger = read_provenance(path) if path.exists() else Ledger()  # stores of before 0.2 have none
    return CohortTables(patients, slides, expression, groups, patients.attrs["classes"], ledger)
