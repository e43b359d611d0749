"""Phantoms for tissue masks: painted thumbnails at 4 microns per pixel whose tissue is known exactly.

Stains absorb as by Beer-Lambert's law, with the optical densities of Ruifrok & Johnston 2001; tissue is a smooth field
of eosin with nuclei of haematoxylin. Shape legend: h, w pixels of the thumbnail; H, W microns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

UM = 4
"""Microns per pixel of a thumbnail."""
HEIGHT, WIDTH = 1200, 1600
HAEMATOXYLIN, EOSIN, DAB = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)
BLOOD, COLLAGEN_BLUE, ALCIAN_BLUE = (0.15, 0.95, 0.75), (1.0, 0.45, 0.15), (1.0, 0.35, 0.2)
WHITE, YELLOW, PINK, BLUE = (244, 243, 245), (228, 220, 190), (240, 214, 226), (214, 226, 244)
PENS = {
    "green": (20, 140, 60), "blue": (40, 90, 200), "red": (215, 55, 60), "black": (35, 35, 40),
    "brown": (150, 80, 20), "purple": (110, 30, 150),
}  # fmt: skip

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Phantom:
    """A thumbnail uint8 [h w 3] and its tissue, bool [h w]."""

    pixels: NDArray[np.uint8]
    tissue: Mask


def ellipse(x: float, y: float, a: float, b: float) -> Mask:
    """Mark an ellipse; centre and radii as shares of the width and the height."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray(((columns / WIDTH - x) / a) ** 2 + ((rows / HEIGHT - y) / b) ** 2 < 1)


WHOLE, LEFT, RIGHT = ellipse(0.5, 0.5, 0.36, 0.36), ellipse(0.27, 0.5, 0.19, 0.36), ellipse(0.73, 0.5, 0.19, 0.36)
FULL = np.ones((HEIGHT, WIDTH), bool)


def paint(
    tissue: Mask, stain: Field, glass: tuple[int, int, int] = WHITE, noise: float = 4, seed: int = 0,
    over: Callable[[Field], None] = lambda pixels: None,
) -> Phantom:  # fmt: skip
    """Render optical densities [H W 3] on glass; `over` paints what lies on the cover slip."""
    rng = np.random.default_rng(seed)
    pixels = np.array(glass, float) * np.exp(-stain)
    over(pixels)
    pixels += rng.normal(0, noise, (HEIGHT, WIDTH, 3))
    shape = (HEIGHT // UM, UM, WIDTH // UM, UM)
    averaged = np.clip(pixels, 0, 255).reshape(*shape, 3).mean(axis=(1, 3))
    return Phantom(averaged.round().astype(np.uint8), tissue.reshape(shape).mean(axis=(1, 3)) > 0.5)


def haematoxylin_eosin(tissue: Mask, strength: Field | float = 1.0, seed: int = 0) -> Field:
    """Optical densities of H&E in the marked tissue."""
    nuclei, texture = _nuclei(seed), _texture(seed)
    eosin, haematoxylin = 0.25 * texture, 0.05 * texture + 0.8 * nuclei
    return _absorb(tissue, strength, (eosin, EOSIN), (haematoxylin, HAEMATOXYLIN))


def immunohistochemistry(tissue: Mask, positive: Mask, seed: int = 0) -> Field:
    """Optical densities of DAB where it is positive, over a light counterstain."""
    nuclei, texture = _nuclei(seed), _texture(seed)
    counterstain = 0.1 * texture + 0.35 * nuclei
    return _absorb(tissue, 1.0, (counterstain, HAEMATOXYLIN), (positive * 0.6 * texture, DAB))


def single_stain(tissue: Mask, vector: tuple[float, float, float], seed: int = 0) -> Field:
    """Optical densities of one stain, for special stains and bleeding."""
    return _absorb(tissue, 1.0, (0.45 * _texture(seed) + 0.3 * _nuclei(seed), vector))


def _absorb(tissue: Mask, strength: Field | float, *stains: tuple[Field, tuple[float, float, float]]) -> Field:
    density = sum(amount[..., None] * np.array(vector) for amount, vector in stains)
    return np.asarray(density * (tissue * strength)[..., None])


@cache
def _nuclei(seed: int) -> Field:
    """Discs of 7 microns, about 1,500 per square millimetre."""
    rng = np.random.default_rng([seed, 1])
    points = rng.random((HEIGHT, WIDTH)) < 0.0015
    return np.asarray(ndimage.binary_dilation(points, iterations=3).astype(float))


@cache
def _texture(seed: int) -> Field:
    """Return a log-normal field of median 1 that varies by a third over about 40 microns."""
    field = ndimage.gaussian_filter(np.random.default_rng([seed, 2]).normal(size=(HEIGHT // 4, WIDTH // 4)), 4)
    return np.kron(np.exp(0.3 * field / field.std()), np.ones((4, 4)))


def _stroke(colour: str) -> Callable[[Field], None]:
    def over(pixels: Field) -> None:
        pixels[40:110, 100:-100] = PENS[colour]

    return over


def _border(pixels: Field) -> None:
    pixels[:, :120] = 8


def _padding(pixels: Field) -> None:
    pixels[:, -300:] = 400  # beyond white: no noise is seen


def _tissue_cases() -> dict[str, Phantom]:
    he, halves = haematoxylin_eosin, LEFT | RIGHT
    faded = np.where(np.arange(WIDTH) < WIDTH // 2, 1.0, 0.25)[None, :] * np.ones((HEIGHT, 1))
    fold = 1.0 + 1.5 * (np.abs(np.arange(WIDTH) - 800) < 25)[None, :] * np.ones((HEIGHT, 1))
    sections = np.logical_or.reduce([ellipse(0.12 + 0.19 * i, 0.5, 0.075, 0.3) for i in range(5)])
    cores = np.logical_or.reduce(
        [ellipse(0.1 + 0.16 * i, 0.2 + 0.3 * j, 0.045, 0.06) for i in range(6) for j in range(3)]
    )
    lake = ellipse(0.5, 0.5, 0.15, 0.15)[..., None]
    cases = {f"faded to {share:.2f}": paint(WHOLE, he(WHOLE, share)) for share in (1.0, 0.75, 0.5, 0.25)}
    return cases | {
        "half faded": paint(WHOLE, he(WHOLE, faded)),
        "dark and pale section": paint(halves, he(halves, np.where(LEFT, 1.6, 0.3))),
        "five sections": paint(sections, he(sections)),
        "tiny cores": paint(cores, he(cores)),
        "tiny pale cores": paint(cores, he(cores, 0.35)),
        "fold": paint(WHOLE, he(WHOLE, fold)),
        "IHC, light counterstain": paint(WHOLE, immunohistochemistry(WHOLE, ellipse(0.5, 0.5, 0.18, 0.18))),
        "IHC, negative": paint(WHOLE, immunohistochemistry(WHOLE, ~FULL)),
        "bleeding": paint(WHOLE, np.where(lake, single_stain(WHOLE, BLOOD), he(WHOLE))),
    }  # fmt: skip


def _glass_cases() -> dict[str, Phantom]:
    he, glasses = haematoxylin_eosin, {"yellow": YELLOW, "pink": PINK, "blue": BLUE}
    cases = {f"{name} glass": paint(WHOLE, he(WHOLE), glass) for name, glass in glasses.items()}
    cases |= {f"{name} ink": paint(WHOLE, he(WHOLE), over=_stroke(name)) for name in PENS}
    return cases | {
        "no glass": paint(FULL, he(FULL)),
        "pale, no glass": paint(FULL, he(FULL, 0.4)),
        "black border": paint(WHOLE & (np.arange(WIDTH) >= 120)[None, :], he(WHOLE), over=_border),
        "tinted glass, white padding": paint(LEFT, he(LEFT), YELLOW, over=_padding),
        "noisy": paint(WHOLE, he(WHOLE), noise=25),
        "empty glass": paint(~FULL, he(~FULL)),
        "empty tinted glass": paint(~FULL, he(~FULL), YELLOW),
    }


def tissue_phantoms() -> dict[str, Phantom]:
    """Return all phantoms by name."""
    return _tissue_cases() | _glass_cases()


def overlap(mask: Mask, truth: Mask) -> float:
    """Return the intersection over union; 1 if both are empty."""
    union = (mask | truth).sum()
    return float((mask & truth).sum() / union) if union else 1.0
