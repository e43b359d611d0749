"""All tables of a cohort at once, made consistent with each other."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import ExpressionMatrix, build_expression, write_expression
from dml.cohorts.gene_groups import Declared, declare_gene_groups, write_gene_groups
from dml.cohorts.patients import build_patients, write_patients
from dml.cohorts.slide_table import build_slides, write_slides
from dml.core.errors import listed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CohortTables:
    """What the cohort stage writes; `classes` of each label in order."""

    patients: pd.DataFrame
    slides: pd.DataFrame
    expression: ExpressionMatrix
    groups: Declared
    classes: Mapping[str, Sequence[str]]


def build_cohort(description: CohortDescription) -> CohortTables:
    """Read all raw tables of a cohort.

    Expression of patients whom no table knows is left out (matrices often hold more samples); their slides are kept,
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
    known = set(patients["patient_id"])
    strangers = sorted(set(expression.patient_ids) - known)
    if strangers:
        logger.warning("expression of patients in no table is left out: %s", listed(strangers))
    if description.keep == "with_data":
        known &= set(slides["patient_id"]) | set(expression.patient_ids)
        logger.info("%d patients with neither slide nor expression are left out", len(patients) - len(known))
    kept = patients[patients["patient_id"].isin(known)].reset_index(drop=True)
    classes = {name: label.classes for name, label in description.labels.items()}
    return CohortTables(kept, slides, expression.subset(known), groups, classes)


def write_cohort(folder: Path, description: CohortDescription, tables: CohortTables) -> None:
    """Write patients, slides and expression as Parquet and the gene groups as JSON."""
    write_patients(folder / "patients.parquet", tables.patients, tables.classes, description.name)
    write_slides(folder / "slides.parquet", tables.slides)
    write_expression(folder / "expression.parquet", tables.expression)
    write_gene_groups(folder / "gene_groups.json", tables.groups.groups, tables.groups)
