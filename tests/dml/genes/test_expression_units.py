from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dml.core.errors import InputError
from dml.genes.expression_units import check_unit, convert, refuse_impossible, stored_unit

LINEAR = arrays(np.float64, (3, 6), elements=st.floats(0.1, 1e5))


@given(LINEAR)
def test_tpm_of_every_patient_sums_to_a_million_whatever_the_way(fpkm: np.ndarray) -> None:
    direct = convert(fpkm, "fpkm", "log2_tpm")
    by_log = convert(convert(fpkm, "fpkm", "log2_fpkm"), "log2_fpkm", "log2_tpm")
    np.testing.assert_allclose((np.exp2(direct) - 1).sum(axis=1), 1e6, rtol=1e-6)
    np.testing.assert_allclose(by_log, direct, rtol=1e-6, atol=1e-6)


@given(LINEAR, st.floats(0.1, 100))
def test_sequencing_depth_cancels_in_counts_per_million(counts: np.ndarray, depth: float) -> None:
    np.testing.assert_allclose(
        convert(counts * depth, "counts", "log2_cpm"), convert(counts, "counts", "log2_cpm"), rtol=1e-9
    )


def test_a_patient_without_any_count_stays_zero() -> None:
    assert convert(np.zeros((1, 3)), "counts", "log2_cpm").tolist() == [[0.0, 0.0, 0.0]]


def test_what_is_stored_by_default() -> None:
    units = ["counts", "tpm", "fpkm", "fpkm_uq", "log2_tpm", "zscore"]
    stored = ["log2_cpm", "log2_tpm", "log2_fpkm", "log2_fpkm_uq", "log2_tpm", "zscore"]
    assert [stored_unit(unit) for unit in units] == stored


def test_single_extreme_zscores_are_real_but_typical_ones_are_not() -> None:
    values = np.zeros((10, 10))
    values[0, 0] = 3515
    check_unit(values, "zscore", "table")
    with pytest.raises(InputError, match=r"values around 100: this cannot be zscore"):
        check_unit(np.full((10, 10), 100.0), "zscore", "table")
    check_unit(np.zeros((0, 0)), "zscore", "table")


def matrix(unit: str) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    linear = np.exp(rng.normal(3, 2, (20, 200)))
    values = {"tpm": linear, "log2_tpm": np.log2(linear + 1), "zscore": rng.normal(size=(20, 200))}[unit]
    return pd.DataFrame(values, index=[f"P{i}" for i in range(20)], columns=[f"G{i}" for i in range(200)])


@pytest.mark.parametrize(
    ("unit", "change", "says"),
    [
        ("tpm", lambda row: np.log2(row + 1), "P7 .*: values look like logarithms"),
        ("log2_tpm", lambda row: np.log2(row + 1), "P7 .*: values look logged twice"),
        ("tpm", np.zeros_like, "P7 .*: all genes have one value"),
        ("zscore", np.zeros_like, "P7 .*: all genes have one value"),
    ],
)
def test_one_sample_of_another_unit_is_named(unit: str, change: Callable[[np.ndarray], np.ndarray], says: str) -> None:
    frame = matrix(unit)
    refuse_impossible(frame, unit, "e.csv")
    frame.loc["P7"] = change(frame.loc["P7"].to_numpy())
    with pytest.raises(InputError, match=says):
        refuse_impossible(frame, unit, "e.csv")


@pytest.mark.parametrize("value", [-99, -1000, -999.25])
def test_no_zscore_is_far_below_zero(value: float) -> None:
    frame = matrix("zscore")
    frame.loc["P3", "G5"] = value
    with pytest.raises(InputError, match="gene G5 of patient P3"):
        refuse_impossible(frame, "zscore", "e.csv")
