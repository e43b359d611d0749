"""Pen ink on a slide, distinguished from stain by its colour and by how even a stroke is: felt pens of any colour.

Shape legend: h, w pixels of a thumbnail of 4 to 16 microns per pixel.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

Pixels = Bool[np.ndarray, "h w"]
_SMOOTH = 0.08  # brightness in a stroke of red ink varies by less; a lake of red blood cells, by more
_GRAINY = 0.04  # brightness within tissue varies by more than this
_STROKE = 3  # pixels; strokes are wider than twice this
_RIM = 6  # pixels; the uneven rim of a stroke is narrower
_SEEDED = 0.2  # share of a patch that is surely ink, from which all of it is


def ink_by_colour(hsv: Float[np.ndarray, "h w 3"]) -> dict[str, Pixels]:
    """Mark pen strokes on a picture whose glass is white.

    By hue in degrees: green 65-175; blue 175-224, and to 238 where it is even or in one stroke with such blue (some
    haematoxylin is as blue, and grainy); red 335-15 where it is strong and even (eosin is paler, red blood cells are
    grainy); brown, orange and yellow 15-65, purple and pink 238-340 where they are strong and even (brown stain of
    immunohistochemistry is grainy, haematoxylin and eosin are paler and grainy); black is dark grey. A pale purple or
    pink stroke is taken for stain.
    """
    hue, saturation, value = hsv[..., 0] * 360, hsv[..., 1], hsv[..., 2]
    strong_red = ((hue > 348) | (hue < 15)) & (saturation > 0.55)
    crimson = (hue > 335) & (saturation > 0.7)
    red = (value > 0.5) & (strong_red | crimson)
    blue = (hue >= 175) & (hue < 238) & (saturation > 0.3)
    pure_blue = blue & (hue < 224)
    brown = (hue >= 15) & (hue < 65) & (saturation > np.where(hue < 40, 0.8, 0.6))
    purple = (hue >= 238) & (hue < 340) & (saturation > 0.68)
    return {
        "green": (hue > 65) & (hue < 175) & (saturation > 0.12),
        "blue": pure_blue | _grow(ndimage.binary_opening(pure_blue) | _even(blue, hsv, _SMOOTH), blue),
        "red": _grow(_even(red, hsv, _SMOOTH), red),
        "brown": _grow(_even(brown, hsv, _GRAINY), brown),
        "purple": _grow(_even(purple, hsv, _GRAINY), purple),
        "black": (value < 0.45) & (saturation < 0.25),
    }


def is_textured(ink: Mapping[str, Pixels], hsv: Float[np.ndarray, "h w 3"]) -> bool:
    """Whether most of what has the colour of ink is grainy, as stained tissue is and a stroke is not."""
    inner = ndimage.binary_erosion(np.logical_or.reduce(list(ink.values())), iterations=2)
    return bool(inner.any() and np.median(_range_of_darkest(hsv)[inner]) > _GRAINY)


def _range_of_darkest(hsv: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """Return by how much the darkest channel varies around each pixel."""
    darkest = hsv[..., 2] * (1 - hsv[..., 1])
    return np.asarray(ndimage.maximum_filter(darkest, 5) - ndimage.minimum_filter(darkest, 5))


def _even(coloured: Pixels, hsv: Float[np.ndarray, "h w 3"], uneven: float) -> Pixels:
    """Select the inside of strokes: wide, and their brightness varies by less than `uneven`."""
    return np.asarray(ndimage.binary_opening(coloured & (_range_of_darkest(hsv) < uneven), iterations=_STROKE))


def _grow(seeds: Pixels, coloured: Pixels) -> Pixels:
    """Add what is near a seed, and all of a patch that has many: a stroke's rim, and where it crosses tissue."""
    labels, count = ndimage.label(coloured)
    share = np.concatenate([[0.0], ndimage.mean(seeds, labels, np.arange(1, count + 1))])
    return np.asarray(ndimage.binary_dilation(seeds, iterations=_RIM, mask=coloured) | (share > _SEEDED)[labels])
