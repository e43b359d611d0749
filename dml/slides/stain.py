"""Stain normalisation and perturbation: linear maps of optical density, applied to pixels by lookup.

Normalisation: Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009.
Perturbation: Tellez et al., Whole-slide mitosis detection in H&E breast histology, IEEE TMI 2018 (arXiv 1808.05896).

The optical density of a pixel is -ln(intensity / 255), at least one level above black, so that white has none.

Shape legend: m pixels, n tiles, t side of a tile.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from dml.core.types import TileGrid
from dml.slides.grid import corners_px
from dml.slides.reader import Slide

SAMPLED_TILES, SAMPLED_SIDE = 32, 64
"""Tiles of a slide from which its stains are estimated, and pixels that are taken of a side of each."""
MIN_DENSITY = 0.15
"""Mean optical density of the three channels below which a pixel is background (Macenko's beta)."""
EXTREME = 1.0
"""Percentile of the angles, from both ends, that is a stain (Macenko's alpha); of concentrations, from above."""
MIN_STAINED = 1000
"""Stained pixels of the sample below which a slide is left as it is."""
MIN_ANGLE = np.deg2rad(10.0)
"""Angle between the two stains below which they cannot be separated; noise of grey pixels stays below."""
MIN_COLOUR = np.deg2rad(5.0)
"""Angle of the principal direction to grey below which a slide is not stained."""
REFERENCE = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
REFERENCE_MAXIMA = np.array([1.9705, 1.0308])
"""Haematoxylin and eosin of the reference slide: densities of red, green, blue; 99th percentiles of concentrations."""

_LARGEST = 25.0
"""Logarithm of a factor of `DensityMap` at most, so that products of three are finite."""
_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255.0)

Pixels = UInt8[np.ndarray, "... 3"]
Batch = UInt8[np.ndarray, "n t t 3"]
Samples = UInt8[np.ndarray, "m 3"]


class DensityMap:
    """A linear map of optical densities, ``density @ matrix + offset``, as a function of pixels.

    A factor a level and channel is looked up and multiplied, so no pixel takes a logarithm or an exponential, and the
    result does not depend on how many pixels there are at a time.
    """

    def __init__(self, matrix: Float[np.ndarray, "3 3"], offset: Float[np.ndarray, "3"] | None = None) -> None:
        logarithms = np.clip(-_DENSITY[None, :, None] * matrix[:, None, :], -_LARGEST, _LARGEST)
        white = 255.0 * np.exp(-(np.zeros(3) if offset is None else offset))
        red, green, blue = np.exp(logarithms)  # by level and output channel
        self._factors = tuple(factor.astype(np.float32) for factor in (white * red, green, blue))

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return the pixels with mapped densities; what would be brighter than white is white."""
        if pixels.ndim > 3:  # tile by tile, within the cache of a core
            return np.stack([self(tile) for tile in pixels])
        mapped, green, blue = (factor.take(pixels[..., i], axis=0) for i, factor in enumerate(self._factors))
        mapped *= green
        mapped *= blue
        rounded: Pixels = np.rint(np.minimum(mapped, 255.0, out=mapped), out=mapped).astype(np.uint8)
        return rounded


@dataclass(frozen=True, slots=True)
class SlideStains:
    """Stains of a slide.

    Attributes
    ----------
    vectors : float [2 3]
        Densities of red, green and blue of haematoxylin and of eosin, of length 1.
    maxima : float [2]
        99th percentile of the concentration of each.
    """

    vectors: Float[np.ndarray, "2 3"]
    maxima: Float[np.ndarray, "2"]

    def to_reference(self) -> DensityMap:
        """Return the map that gives the slide the stains and the strength of the reference slide.

        The part of a density outside of the plane of the two stains is left out.
        """
        scaled = (REFERENCE_MAXIMA / self.maxima)[:, None] * REFERENCE
        return DensityMap(np.linalg.pinv(self.vectors) @ scaled)


def estimate_stains(pixels: Samples) -> SlideStains | None:
    """Estimate the stains of a slide from a sample of its tissue.

    Parameters
    ----------
    pixels : uint8 [m 3]
        In any order; background is left out.

    Returns
    -------
    SlideStains or None
        None where fewer than `MIN_STAINED` pixels are stained, or in no two colours.
    """
    density = _DENSITY[pixels]
    density = density[density.mean(axis=1) >= MIN_DENSITY]
    if len(density) < MIN_STAINED:
        return None
    # einsum: a matrix product may depend on the threads of BLAS
    _, directions = np.linalg.eigh(np.einsum("mi,mj->ij", density, density))
    plane = directions[:, [2, 1]]
    plane[:, 0] *= np.sign(plane[:, 0].sum())
    along = density @ plane
    angles = np.percentile(np.arctan2(along[:, 1], along[:, 0]), [EXTREME, 100.0 - EXTREME])
    to_grey = np.arccos(np.clip(plane[:, 0].sum() / np.sqrt(3.0), -1.0, 1.0))
    if np.ptp(angles) < MIN_ANGLE or to_grey < MIN_COLOUR:
        return None
    vectors = np.clip(np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T, 0.0, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors[np.argsort(-vectors[:, 0])]  # haematoxylin absorbs more red
    maxima = np.percentile(density @ np.linalg.pinv(vectors), 100.0 - EXTREME, axis=0)
    return SlideStains(vectors, maxima) if (maxima > 0).all() else None


def sample_tiles(tiles: Batch) -> Samples:
    """Return every so many pixels of tiles, about `SAMPLED_SIDE` squared of each."""
    step = max(1, tiles.shape[1] // SAMPLED_SIDE)
    return tiles[:, ::step, ::step].reshape(-1, 3)


def evenly_spaced(count: int) -> np.ndarray:
    """Return the rows of at most `SAMPLED_TILES` of `count` tiles, evenly over their order."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLED_TILES)).round().astype(int))


def read_stains(slide: Slide, grid: TileGrid) -> SlideStains | None:
    """Estimate the stains of a slide from tiles that are spread over a grid of it; None as in `estimate_stains`."""
    corners = corners_px(grid)[evenly_spaced(len(grid.coords_px))]
    return estimate_stains(sample_tiles(np.stack([slide.read_tile(x, y, grid.tile_px, grid.mpp) for x, y in corners])))


def perturb_stains(tiles: Batch, strength: float, seed: Sequence[int]) -> Batch:
    """Change the stains of each tile at random: concentration c of haematoxylin, eosin and residual to a c + b.

    Parameters
    ----------
    tiles : uint8 [n t t 3]
        Each is changed in its own way.
    strength : float
        s: a is uniform from 1 - s to 1 + s, b from -s to s.
    seed : sequence of int
        Of the draws.
    """
    from skimage.color import hed_from_rgb, rgb_from_hed  # unmixing of Ruifrok & Johnston 2001

    rng = np.random.default_rng(seed)
    perturbed = np.empty_like(tiles)
    for i, tile in enumerate(tiles):
        factor, shift = rng.uniform(1 - strength, 1 + strength, 3), rng.uniform(-strength, strength, 3)
        perturbed[i] = DensityMap(hed_from_rgb @ np.diag(factor) @ rgb_from_hed, shift @ rgb_from_hed)(tile)
    return perturbed
