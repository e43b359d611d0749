"""A cohort on disk: every path in one place, and the patients that were written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dml.core.errors import InputError
from dml.data.cohort_store import CohortStore
from tests.synthetic import COARSE, FINE, cohort, write_store


def test_the_patients_that_were_written_are_read(tmp_path: Path) -> None:
    data = cohort(5, absent=1)
    incomplete = replace(data.cases[1], survival=None, labels={}, covariates={}, bags={})
    data = replace(data, cases=(data.cases[0], incomplete, *data.cases[2:]))
    read = write_store(data, tmp_path / "synthetic").cohort("fake", (FINE, COARSE))
    assert (read.name, read.genes, read.unit, read.groups, read.classes) == (
        data.name, data.genes, data.unit, data.groups, data.classes,
    )  # fmt: skip
    for one, other in zip(data.cases, read.cases, strict=True):
        assert (one.patient_id, one.site, one.survival, one.labels, one.covariates) == (
            other.patient_id, other.site, other.survival, other.labels, other.covariates,
        )  # fmt: skip
        assert one.has_expression == other.has_expression
        if one.expression is not None:
            np.testing.assert_array_equal(one.expression, other.expression)
        assert one.bags.keys() == other.bags.keys()
        assert all(torch.equal(one.bags[mpp].tokens, other.bags[mpp].tokens) for mpp in one.bags)


def test_the_clinical_cohort_has_neither_features_nor_transcriptomes(tmp_path: Path) -> None:
    store = write_store(cohort(3), tmp_path / "synthetic")
    assert [case.has_slide or case.has_expression for case in store.clinical_cohort().cases] == [False] * 3
    assert [case.has_target("grade") for case in store.clinical_cohort().cases] == [True] * 3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"splits\.parquet: the file does not exist"):
        CohortStore.of("nothing", tmp_path).splits()
