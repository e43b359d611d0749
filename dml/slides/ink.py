"""Pen ink on a slide, told from stain by its colour: green, blue, red and black felt pens.

Shape legend: h, w pixels of a thumbnail of 4 to 16 microns per pixel.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

Pixels = Bool[np.ndarray, "h w"]
_SMOOTH = 0.08  # brightness in a stroke of red ink varies by less; a lake of red blood cells, by more
_GRAINY = 0.04  # brightness within tissue varies by more than this
_STROKE = 3  # pixels; strokes of red ink are wider than twice this


def ink_by_colour(hsv: Float[np.ndarray, "h w 3"]) -> dict[str, Pixels]:
    """Mark pen strokes on a picture whose glass is white.

    By hue in degrees: green 65-175, blue 175-238 (haematoxylin starts near 240), red 335-15 where it is strong and
    smooth (eosin is paler, red blood cells are grainy); black is dark grey. Purple, pink, orange and brown pens cannot
    be told from stain by colour.
    """
    hue, saturation, value = hsv[..., 0] * 360, hsv[..., 1], hsv[..., 2]
    strong_red = ((hue > 348) | (hue < 15)) & (saturation > 0.55)
    crimson = (hue > 335) & (saturation > 0.7)
    return {
        "green": (hue > 65) & (hue < 175) & (saturation > 0.12),
        "blue": (hue >= 175) & (hue < 238) & (saturation > 0.3),
        "red": _strokes((value > 0.5) & (strong_red | crimson), hsv),
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


def _strokes(red: Pixels, hsv: Float[np.ndarray, "h w 3"]) -> Pixels:
    """Select strokes of red ink: even in brightness, and wide."""
    inner = ndimage.binary_opening(red & (_range_of_darkest(hsv) < _SMOOTH), iterations=_STROKE)
    return np.asarray(ndimage.binary_propagation(inner, mask=red))
