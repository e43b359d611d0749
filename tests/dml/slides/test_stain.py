"""Stains: planted vectors are found, two renderings of one tissue become one, and nothing fails without stain."""

import numpy as np
import pytest
from jaxtyping import Float, UInt8

from dml.slides.stain import (
    MIN_STAINED,
    REFERENCE,
    REFERENCE_MAXIMA,
    DensityMap,
    SlideStains,
    estimate_stains,
    evenly_spaced,
    perturb_stains,
    sample_tiles,
)

VIOLET = np.array([[0.65, 0.70, 0.29], [0.07, 0.95, 0.30]])
BLUE = np.array([[0.75, 0.60, 0.28], [0.25, 0.85, 0.46]])
SIDE = 128


def unit(vectors: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def concentrations(seed: int = 0) -> Float[np.ndarray, "t t 2"]:
    """Nuclei of haematoxylin alone, stroma of eosin alone, mixtures between, and a border of glass."""
    rng = np.random.default_rng(seed)
    share = rng.beta(0.3, 0.3, (SIDE, SIDE))
    amount = rng.uniform(0.3, 1.2, (SIDE, SIDE))
    amount[:8] = 0.0
    return np.stack([share * amount, (1 - share) * amount], axis=-1)


def render(
    vectors: Float[np.ndarray, "2 3"], strength: tuple[float, float] = (1.0, 1.0), seed: int = 0
) -> UInt8[np.ndarray, "t t 3"]:
    density = (concentrations(seed) * np.array(strength)) @ unit(vectors)
    return np.rint(255 * np.exp(-density)).astype(np.uint8)


def normalised(image: UInt8[np.ndarray, "t t 3"]) -> UInt8[np.ndarray, "t t 3"]:
    stains = estimate_stains(image.reshape(-1, 3))
    assert stains is not None
    return stains.to_reference()(image)


def degrees(one: Float[np.ndarray, "2 3"], other: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2"]:
    return np.rad2deg(np.arccos(np.clip((unit(one) * unit(other)).sum(axis=1), -1, 1)))


@pytest.mark.parametrize("vectors", [VIOLET, BLUE])
def test_planted_vectors_and_maxima_are_found(vectors: Float[np.ndarray, "2 3"]) -> None:
    stains = estimate_stains(render(vectors, (1.4, 0.8)).reshape(-1, 3))
    assert stains is not None
    assert (degrees(stains.vectors, vectors) < 1.5).all()
    amounts = concentrations()[8:].reshape(-1, 2) * (1.4, 0.8)
    assert stains.maxima == pytest.approx(np.percentile(amounts, 99, axis=0), rel=0.05)


def test_two_renderings_of_one_tissue_become_nearly_the_same() -> None:
    one, other = render(VIOLET, (1.0, 1.2)), render(BLUE, (1.6, 0.7))
    before = np.abs(one.astype(float) - other)[8:].mean()
    after = np.abs(normalised(one).astype(float) - normalised(other))[8:].mean()
    assert before > 20
    assert after < 2


def test_the_result_has_the_stains_of_the_reference() -> None:
    again = estimate_stains(normalised(render(BLUE)).reshape(-1, 3))
    assert again is not None
    assert (degrees(again.vectors, REFERENCE) < 1.5).all()
    assert again.maxima == pytest.approx(REFERENCE_MAXIMA, rel=0.05)


def test_white_stays_white() -> None:
    image = render(BLUE)
    assert (image[:8] == 255).all()
    assert (normalised(image)[:8] == 255).all()


def test_every_order_of_the_pixels_gives_the_same_stains_and_the_same_order_the_same_bits() -> None:
    pixels = render(VIOLET).reshape(-1, 3)
    first, again = estimate_stains(pixels), estimate_stains(pixels.copy())
    mixed = estimate_stains(np.random.default_rng(1).permutation(pixels))
    assert first is not None
    assert again is not None
    assert mixed is not None
    assert first.vectors.tobytes() == again.vectors.tobytes()
    assert mixed.vectors == pytest.approx(first.vectors, abs=1e-9)
    assert mixed.maxima == pytest.approx(first.maxima, abs=1e-9)


def test_a_tile_is_mapped_alike_alone_and_among_others() -> None:
    tiles = np.stack([render(VIOLET, seed=seed) for seed in range(3)])
    stains = estimate_stains(sample_tiles(tiles))
    assert stains is not None
    mapping = stains.to_reference()
    assert mapping(tiles).tobytes() == np.stack([mapping(tile) for tile in tiles]).tobytes()
    assert (mapping(tiles)[1, 40:50] == mapping(tiles[1, 40:50])).all()


@pytest.mark.parametrize("noise", [0, 3])
def test_a_grey_slide_has_no_stains(noise: int) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(60, 200, (SIDE * SIDE, 1)) + rng.integers(-noise, noise + 1, (SIDE * SIDE, 3))
    assert estimate_stains(grey.astype(np.uint8)) is None


def test_an_unstained_or_hardly_stained_slide_has_no_stains() -> None:
    assert estimate_stains(np.full((SIDE * SIDE, 3), 240, np.uint8)) is None
    assert estimate_stains(np.zeros((SIDE * SIDE, 3), np.uint8)) is None
    few = render(VIOLET)[8:].reshape(-1, 3)[: MIN_STAINED - 1]
    assert estimate_stains(few) is None
    assert estimate_stains(np.zeros((0, 3), np.uint8)) is None


def test_a_slide_of_one_stain_has_no_stains() -> None:
    amount = np.random.default_rng(0).uniform(0.3, 1.5, (SIDE * SIDE, 1))
    assert estimate_stains(np.rint(255 * np.exp(-amount * unit(VIOLET)[:1])).astype(np.uint8)) is None


def test_densities_are_mapped_as_by_logarithm_and_exponential() -> None:
    pixels = render(VIOLET)
    matrix, offset = np.array([[1.1, 0.2, -0.1], [-0.3, 0.9, 0.1], [0.0, 0.1, 1.0]]), np.array([0.1, 0.0, -0.2])
    density = -np.log(np.maximum(pixels, 1) / 255)
    expected = np.minimum(255 * np.exp(-(density @ matrix + offset)), 255)
    assert np.abs(DensityMap(matrix, offset)(pixels) - expected).max() <= 0.51


def test_stains_that_nearly_coincide_give_finite_pixels() -> None:
    close = SlideStains(unit(np.array([[0.6, 0.7, 0.3], [0.59, 0.7, 0.3]])), np.array([1e-3, 1e-3]))
    every = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3, indexing="ij"), axis=-1).astype(np.uint8)
    with np.errstate(all="raise", under="ignore"):
        assert close.to_reference()(every).shape == every.shape


def test_tiles_are_perturbed_each_in_its_own_way_and_by_the_seed() -> None:
    tiles = np.stack([render(VIOLET)] * 3)
    changed = perturb_stains(tiles, 0.2, [1, 2])
    assert (changed == perturb_stains(tiles, 0.2, [1, 2])).all()
    assert (changed[0] != changed[1]).mean() > 0.5
    assert (changed != perturb_stains(tiles, 0.2, [1, 3])).mean() > 0.5
    shifts = [np.abs(perturb_stains(tiles, s, [1]).astype(float) - tiles).mean() for s in (0.0, 0.05, 0.2)]
    assert shifts[0] < 0.01
    assert shifts[0] < shifts[1] < shifts[2] < 60


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (5, 5), (32, 32), (1000, 32)])
def test_a_sample_is_spread_from_the_first_tile_to_the_last(count: int, rows: int) -> None:
    chosen = evenly_spaced(count)
    assert len(chosen) == rows
    assert chosen[0] == 0
    assert chosen[-1] == count - 1
    assert sample_tiles(np.zeros((2, 256, 256, 3), np.uint8)).shape == (2 * 64 * 64, 3)
