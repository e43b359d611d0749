"""Where on a slide the tissue is: stained, translucent, and neither ink nor glass nor scanner border."""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from skimage.color import rgb2hsv
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects

from dml.slides.reader import Slide

MASK_MPP = (4.0, 16.0)
"""Finest and coarsest resolution of a mask in microns per pixel."""
_SIDE = 2048  # pixels aimed at for the longer side of a mask
_SATURATION = (0.05, 0.12)  # Otsu's threshold is held between these: below is noise of the glass, above is stain
_BLACK = 0.2  # brightest channel of scanner borders, cover-slip edges and the dark field of fluorescence
_SMALLEST = 64  # pixels; about 0.001 mm2 at 4 microns per pixel: smaller specks are dust
_DARK_FIELD = 0.6  # share of black pixels from which a slide is taken as fluorescence when the rest is no stain


def mask_mpp(slide: Slide) -> float:
    """Return the resolution at which a slide is masked: 4 microns per pixel, coarser for very large slides."""
    longest = max(slide.dimensions) * slide.mpp
    return float(np.clip(longest / _SIDE, max(MASK_MPP[0], slide.mpp), max(MASK_MPP[1], slide.mpp)))


def tissue_mask(thumbnail: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Mark the tissue of a bright-field slide.

    The glass is made white first, then saturation is cut at Otsu's threshold (held in a range where it cannot split
    noise or stain), and ink (green, blue, black), scanner borders and dust are taken out. Out-of-focus tissue stays.
    A slide without tissue, or a fluorescence slide, gives an empty mask.

    Parameters
    ----------
    thumbnail : uint8 [h w 3]
        The whole slide at 4 to 16 microns per pixel.
    """
    if min(thumbnail.shape[:2]) < 3:
        return np.zeros(thumbnail.shape[:2], bool)
    rgb = ndimage.gaussian_filter(thumbnail.astype(np.float32) / 255.0, sigma=(1.0, 1.0, 0.0))
    black = rgb.max(axis=-1) < _BLACK
    hsv = rgb2hsv(_balanced(rgb, black))
    foreign = ndimage.binary_dilation(black | _ink(hsv), iterations=2)
    stained = (hsv[..., 1] > _threshold(hsv[..., 1][~foreign])) & ~foreign
    tissue = _cleaned(stained) & ~foreign
    if black.mean() > _DARK_FIELD and not _transmits(rgb, tissue):
        return np.zeros_like(tissue)
    return np.asarray(tissue)


def _balanced(rgb: Float[np.ndarray, "h w 3"], black: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """Divide by the colour of the glass, if there is bright and nearly grey glass; tinted lamps are made white."""
    seen = rgb[~black]
    if len(seen) == 0:
        return rgb
    glass = np.percentile(seen, 98, axis=0)
    if glass.min() < 0.7 or glass.min() / glass.max() < 0.85:
        return rgb
    return np.asarray(np.clip(rgb / glass, 0.0, 1.0))


def _ink(hsv: Float[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Mark pen strokes by hue in degrees: green 65-175, blue 175-238 (haematoxylin starts near 240); or dark grey."""
    hue, saturation, value = hsv[..., 0] * 360, hsv[..., 1], hsv[..., 2]
    green = (hue > 65) & (hue < 175) & (saturation > 0.12)
    blue = (hue >= 175) & (hue < 238) & (saturation > 0.3)
    grey = (value < 0.45) & (saturation < 0.25)
    return np.asarray(green | blue | grey)


def _threshold(saturation: Float[np.ndarray, "n"]) -> float:
    if len(saturation) == 0 or np.ptp(saturation) < 1e-6:
        return _SATURATION[1]
    return float(np.clip(threshold_otsu(saturation), *_SATURATION))  # type: ignore[no-untyped-call]


def _cleaned(stained: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    opened = ndimage.binary_opening(stained)
    kept = remove_small_objects(opened, max_size=_SMALLEST)
    return np.asarray(remove_small_holes(kept, max_size=_SMALLEST), bool)


def _transmits(rgb: Float[np.ndarray, "h w 3"], tissue: Bool[np.ndarray, "h w"]) -> bool:
    """Tell stain on a lit background from light emitted in the dark: stain lets some light of every colour through."""
    return bool(tissue.any() and np.median(rgb[tissue].min(axis=-1)) > 0.2)
