"""Every number that is not finite is noticed, whatever its type and place."""

import numpy as np
import pytest

from dml.data.feature_store import is_finite


@pytest.mark.parametrize("kind", [np.float16, ">f2", np.float32, np.float64])
def test_numbers_that_are_not_finite_are_noticed(kind: str) -> None:
    values = np.zeros((5, 3), dtype=kind)
    values[0] = np.finfo(np.float16).max
    values[1] = -np.finfo(np.float16).tiny / 4
    assert is_finite(values)
    for bad in (np.nan, np.inf, -np.inf):
        for at in ((0, 0), (4, 2)):
            spoiled = values.copy()
            spoiled[at] = bad
            assert not is_finite(spoiled)
            assert not is_finite(spoiled.T)
