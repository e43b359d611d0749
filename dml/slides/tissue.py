"""The tissue of a bright-field slide: what is stained, and neither glass nor pen ink nor scanner border.

Shape legend: h, w pixels of a thumbnail of 4 to 16 microns per pixel.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from skimage.color import rgb2hsv
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_holes, remove_small_objects

from dml.slides.ink import ink_by_colour, is_textured
from dml.slides.reader import Slide

MASK_MPP = (4.0, 16.0)
"""Finest and coarsest resolution of a mask in microns per pixel."""
_SIDE = 2048  # pixels aimed at for the longer side of a mask
_STAIN = 0.12  # saturation that is stain on any slide: Otsu's threshold is held below it
_NOISE = (0.025, 0.05)  # bounds of the saturation that the noise and the tint of glass may reach
_RIM = 3  # pixels; faint stain narrower than twice this is the blurred rim of strong stain
_BLACK = 0.2  # brightest channel of scanner borders, cover-slip edges and the dark field of fluorescence
_SMALLEST = 64  # pixels; about 0.001 mm2 at 4 microns per pixel: smaller specks are dust
_SMALLEST_FAINT = 512  # pixels; about 0.008 mm2: smaller faint patches are smears, or fat within strong tissue
_DARK_FIELD = 0.6  # share of black pixels from which a slide is taken as fluorescence when the rest is no stain
_FLAT, _WINDOW = 0.005, 15  # the brightness of glass deviates by less than this in a window of so many pixels
_TINT = 0.74  # least ratio of the darkest to the brightest channel of glass under a tinted lamp
_WHITE = 0.94  # ratio of the darkest to the brightest channel above which the brightest colour is a lamp's white
BROWN = 0.02
"""Share of the tissue with brown stain from which a slide is not H&E."""
_NOTED = 0.1  # share of stained area left out from which a note says so


@dataclass(frozen=True, slots=True)
class Tissue:
    """The tissue of a slide, and what else is on the glass.

    Attributes
    ----------
    mask : bool [h w]
        Tissue.
    ink : mapping of str to float
        Colours of pen ink, and the share of the stained area that each takes.
    left_out : float
        Share of the stained area that is not in the mask: ink, dust, faint smears.
    brown : float
        Share of the tissue with brown stain (DAB of immunohistochemistry).
    special_stain : bool
        Whether most of the stain has the colour of ink but the grain of tissue, as trichrome and alcian blue have.
    """

    mask: Bool[np.ndarray, "h w"]
    ink: Mapping[str, float]
    left_out: float
    brown: float
    special_stain: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What a pathologist should look at."""
        notes = []
        if self.left_out > _NOTED:
            because = f" ({self.pens}; for a special stain set tiles.remove_ink: false)" if self.pens else ""
            notes.append(f"{self.left_out:.0%} of the stained area was left out{because}")
        if self.brown > BROWN:
            notes.append(f"brown stain on {self.brown:.0%} of the tissue: immunohistochemistry, not H&E?")
        return tuple(notes)

    @property
    def pens(self) -> str:
        """The colours of ink with their shares of the stained area, for messages."""
        return " and ".join(f"{share:.0%} as {colour} pen ink" for colour, share in self.ink.items() if share > 0.01)


def mask_mpp(slide: Slide) -> float:
    """Return the resolution at which a slide is masked: 4 microns per pixel, coarser for very large slides."""
    longest = max(slide.dimensions) * slide.mpp
    return float(np.clip(longest / _SIDE, max(MASK_MPP[0], slide.mpp), max(MASK_MPP[1], slide.mpp)))


def find_tissue(thumbnail: UInt8[np.ndarray, "h w 3"], remove_ink: bool = True) -> Tissue:
    """Mark the tissue of a bright-field slide.

    The glass is made white first. Strong stain is saturation above Otsu's threshold, held in a range where it cannot
    split noise or stain. Faint stain (a pale section beside a dark one, a light counterstain) is saturation above the
    noise of the glass, where it is wider than the blurred rim of strong stain; so strong stain cannot raise the
    threshold of the rest. Ink, scanner borders and dust are taken out. Out-of-focus tissue stays. A slide without
    tissue, or a fluorescence slide, gives an empty mask.

    Parameters
    ----------
    thumbnail : uint8 [h w 3]
        The whole slide at 4 to 16 microns per pixel.
    remove_ink : bool
        Whether green, blue, red and black pen strokes are taken out; trichrome and alcian blue look like them.
    """
    if min(thumbnail.shape[:2]) < 3:
        return Tissue(np.zeros(thumbnail.shape[:2], bool), {}, 0.0, 0.0)
    rgb = ndimage.gaussian_filter(thumbnail.astype(np.float32) / 255.0, sigma=(1.0, 1.0, 0.0))
    black = rgb.max(axis=-1) < _BLACK
    white, flat = _estimate_white(rgb, black)
    hsv = rgb2hsv(np.clip(rgb / white, 0.0, 1.0))
    ink = ink_by_colour(hsv) if remove_ink else {}
    foreign = ndimage.binary_dilation(np.logical_or.reduce([black, *ink.values()]), iterations=2)
    saturation = hsv[..., 1]
    noise = _glass_noise(saturation[flat & ~foreign])
    stained = (saturation > _stain_threshold(saturation[~foreign], noise)) & ~foreign
    faint = (saturation > noise) & ~foreign
    strong = _clean(stained, _SMALLEST) & ~foreign
    apart = faint & ~ndimage.binary_dilation(_open_mask(strong), iterations=_RIM)
    wide = _drop_flat(_clean(_open_mask(apart), _SMALLEST_FAINT) & faint, flat)
    mask = strong | ndimage.binary_dilation(wide, iterations=3 * _RIM, mask=faint)
    if black.mean() > _DARK_FIELD and not _transmits(rgb, mask):
        mask = np.zeros_like(mask)
    return _describe(mask, faint, {colour: pixels & ~black for colour, pixels in ink.items()}, hsv)


def _estimate_white(rgb: Float[np.ndarray, "h w 3"], black: Bool[np.ndarray, "h w"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the colour of the glass, and where the picture is bright and flat as only glass is.

    A lamp may be tinted, so glass may have any even colour. A picture without a flat area shows no glass: its white is
    its brightest colour if that is nearly grey, else that of the display.
    """
    grey = rgb.mean(axis=-1, dtype=np.float64)
    variance = ndimage.uniform_filter(grey**2, _WINDOW) - ndimage.uniform_filter(grey, _WINDOW) ** 2
    padding = rgb.min(axis=-1) > 254.5 / 255  # not captured, filled with white
    flat = (variance < _FLAT**2) & (rgb.min(axis=-1) > _TINT * rgb.max(axis=-1)) & (rgb.max(axis=-1) > 0.6) & ~padding
    if flat.sum() > max(_SMALLEST, 0.001 * flat.size):
        return np.percentile(rgb[flat], 98, axis=0), flat
    bright = rgb[~black]
    brightest = np.percentile(bright, 98, axis=0) if len(bright) else np.ones(3)
    near_white = brightest.min() > 0.7 and brightest.min() / brightest.max() > _WHITE
    return (brightest if near_white else np.ones(3)), flat


def _stain_threshold(saturation: Float[np.ndarray, "n"], noise: float) -> float:
    if len(saturation) == 0 or np.ptp(saturation) < 1e-6:
        return _STAIN
    return float(np.clip(threshold_otsu(saturation), noise, _STAIN))  # type: ignore[no-untyped-call]


def _drop_flat(patches: Bool[np.ndarray, "h w"], flat: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Drop patches that are mostly flat: unevenly tinted glass, not tissue."""
    labels, count = ndimage.label(patches)
    share = np.concatenate([[1.0], ndimage.mean(flat, labels, np.arange(1, count + 1))])
    return np.asarray((share < 0.5)[labels])


def _glass_noise(glass: Float[np.ndarray, "n"]) -> float:
    """Return the saturation above the noise of the glass."""
    return float(np.clip(2 * np.percentile(glass, 90), *_NOISE)) if len(glass) else _NOISE[1]


def _open_mask(pixels: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    return np.asarray(ndimage.binary_opening(pixels, iterations=_RIM))


def _clean(stained: Bool[np.ndarray, "h w"], smallest: int) -> Bool[np.ndarray, "h w"]:
    opened = ndimage.binary_opening(stained)
    large = remove_small_objects(opened, max_size=smallest)
    return np.asarray(remove_small_holes(large, max_size=_SMALLEST), bool)


def _transmits(rgb: Float[np.ndarray, "h w 3"], tissue: Bool[np.ndarray, "h w"]) -> bool:
    """Tell stain on a lit background from light emitted in the dark: stain lets some light of every colour through."""
    return bool(tissue.any() and np.median(rgb[tissue].min(axis=-1)) > 0.2)


def _describe(
    mask: Bool[np.ndarray, "h w"], faint: Bool[np.ndarray, "h w"], ink: Mapping[str, np.ndarray], hsv: np.ndarray
) -> Tissue:
    """Measure what of the stained area is not in the mask, and of what colour it is."""
    left_out = np.logical_or.reduce([_open_mask(faint & ~mask), *ink.values()]) & ~mask
    area = max(int((mask | left_out).sum()), 1)
    shares = {colour: float((pixels & left_out).sum() / area) for colour, pixels in ink.items() if pixels.any()}
    hue, saturation = hsv[..., 0] * 360, hsv[..., 1]
    brown = (hue > 12) & (hue < 45) & (saturation > 0.3) & mask
    special = sum(shares.values()) > 0.5 and is_textured(ink, hsv)
    brown_share = float(brown.sum() / max(int(mask.sum()), 1))
    return Tissue(mask, shares, float(left_out.sum() / area), brown_share, special)
