"""The tables of one cohort as stored, read together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dml.cohorts.expression import ExpressionMatrix, read_expression
from dml.cohorts.gene_groups import read_gene_groups
from dml.cohorts.patients import read_patients
from dml.cohorts.slide_table import read_slides
from dml.core.files import read_json


@dataclass(frozen=True, slots=True)
class Stores:
    """The tables of one cohort as stored."""

    patients: pd.DataFrame
    slides: pd.DataFrame
    expression: ExpressionMatrix
    groups: Mapping[str, Any]

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """Label -> classes in order."""
        classes: Mapping[str, Sequence[str]] = self.patients.attrs["classes"]
        return classes

    def paired(self) -> set[str]:
        """Patients with slide and expression."""
        return set(self.slides["patient_id"]) & set(self.expression.patient_ids)


def read_stores(folder: Path) -> Stores:
    """Read ``data/<cohort>``.

    Raises
    ------
    InputError
        If one is missing or damaged.
    """
    read_gene_groups(folder / "gene_groups.json")
    return Stores(
        read_patients(folder / "patients.parquet"),
        read_slides(folder / "slides.parquet"),
        read_expression(folder / "expression.parquet"),
        read_json(folder / "gene_groups.json"),
    )
