"""Open a whole-slide image and read any part of it at any resolution, exactly."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import openslide
from jaxtyping import UInt8
from PIL import Image

from dml.core.errors import InputError, refuse_unreadable
from dml.slides.ome_tiff import OmeTiff, can_decode, is_ome_tiff
from dml.slides.plain_image import NOTE, PlainImage, blend_on_white, is_plain_image
from dml.slides.resolution import Resolution, derive

FINER = 1.25
"""A slide may be coarser than asked by this factor; beyond it pixels are interpolated, which a cohort must allow."""
_SAME = 0.01  # a level within 1 % of the wanted resolution is taken as that resolution (and still resampled exactly)
_MARGIN = 4  # output pixels around a region so that the filter sees over its border
_BLOCK = 4096  # level pixels read at once for a thumbnail
_AGAIN = "Copy or export the slide again"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

Pixels = UInt8[np.ndarray, "h w 3"]
Handle = openslide.OpenSlide | OmeTiff | PlainImage


class Slide:
    """An open slide. Use as a context manager; open one per worker.

    Attributes
    ----------
    mpp : float
        Microns per level-0 pixel.
    resolution : Resolution
        The source of `mpp`, and what is odd about it.
    dimensions : tuple of int
        Width and height in level-0 pixels.
    notes : tuple of str
        What is odd about its resolution and its file.
    """

    def __init__(self, path: Path, handle: Handle, resolution: Resolution, upsample: bool = False) -> None:
        self.path, self.resolution, self.mpp = path, resolution, resolution.mpp
        self._handle, self._upsample = handle, upsample
        self.properties: Mapping[str, str] = dict(handle.properties)
        self.dimensions: tuple[int, int] = handle.dimensions
        # read once: after a failed read the handle gives nothing any more
        levels: tuple[tuple[int, int], ...] = tuple(handle.level_dimensions)
        self._levels = tuple(zip(handle.level_downsamples, levels, strict=True))
        self.vendor: str = self.properties.get("openslide.vendor", "unknown")
        self.notes = tuple(note for note in (*resolution.notes, self.properties.get(NOTE)) if note)

    @property
    def coarsest_downsample(self) -> float:
        """Level-0 pixels per pixel of the coarsest level."""
        return max(down for down, _ in self._levels)

    def __enter__(self) -> "Slide":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._handle.close()

    def read_tile(self, x_px: float, y_px: float, tile_px: int, mpp: float) -> Pixels:
        """Read a square tile at exactly `mpp`.

        The nearest finer pyramid level is read and resampled: by averaging where the ratio is whole, else by a
        Lanczos filter over the exact, possibly fractional, region.

        Parameters
        ----------
        x_px, y_px : float
            Top-left corner in level-0 pixels.
        tile_px : int
            Side of the tile that is returned.
        mpp : float
            Microns per pixel of the tile that is returned.

        Raises
        ------
        InputError
            If the slide is coarser than `mpp` (unless opened with `upsample`), or damaged there.
        """
        return self.read(x_px, y_px, (tile_px, tile_px), mpp)

    def read(self, x_px: float, y_px: float, size: tuple[int, int], mpp: float) -> Pixels:
        """Read a region of `size` (width, height) output pixels at exactly `mpp`; outside the slide it is white."""
        level, ratio = self._level_for(mpp)
        down = self._levels[level][0]
        left, top = _snap(x_px / down), _snap(y_px / down)
        width, height = size[0] * ratio, size[1] * ratio
        if abs(ratio - 1) < 1e-9 and left.is_integer() and top.is_integer():
            return np.asarray(self._region(level, int(left), int(top), size)[0])
        margin = math.ceil(_MARGIN * max(ratio, 1.0))
        if ratio.is_integer() and left.is_integer() and top.is_integer():
            margin = 0
        x0, y0 = math.floor(left) - margin, math.floor(top) - margin
        x1, y1 = math.ceil(left + width) + margin, math.ceil(top + height) + margin
        x0, y0, x1, y1 = self._inside(level, (x0, y0, x1, y1), (left, top, left + width, top + height))
        image, (at_x, at_y) = self._region(level, x0, y0, (x1 - x0, y1 - y0))
        if not margin:
            return np.asarray(image.reduce(int(ratio)))
        box = (left - at_x, top - at_y, left - at_x + width, top - at_y + height)
        return np.asarray(image.resize(size, Image.Resampling.LANCZOS, box=box))

    def thumbnail(self, mpp: float) -> Pixels:
        """Read the whole slide at exactly `mpp`, block by block so that memory stays bounded."""
        width, height = (max(1, round(side * self.mpp / mpp)) for side in self.dimensions)
        _, ratio = self._level_for(mpp)
        step = max(16, int(_BLOCK / ratio))
        out = np.empty((height, width, 3), np.uint8)
        for y in range(0, height, step):
            for x in range(0, width, step):
                w, h = min(step, width - x), min(step, height - y)
                out[y : y + h, x : x + w] = self.read(x * mpp / self.mpp, y * mpp / self.mpp, (w, h), mpp)
        return out

    def probe(self, mpp: float) -> None:
        """Find out cheaply whether the slide can be read at `mpp`: a few pixels from every part of every level are.

        Damage inside a compressed tile is not seen: OpenSlide then returns wrong pixels without an error.

        Raises
        ------
        InputError
            If the slide is coarser than `mpp`, or truncated.
        """
        self._level_for(mpp)
        for level, (_, (width, height)) in enumerate(self._levels):
            for x, y in _probe_corners(width, height):
                self._region(level, x, y, (min(8, width), min(8, height)))

    def is_coarser(self, mpp: float) -> bool:
        """Whether pixels of `mpp` are so much finer than the slide's that they are interpolated."""
        return mpp / self.mpp * FINER < 1

    def _level_for(self, mpp: float) -> tuple[int, float]:
        """Return the coarsest level not coarser than `mpp`, and how many of its pixels make one output pixel."""
        scale = mpp / self.mpp
        if self.is_coarser(mpp) and not self._upsample:
            raise InputError(
                self.path,
                f"its finest resolution is {self.mpp:g} microns per pixel, {mpp:g} is asked for",
                "Leave the finer value out of tiles.mpps, or leave this slide out; or allow interpolated pixels "
                "(slides.upsample: true in the cohort, --upsample of dml predict)",
            )
        downs = [down for down, _ in self._levels]
        level = max((i for i, down in enumerate(downs) if down <= scale * (1 + _SAME)), default=0)
        return level, _snap(scale / downs[level], 1e-4)

    def _inside(
        self, level: int, box: tuple[int, int, int, int], wanted: tuple[float, float, float, float]
    ) -> tuple[int, int, int, int]:
        """Shrink the margin of a box to the level's extent, but never into the wanted region."""
        width, height = self._levels[level][1]
        low = [max(box[i], min(0, math.floor(wanted[i]))) for i in (0, 1)]
        high = [min(box[i + 2], max(side, math.ceil(wanted[i + 2]))) for i, side in enumerate((width, height))]
        return low[0], low[1], high[0], high[1]

    def _region(self, level: int, x: int, y: int, size: tuple[int, int]) -> tuple[Image.Image, tuple[float, float]]:
        """Return RGB pixels of a level and the exact position, in that level's pixels, of their top-left corner."""
        down = self._levels[level][0]
        location = round(x * down), round(y * down)
        try:
            image = self._handle.read_region(location, level, size)
        except openslide.OpenSlideError as error:
            raise InputError(
                self.path,
                f"truncated or damaged: level {level} cannot be read at pixel {location} ({error})",
                _AGAIN,
            ) from None
        return blend_on_white(image), (location[0] / down, location[1] / down)


def open_slide(path: Path, mpp: float | None = None, mpp_from: str | None = None, upsample: bool = False) -> Slide:
    """Open a slide.

    Parameters
    ----------
    path : Path
        Any format that OpenSlide reads, DICOM series by one of their files, OME-TIFF, JPEG, PNG and plain TIFF.
    mpp : float or None
        Microns per pixel from the slide list, used only if the file does not say.
    mpp_from : file, objective or slide_list, optional
        The source of the resolution to trust where they contradict each other.
    upsample : bool
        Interpolate where finer pixels are asked for than the slide has, instead of refusing.

    Raises
    ------
    InputError
        If the file is missing, empty, truncated, not a slide, or of unknown or contradictory resolution.
    """
    if not path.is_file():
        problem = f"a broken link to {path.readlink()}" if path.is_symlink() else "the file does not exist"
        raise InputError(path, problem, "Correct the path in the slide list")
    if path.stat().st_size == 0:
        raise InputError(path, "the file is empty (0 bytes)", "Copy the slide again")
    with refuse_unreadable(path, _AGAIN):
        handle, properties = _open(path)
    try:
        with refuse_unreadable(path, _AGAIN):
            return Slide(path, handle, derive(properties, mpp, path, mpp_from), upsample)
    except InputError:
        handle.close()
        raise


def _open(path: Path) -> tuple[Handle, Mapping[str, str]]:
    """Open a file with the library that reads it; return its properties, too.

    OpenSlide takes an OME-TIFF for a plain one: it reads its first image, and the TIFF tags instead of the OME-XML. So
    tifffile reads it where it can decode it; else OpenSlide does, and the XML still counts. What OpenSlide does not
    know may be a plain image.
    """
    handle: Handle | None = None
    try:
        handle = openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        pass
    except (openslide.OpenSlideError, OSError, ValueError) as error:
        if not (_is_tiff(path) and is_ome_tiff(path)):
            raise InputError(path, f"truncated or damaged ({error})", _AGAIN) from None
    foreign = handle is None or handle.properties.get("openslide.vendor") == "generic-tiff"
    if foreign and _is_tiff(path) and is_ome_tiff(path):
        if handle is not None and not can_decode(path):
            return handle, {**dict(handle.properties), **_ome_properties(path)}
        if handle is not None:
            handle.close()
        handle = OmeTiff(path)
    elif handle is None and is_plain_image(path):
        handle = PlainImage(path)
    if handle is None:
        remedy = "Copy it again, or convert it to JPEG, PNG or TIFF"
        raise InputError(path, "not a slide: neither OpenSlide nor the readers of images know this format", remedy)
    return handle, dict(handle.properties)


def _ome_properties(path: Path) -> dict[str, str]:
    ome = OmeTiff(path)
    ome.close()
    return {name: value for name, value in ome.properties.items() if name != "openslide.vendor"}


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _TIFF


def _snap(value: float, tolerance: float = 1e-3) -> float:
    """Take a value within `tolerance` of a whole number as that number."""
    return float(round(value)) if abs(value - round(value)) < tolerance else float(value)


def _probe_corners(width: int, height: int) -> Iterator[tuple[int, int]]:
    for y in (0, max(0, height // 2), max(0, height - 8)):
        for x in (0, max(0, width // 2), max(0, width - 8)):
            yield x, y
