"""Stain densities to colour: Beer-Lambert law with the stain vectors of each site's laboratory and scanner.

Base vectors: Ruifrok & Johnston, Quantification of histochemical staining by color deconvolution, 2001.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8, UInt16

Layer = Float[np.ndarray, "h w"]
Image = UInt8[np.ndarray, "h w 3"]
Colours = UInt8[np.ndarray, "levels_squared 3"]
HAEMATOXYLIN = np.array([0.63, 0.70, 0.33])
EOSIN = np.array([0.13, 0.93, 0.34])
BLOOD = np.array([0.16, 0.82, 0.72])
LEVELS = 256
STEP = 0.01
"""Density of one level of the lookup table: densities run from 0 to 2.55."""


@dataclass(frozen=True, slots=True)
class Stain:
    """Stain vectors, white point and stain strengths of one slide."""

    haematoxylin: Float[np.ndarray, "3"]
    eosin: Float[np.ndarray, "3"]
    white: Float[np.ndarray, "3"]
    strength: Float[np.ndarray, "2"]

    def build_colours(self) -> Colours:
        """Return the colour [LEVELS * LEVELS 3] of each pair (haematoxylin level, eosin level)."""
        level = np.arange(LEVELS) * STEP
        density = (
            self.strength[0] * level[:, None, None] * self.haematoxylin
            + self.strength[1] * level[None, :, None] * self.eosin
        )
        colours: Colours = np.rint(self.white * np.exp(-density)).astype(np.uint8).reshape(-1, 3)
        return colours

    def paint(self, haematoxylin: Layer, eosin: Layer) -> Image:
        """Return the image [h w 3] of two densities [h w]."""
        colours = self.build_colours()
        image = np.empty((*haematoxylin.shape, 3), dtype=np.uint8)
        for top in range(0, len(image), 64):
            rows = slice(top, top + 64)
            index = _quantise(haematoxylin[rows])
            index <<= 8
            index |= _quantise(eosin[rows])
            colours.take(index, axis=0, out=image[rows])
        return image


def _quantise(density: Layer) -> UInt16[np.ndarray, "h w"]:
    rounded = density / np.float32(STEP) + np.float32(0.5)
    levels: UInt16[np.ndarray, "h w"] = np.minimum(rounded, LEVELS - 1).astype(np.uint16)
    return levels


def draw_site_stain(rng: np.random.Generator) -> Stain:
    """Draw the stain of one site: hue of both stains, white point, strength."""
    return Stain(
        haematoxylin=_perturb(rng, HAEMATOXYLIN, 0.055),
        eosin=_perturb(rng, EOSIN, 0.06),
        white=rng.uniform(240, 250) + rng.uniform(-3, 3, 3),
        strength=np.array([rng.uniform(0.88, 1.15), rng.uniform(0.8, 1.25)]),
    )


def draw_slide_stain(rng: np.random.Generator, site: Stain) -> Stain:
    """Draw one slide's deviation from its site."""
    return Stain(
        haematoxylin=_perturb(rng, site.haematoxylin, 0.012),
        eosin=_perturb(rng, site.eosin, 0.015),
        white=site.white + rng.uniform(-1, 1),
        strength=site.strength * np.exp(rng.normal(0, 0.05, 2)),
    )


def _perturb(rng: np.random.Generator, vector: Float[np.ndarray, "3"], by: float) -> Float[np.ndarray, "3"]:
    perturbed = (vector + rng.normal(0, by, 3)).clip(0.02, None)
    result: Float[np.ndarray, 3] = perturbed / np.linalg.norm(perturbed)
    return result


def redden(image: Image, blood: Layer, cells: Float[np.ndarray, "t t"]) -> None:
    """Paint red blood cells of a density [h w] into an image [h w 3] in place; `cells` is a periodic texture."""
    y, x = np.nonzero(blood > 0.02)
    packed = (0.75 + 0.3 * cells[y % cells.shape[0], x % cells.shape[1]]).clip(0.25, 1.2)
    transmitted = np.exp(-(blood[y, x] * packed)[:, None] * BLOOD.astype(np.float32))
    image[y, x] = np.rint(image[y, x] * transmitted).astype(np.uint8)
