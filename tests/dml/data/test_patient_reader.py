"""The mean of a bag is computed once, for the tokens that it is of, and forgotten with them."""

import gc

import numpy as np
import pytest
import torch

from dml.core.types import Bag, Microns, Mpp
from dml.data import patient_reader
from dml.data.patient_reader import mean_token


def _bag(tokens: torch.Tensor) -> Bag:
    return Bag(tokens, None, torch.zeros(len(tokens), dtype=torch.long), Mpp(0.5), Microns(128.0), "fake")


def test_the_mean_is_that_of_float64_and_is_computed_once(rng: np.random.Generator) -> None:
    tokens = torch.from_numpy(rng.normal(3, 1, size=(5_000, 8)).astype(np.float16))
    first = mean_token(_bag(tokens))
    np.testing.assert_allclose(first, tokens.numpy().astype(np.float64).mean(axis=0), rtol=1e-13)
    assert mean_token(_bag(tokens)) is first, "of another bag with the same tokens"
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0.0


def test_equal_tokens_of_another_bag_have_a_mean_of_their_own_and_none_outlives_them() -> None:
    one, other = torch.ones(3, 2), torch.ones(3, 2)
    known = len(patient_reader._means)
    assert mean_token(_bag(one)) is not mean_token(_bag(other))
    assert len(patient_reader._means) == known + 2
    del one, other
    gc.collect()
    assert len(patient_reader._means) == known
