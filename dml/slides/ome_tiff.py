"""OME-TIFF that OpenSlide does not read, by tifffile: RGB, tiled or in strips, with or without a pyramid.

`OmeTiff` answers as an OpenSlide handle does, as far as `dml.slides.reader` asks. Microscopes write RGB either
interleaved (axes YXS) or as three planes (CYX); everything else, fluorescence above all, is refused by name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.core.errors import InputError

_MICRONS = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3}
_UNREADABLE = (ValueError, IndexError, KeyError, OSError, RuntimeError)


class OmeTiff:
    """An open OME-TIFF. Not shared between threads.

    Attributes
    ----------
    properties : mapping of str
        ``openslide.mpp-x``, ``-y``, ``openslide.objective-power`` as far as the file says, and ``openslide.vendor``.
    level_dimensions, level_downsamples
        As of OpenSlide, from the finest level.
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        self.path = path
        try:
            self._file = tifffile.TiffFile(path)
            series = self._file.series[0]
        except (*_UNREADABLE, tifffile.TiffFileError) as error:
            raise InputError(path, f"truncated or damaged ({error})", "Copy or export the slide again") from None
        try:
            self._planar = _layout(path, series)
        except InputError:
            self._file.close()
            raise
        self._levels: Sequence[Any] = series.levels
        sizes = [dict(zip(level.axes, level.shape, strict=True)) for level in self._levels]
        self.level_dimensions = tuple((size["X"], size["Y"]) for size in sizes)
        self.dimensions = self.level_dimensions[0]
        self.level_downsamples = tuple(self.dimensions[0] / width for width, _ in self.level_dimensions)
        self.properties: Mapping[str, str] = {"openslide.vendor": "ome-tiff", **_facts(self._file.ome_metadata)}

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """Return RGBA pixels of a level; `location` is in pixels of the finest level, outside is transparent.

        Raises
        ------
        InputError
            If the region cannot be decoded.
        """
        down = self.level_downsamples[level]
        left, top = round(location[0] / down), round(location[1] / down)
        canvas = np.zeros((size[1], size[0], 4), np.uint8)
        pages = self._levels[level].pages
        try:
            for channel, page in enumerate(pages[:3] if self._planar else pages[:1]):
                where = slice(channel, channel + 1) if self._planar else slice(0, 3)
                _paste(canvas, page, left, top, where)
        except _UNREADABLE as error:
            found = f"truncated or damaged: level {level} cannot be read at pixel {location} ({error})"
            remedy = "Copy or export the slide again; for JPEG, JPEG 2000 or LZW install imagecodecs"
            raise InputError(self.path, found, remedy) from None
        return Image.fromarray(canvas)


def is_ome_tiff(path: Path) -> bool:
    """Whether tifffile takes the file for an OME-TIFF."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return bool(file.is_ome)
    except (*_UNREADABLE, tifffile.TiffFileError):
        return False


def _paste(canvas: NDArray[np.uint8], page: Any, left: int, top: int, channels: slice) -> None:
    """Decode the tiles or strips of a page that a region touches, and lay them in."""
    page = page.aspage()  # tifffile lists planes after the first in brief
    height, width = canvas.shape[:2]
    high, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    across = -(-page.imagewidth // wide)
    rows = range(max(0, top) // high, -(-min(top + height, page.imagelength) // high))
    columns = range(max(0, left) // wide, -(-min(left + width, page.imagewidth) // wide))
    indices = [row * across + column for row in rows for column in columns]
    offsets, counts = ([values[i] for i in indices] for values in (page.dataoffsets, page.databytecounts))
    for data, index in page.parent.filehandle.read_segments(offsets, counts, indices):
        if len(data or b"") < page.databytecounts[index]:
            raise ValueError(f"the file ends within tile {index}")
        pixels = page.decode(data, index, jpegtables=page.jpegtables)[0]
        y, x = (index // across) * high - top, (index % across) * wide - left
        _lay(canvas, pixels[0, : page.imagelength - (y + top), : page.imagewidth - (x + left)], x, y, channels)


def _lay(canvas: NDArray[np.uint8], pixels: NDArray[np.uint8], x: int, y: int, channels: slice) -> None:
    """Copy the part of `pixels` [h w c] at (x, y) that is inside the canvas, and make it opaque."""
    y0, x0 = max(0, y), max(0, x)
    y1, x1 = min(canvas.shape[0], y + pixels.shape[0]), min(canvas.shape[1], x + pixels.shape[1])
    if y1 > y0 and x1 > x0:
        canvas[y0:y1, x0:x1, channels] = pixels[y0 - y : y1 - y, x0 - x : x1 - x, : channels.stop - channels.start]
        canvas[y0:y1, x0:x1, 3] = 255


def _layout(path: Path, series: Any) -> bool:
    """Return whether the colours are planes; refuse what is not one RGB image of 8 bits."""
    sizes = dict(zip(series.axes, series.shape, strict=True))
    colours = sizes.get("S", 1) * sizes.get("C", 1)
    others = {axis: n for axis, n in sizes.items() if axis not in "YXSC" and n > 1}
    if series.dtype != np.uint8 or others or colours not in (3, 4) or ("S" in sizes and sizes.get("C", 1) > 1):
        found = f"an OME-TIFF of axes {series.axes} {series.shape}, {series.dtype}; one 8-bit RGB image is wanted"
        raise InputError(path, found, "Export the bright-field image as RGB; fluorescence cannot be used")
    return "S" not in sizes


def _facts(description: str | None) -> dict[str, str]:
    """Read resolution and objective from the OME-XML."""
    try:
        root = ElementTree.fromstring(description or "<OME/>")
    except ElementTree.ParseError:
        return {}
    found: dict[str, str] = {}
    pixels, objective = root.find(".//{*}Pixels"), root.find(".//{*}Objective")
    for axis in "XY":
        size = None if pixels is None else pixels.get(f"PhysicalSize{axis}")
        unit = _MICRONS.get("µm" if pixels is None else pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if size is not None and unit is not None:
            found[f"openslide.mpp-{axis.lower()}"] = str(float(size) * unit)
    power = None if objective is None else objective.get("NominalMagnification")
    return found | ({} if power is None else {"openslide.objective-power": power})
