"""OME-TIFF by tifffile: RGB or RGBA, tiled or in strips, with or without a pyramid.

`OmeTiff` has the part of OpenSlide's interface that `dml.slides.reader` uses. Microscopes write RGB either interleaved
(axes YXS) or as planes (CYX); everything else, fluorescence above all, is refused by name.
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dml.core.errors import InputError, refuse_unreadable
from dml.slides.resolution import number

_MICRONS = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3}
_TIFF_UNITS = {2: 25400.0, 3: 10000.0}  # microns in the units of TIFF: inch, centimetre
_DEFLATE = (8, 32946)  # codes of TIFF
_AGAIN = "Copy or export the slide again"
MAX_SEGMENT = 2**30
"""Bytes that one tile or strip may decode to."""


class OmeTiff:
    """An open OME-TIFF. Not shared between threads.

    Attributes
    ----------
    properties : mapping of str
        ``openslide.mpp-x``, ``-y``, ``openslide.objective-power`` as far as the OME-XML says, ``tiff.mpp-x`` and ``-y``
        as the TIFF tags say, and ``openslide.vendor``.
    level_dimensions, level_downsamples
        As of OpenSlide, from the finest level.
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        self.path = path
        with refuse_unreadable(path, _AGAIN):
            self._file = tifffile.TiffFile(path)
        try:
            with refuse_unreadable(path, _AGAIN):
                self._read_header(path)
        except InputError:
            self._file.close()
            raise

    def _read_header(self, path: Path) -> None:
        index, series = max(enumerate(self._file.series), key=lambda item: _area(item[1]))
        self._planar = _layout(path, series)
        self._levels: Sequence[Any] = series.levels
        sizes = [dict(zip(level.axes, level.shape, strict=True)) for level in self._levels]
        self.level_dimensions = tuple((size["X"], size["Y"]) for size in sizes)
        self.dimensions = self.level_dimensions[0]
        self.level_downsamples = tuple(self.dimensions[0] / width for width, _ in self.level_dimensions)
        pages: Any = series.pages
        page = pages[0].aspage()
        shape = dict(zip(series.axes, series.shape, strict=True))
        self._channels = shape.get("C", 1) * shape.get("S", 1)  # the fourth is alpha
        self._premultiplied = 1 in tuple(page.extrasamples or ())
        facts = {**xml_properties(self._file.ome_metadata, index), **tag_resolution(page)}
        self.properties: Mapping[str, str] = {"openslide.vendor": "ome-tiff", **facts}

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
            for channel, page in enumerate(pages[: self._channels] if self._planar else pages[:1]):
                channels = slice(channel, channel + 1) if self._planar else slice(0, self._channels)
                paste_segments(canvas, page, left, top, channels)
        except Exception as error:
            raise name_undecodable(self.path, level, location, error) from error
        if self._channels == 4 and self._premultiplied:
            undo_premultiplication(canvas)
        return Image.fromarray(canvas)


def is_ome_tiff(path: Path) -> bool:
    """Whether tifffile takes the file for an OME-TIFF."""
    import tifffile

    try:
        with refuse_unreadable(path), tifffile.TiffFile(path) as file:
            return bool(file.is_ome)
    except InputError:
        return False


def can_decode(path: Path) -> bool:
    """Whether the compression of an OME-TIFF can be decoded here: most need imagecodecs."""
    import tifffile
    from tifffile import COMPRESSION

    plain = {COMPRESSION.NONE, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE, COMPRESSION.PACKBITS}
    with refuse_unreadable(path, _AGAIN), tifffile.TiffFile(path) as file:
        if file.pages[0].aspage().compression in plain:
            return True
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return False
    return True


def xml_properties(description: str | None, index: int = 0) -> dict[str, str]:
    """Read resolution and objective of an image from the OME-XML, as properties of OpenSlide.

    Parameters
    ----------
    description : str or None
        The XML.
    index : int
        Which of its images.
    """
    try:
        root = ElementTree.fromstring(description or "<OME/>")
    except ElementTree.ParseError:
        return {}
    images = root.findall(".//{*}Pixels")
    pixels = images[index] if index < len(images) else None
    properties = {"ome.xml": "true"}
    for axis in "XY":
        size = None if pixels is None else number(pixels.get(f"PhysicalSize{axis}"))
        unit = _MICRONS.get("µm" if pixels is None else pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if size is not None and unit is not None:
            properties[f"openslide.mpp-{axis.lower()}"] = str(size * unit)
    objective = root.find(".//{*}Objective")
    power = None if objective is None else number(objective.get("NominalMagnification"))
    return properties | ({} if power is None else {"openslide.objective-power": str(power)})


def tag_resolution(page: Any) -> dict[str, str]:
    """Read the resolution of the TIFF tags of a page in microns per pixel, as ``tiff.mpp-x`` and ``-y``."""
    unit = _TIFF_UNITS.get(int(page.tags.valueof("ResolutionUnit", 2)))
    properties = {}
    for axis in "XY":
        pixels, per = page.tags.valueof(f"{axis}Resolution", (0, 1))
        if unit and pixels and per:
            properties[f"tiff.mpp-{axis.lower()}"] = str(unit * per / pixels)
    return properties


def undo_premultiplication(canvas: NDArray[np.uint8]) -> None:
    """Divide the colours of an RGBA picture [h w 4] by its alpha, in place."""
    opaque = np.maximum(canvas[..., 3:].astype(np.uint16), 1)
    canvas[..., :3] = np.minimum(canvas[..., :3].astype(np.uint16) * 255 // opaque, 255)


def name_undecodable(path: Path, level: int, location: tuple[int, int], error: Exception) -> InputError:
    """Return the error of a region that cannot be decoded: its place, or the package that is missing."""
    reason = " ".join(str(error).split())[:200]
    if "imagecodecs" in reason:
        remedy = "Run: pip install -e '.[ome]' -c constraints.txt"
        return InputError(path, f"its compression needs the package imagecodecs ({reason})", remedy)
    problem = f"truncated or damaged: level {level} cannot be read at pixel {location} ({reason})"
    return InputError(path, problem, _AGAIN)


def paste_segments(canvas: NDArray[np.uint8], page: Any, left: int, top: int, channels: slice, plane: int = 0) -> None:
    """Decode the tiles or strips of a page that a region touches, and copy them in.

    Parameters
    ----------
    canvas : uint8 [h w 4]
        RGBA; becomes opaque where the page is.
    page : tifffile.TiffPage
        Interleaved, or with separate planes.
    left, top : int
        Pixel of the page at the canvas's first.
    channels : slice
        Channels of the canvas that are filled.
    plane : int
        Which of separate planes is read.

    Raises
    ------
    ValueError
        If the file ends too early, or a tile inflates beyond its size; tifffile raises errors of other kinds, too.
    """
    page = page.aspage()  # tifffile lists planes after the first in brief
    height, width = canvas.shape[:2]
    strip = min(page.rowsperstrip, page.imagelength), page.imagewidth
    high, wide = (page.tilelength, page.tilewidth) if page.is_tiled else strip
    if high * wide * page.samplesperpixel > MAX_SEGMENT:
        raise ValueError(f"a tile of {wide} x {high} pixels")
    across = -(-page.imagewidth // wide)
    rows = range(max(0, top) // high, -(-min(top + height, page.imagelength) // high))
    columns = range(max(0, left) // wide, -(-min(left + width, page.imagewidth) // wide))
    before = plane * across * -(-page.imagelength // high)
    indices = [before + row * across + column for row in rows for column in columns]
    offsets, counts = ([values[i] for i in indices] for values in (page.dataoffsets, page.databytecounts))
    for data, index in page.parent.filehandle.read_segments(offsets, counts, indices):
        if len(data or b"") < page.databytecounts[index]:
            raise ValueError(f"the file ends within tile {index}")
        _check_expansion(page, data, high * wide * page.samplesperpixel)
        pixels = page.decode(data, index, jpegtables=page.jpegtables)[0]
        y, x = ((index - before) // across) * high - top, ((index - before) % across) * wide - left
        _copy(canvas, pixels[0, : page.imagelength - (y + top), : page.imagewidth - (x + left)], x, y, channels)


def _check_expansion(page: Any, data: bytes, size: int) -> None:
    """Refuse a tile that inflates beyond its size; a small one cannot reach a gigabyte (Deflate: 1032 times)."""
    if len(data) > size + size // 8 + 4096:
        raise ValueError(f"a tile of {size} bytes takes {len(data)}")
    if (
        page.compression in _DEFLATE
        and len(data) > 2**20
        and len(zlib.decompressobj().decompress(data, size + 1)) > size
    ):
        raise ValueError(f"a tile inflates beyond its {size} bytes")


def _copy(canvas: NDArray[np.uint8], pixels: NDArray[np.uint8], x: int, y: int, channels: slice) -> None:
    """Copy the part of `pixels` [h w c] at (x, y) that is inside the canvas; without alpha it is opaque."""
    y0, x0 = max(0, y), max(0, x)
    y1, x1 = min(canvas.shape[0], y + pixels.shape[0]), min(canvas.shape[1], x + pixels.shape[1])
    if y1 > y0 and x1 > x0:
        canvas[y0:y1, x0:x1, 3] = 255
        canvas[y0:y1, x0:x1, channels] = pixels[y0 - y : y1 - y, x0 - x : x1 - x, : channels.stop - channels.start]


def _area(series: Any) -> int:
    size = dict(zip(series.axes, series.shape, strict=True))
    return int(size.get("X", 0)) * int(size.get("Y", 0))


def _layout(path: Path, series: Any) -> bool:
    """Return whether the colours are planes; refuse what is not one RGB image of 8 bits."""
    sizes = dict(zip(series.axes, series.shape, strict=True))
    colours = sizes.get("S", 1) * sizes.get("C", 1)
    others = {axis: n for axis, n in sizes.items() if axis not in "YXSC" and n > 1}
    if series.dtype != np.uint8 or others or colours not in (3, 4) or ("S" in sizes and sizes.get("C", 1) > 1):
        problem = f"an OME-TIFF of axes {series.axes} {series.shape}, {series.dtype}; one 8-bit RGB image is expected"
        raise InputError(path, problem, "Export the bright-field image as RGB; fluorescence cannot be used")
    return "S" not in sizes
