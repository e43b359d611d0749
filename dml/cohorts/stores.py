"""The tables of a cohort: built from raw files and made consistent with each other, written and read."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import build_expression
from dml.cohorts.gene_groups import declare_gene_groups, write_gene_groups
from dml.cohorts.patients import build_patients, write_patients
from dml.cohorts.slide_table import build_slides, write_slides
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
    """Patients, slides, expression and gene groups of one cohort; `classes` of each label in order."""

    patients: pd.DataFrame
    slides: pd.DataFrame
    expression: ExpressionMatrix
    groups: DeclaredGroups
    classes: Mapping[str, Sequence[str]]

    def paired(self) -> set[str]:
        """Return the patients with slide and expression."""
        return set(self.slides["patient_id"]) & set(self.expression.patient_ids)


def build_cohort(description: CohortDescription) -> CohortTables:
    """Read all raw tables of a cohort.

    Expression of patients who are in no table is left out (matrices often hold more samples); their slides stay,
    because slides without a patient are a fault that the cohort check reports.

    Raises
    ------
    InputError, ConfigError
        Naming file, row and remedy.
    """
    patients = build_patients(description)
    slides = build_slides(description)
    expression = build_expression(description)
    groups = declare_gene_groups(description, expression.genes)
    included = set(patients["patient_id"])
    if unknown := sorted(set(expression.patient_ids) - included):
        logger.warning("expression of patients in no table is left out: %s", listed(unknown))
    if description.keep == "with_data":
        included &= set(slides["patient_id"]) | set(expression.patient_ids)
        logger.info("%d patients with neither slide nor expression are left out", len(patients) - len(included))
    patients = patients[patients["patient_id"].isin(included)].reset_index(drop=True)
    classes = {name: label.classes for name, label in description.labels.items()}
    return CohortTables(patients, slides, expression.subset(included), groups, classes)


def write_cohort(folder: Path, description: CohortDescription, tables: CohortTables) -> None:
    """Write patients, slides and expression as Parquet and the gene groups as JSON."""
    write_patients(folder / "patients.parquet", tables.patients, tables.classes, description.name)
    write_slides(folder / "slides.parquet", tables.slides)
    write_expression(folder / "expression.parquet", tables.expression)
    write_gene_groups(folder / "gene_groups.json", tables.groups)


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
    return CohortTables(patients, slides, expression, groups, patients.attrs["classes"])
