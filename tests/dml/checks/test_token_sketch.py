"""A sketch excludes only bags that share no tokens, and spares reading them."""

import numpy as np
import pytest

from dml.checks.bag_summaries import summarise_bag
from dml.checks.near_duplicates import TWIN_DISTANCE, near_duplicate_bags, shared_tokens
from dml.checks.token_sketch import Sketcher

WIDTH = 64


@pytest.fixture
def bags(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Bags of tissue of six kinds, and a copy of one: other order, four fifths of the tokens, other rounding."""
    kinds, axes = rng.normal(size=(6, WIDTH)), rng.normal(size=(12, WIDTH))
    made = {
        f"S{i}": kinds[rng.integers(0, 6, 150)]
        + rng.normal(size=(150, 12)) @ axes * 0.4
        + rng.normal(size=(150, WIDTH)) * 0.2
        for i in range(12)
    }
    made["S12"] = made["S3"][rng.permutation(150)[:120]] + rng.normal(size=(120, WIDTH)) * 0.002
    return {slide: tokens.astype(np.float16) for slide, tokens in made.items()}


def test_the_bound_is_never_below_the_share(bags: dict[str, np.ndarray]) -> None:
    sketcher = Sketcher.fit(bags["S0"])
    sketches = {slide: sketcher.sketch(tokens) for slide, tokens in bags.items()}
    for one, a in bags.items():
        for other, b in bags.items():
            assert sketches[one].most_shared(sketches[other], TWIN_DISTANCE) >= shared_tokens(a, b)


def test_the_same_duplicates_from_few_bags_read(bags: dict[str, np.ndarray]) -> None:
    sketcher = Sketcher.fit(bags["S0"])
    read: list[str] = []

    def tokens(slide: str) -> np.ndarray:
        read.append(slide)
        return bags[slide]

    plain = [summarise_bag(slide, f"P{slide}", each) for slide, each in bags.items()]
    expected = near_duplicate_bags(plain, tokens)
    without, read[:] = len(read), []
    sketched = [summarise_bag(slide, f"P{slide}", each, sketcher.sketch(each)) for slide, each in bags.items()]
    assert near_duplicate_bags(sketched, tokens) == expected == {"S3": "S12", "S12": "S3"}
    assert set(read) == {"S3", "S12"}
    assert without > 2 * len(bags)


def test_a_bag_of_another_width_or_too_large_for_half_precision_has_no_sketch(bags: dict[str, np.ndarray]) -> None:
    sketcher = Sketcher.fit(bags["S0"])
    assert sketcher.sketch(bags["S1"][:, :8]) is None
    assert sketcher.sketch(np.full((4, WIDTH), 6e4, np.float16)) is None
