"""Whom folds may test, and that there are enough of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dml.checks.fold_expectations import eligible_patients
from dml.checks.run import check_cohort
from dml.cohorts.description import CohortDescription
from dml.cohorts.slide_table import write_slides
from dml.cohorts.store_files import ExpressionMatrix, read_expression, read_slides, write_expression
from dml.config.params import Checks
from dml.core.errors import CheckFailed
from dml.core.files import write_parquet

ABSENT = ExpressionMatrix((), (), np.zeros((0, 0), np.float32), "absent", "")


def test_a_slide_that_worked_and_expression_if_anybody_has_it(built: CohortDescription, tmp_path: Path) -> None:
    rows = [("P00-S1", "P00", "failed"), ("P00-S2", "P00", "ok"), ("P01-S1", "P01", "failed"), ("P23-S1", "P23", "ok")]
    manifest = pa.Table.from_pandas(pd.DataFrame(rows, columns=["slide_id", "patient_id", "status"]))
    write_parquet(tmp_path / "data/features/manifest.parquet", manifest)
    assert eligible_patients(tmp_path / "data", "paired") == {"P00"}
    assert eligible_patients(tmp_path / "data", "slide") == {"P00", "P23"}
    write_expression(tmp_path / "data/expression.parquet", ABSENT)
    assert eligible_patients(tmp_path / "data", "paired") == {"P00", "P23"}


def test_few_transcriptomes_are_enough_where_slides_alone_are_tested(built: CohortDescription, tmp_path: Path) -> None:
    data, out, survival = tmp_path / "data", tmp_path / "out", ("survival",)
    matrix = read_expression(data / "expression.parquet").subset({"P00", "P01", "P02"})
    write_expression(data / "expression.parquet", matrix)
    few = r"quantity patients with slide and expression \(split\.test_population: slide asks .*\), count 3, needed 20"
    with pytest.raises(CheckFailed, match=few):
        check_cohort(data, built, Checks(), out, survival)
    check_cohort(data, built, Checks(), out, survival, "slide")
    write_slides(data / "slides.parquet", read_slides(data / "slides.parquet")[:12])
    with pytest.raises(CheckFailed, match="quantity patients with slide, count 11, needed 20"):
        check_cohort(data, built, Checks(), out, survival, "slide")
