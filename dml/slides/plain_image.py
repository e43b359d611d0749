"""Plain images as slides: JPEG, PNG, and TIFF in strips; colour of 8 bits, transparent parts white.

`PlainImage` has the part of OpenSlide's interface that `dml.slides.reader` uses. Such a file has one resolution and,
but for TIFF, cannot be read in parts. So it is decoded once, upright, into a temporary file without a name (see
`dml.slides.pixel_file`): reading a tile costs nothing, and the disk is free again when the last handle of the image is
closed, even by a kill. Levels 2, 4 and 8 times coarser are averages of whole pixels.

A resolution is taken from the tags of a TIFF only: the 72 dpi of a JPEG or PNG are of a screen or a printer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from dml.core.errors import InputError, refuse_unreadable
from dml.core.limits import current
from dml.slides.ome_tiff import name_undecodable, paste_segments, tag_resolution, undo_premultiplication
from dml.slides.pixel_file import PixelFile, share_pixels

DOWNSAMPLES = (1, 2, 4, 8)
"""Of the levels: pixels of the image along one side of a pixel of the level."""
MAX_EXPANSION = 2000
"""Bytes of pixels to a byte of a file beyond which there is no tissue: white is 512 in JPEG, 1032 at most in PNG."""
MAX_PAGES = 100
"""Images in one TIFF."""
NOTE = "dml.note"
"""Property with what a person should know of the image."""
_PILLOW: Mapping[bytes, tuple[str, type[ImageFile]]] = {
    b"\xff\xd8\xff": ("jpeg", JpegImageFile),
    b"\x89PNG\r\n\x1a\n": ("png", PngImageFile),
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AGAIN = "Is it truncated or damaged? Copy or export the image again"
_ROWS = 512  # of a band; a whole number of the blocks of every level
_ORIENTATION = 274  # tag of EXIF and TIFF
_UPRIGHT: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # from 5 on, width and height are exchanged
_PALETTE, _RGB, _YCBCR = 3, 2, 6  # photometric interpretations of TIFF
_JPEG = (6, 7)  # compressions of TIFF

Bands = Iterator[UInt8[np.ndarray, "h w 3"]]


@dataclass(frozen=True, slots=True)
class _Source:
    """What the header of an image says, and how its pixels are decoded: bands of full width, from the top."""

    size: tuple[int, int]
    properties: Mapping[str, str]
    bands: Callable[[], Bands]


class PlainImage:
    """An open image. Handles of one file share its decoded pixels, between threads, too.

    Attributes
    ----------
    properties : mapping of str
        ``openslide.vendor`` (jpeg, png or plain-tiff); of a TIFF ``tiff.mpp-x`` and ``-y`` as its tags say; `NOTE`.
    level_dimensions, level_downsamples
        As of OpenSlide, from the finest level; the last pixels of a level average what is left at the border.

    Raises
    ------
    InputError
        If the header cannot be read, declares more than `limits.image_pixels` pixels or more than fit into the file, or
        the image is not 8-bit colour.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with refuse_unreadable(path, _AGAIN):
            source = _read_header(path)
        width, height = self.dimensions = source.size
        most = current().image_pixels
        if width * height > most:
            problem = f"an image of {width} x {height} pixels, more than the {most} that are decoded"
            raise InputError(path, problem, "If it is a slide, raise limits.image_pixels (params.yaml)")
        size = path.stat().st_size
        if not 0 < 3 * width * height <= max(current().free_bytes, MAX_EXPANSION * size):
            raise InputError(path, f"it declares {width} x {height} pixels in {size} bytes", _AGAIN)
        self.properties = source.properties
        downsamples = tuple(down for down in DOWNSAMPLES if down <= min(width, height))
        self.level_downsamples = tuple(map(float, downsamples))
        self.level_dimensions = tuple((-(-width // down), -(-height // down)) for down in downsamples)
        self._pixels: PixelFile | None = share_pixels(path, source.size, source.bands)

    def close(self) -> None:
        """Release the decoded pixels."""
        self._pixels = None

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """Return RGB pixels of a level; `location` is in pixels of the finest level, outside is white.

        Raises
        ------
        InputError
            If the image cannot be decoded, or there is no room for its pixels.
        """
        if self._pixels is None:
            raise ValueError(f"{self.path}: the image is closed")
        with refuse_unreadable(self.path, _AGAIN):
            pixels = self._pixels.level(DOWNSAMPLES[level])
        left, top = (round(start / DOWNSAMPLES[level]) for start in location)
        canvas = np.full((size[1], size[0], 3), 255, np.uint8)
        x0, y0 = max(left, 0), max(top, 0)
        inside = pixels[y0 : max(top + size[1], 0), x0 : max(left + size[0], 0)]
        canvas[y0 - top : y0 - top + inside.shape[0], x0 - left : x0 - left + inside.shape[1]] = inside
        return Image.fromarray(canvas)


def is_plain_image(path: Path) -> bool:
    """Whether the first bytes are of a JPEG, PNG or TIFF."""
    with path.open("rb") as file:
        return file.read(8).startswith((*_PILLOW, *_TIFF))


def blend_on_white(image: Image.Image) -> Image.Image:
    """Blend an RGBA image with white, the colour of empty glass; what a scanner did not capture is transparent."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image.convert("RGB"), mask=alpha)
    return white


def _read_header(path: Path) -> _Source:
    with path.open("rb") as file:
        start = file.read(25)
    for magic, (vendor, plugin) in _PILLOW.items():
        if start.startswith(magic):
            depth = start[24] if vendor == "png" else 8
            return _read_pillow_header(path, vendor, plugin, depth)
    return _read_tiff_header(path)


def _read_pillow_header(path: Path, vendor: str, plugin: type[ImageFile], depth: int) -> _Source:
    """Open with the class of the format: the guard of `PIL.Image.open` knows one limit for a whole process."""
    with plugin(path) as image:
        if depth == 16:
            raise _not_colour(path, "16 bits a channel")
        if image.mode not in ("RGB", "RGBA", "P"):
            names = {"CMYK": "the colours of a printer (CMYK)", "L": "grey", "LA": "grey", "1": "black and white"}
            raise _not_colour(path, names.get(image.mode, image.mode))
        # that of PNG would decode the whole image in search of an EXIF block behind the pixels
        orientation = int(Image.Image.getexif(image).get(_ORIENTATION, 1))
        upright = _UPRIGHT.get(orientation)
        size = image.size[::-1] if upright is not None and orientation >= 5 else image.size
    properties = {"openslide.vendor": vendor}
    if upright is not None:
        properties[NOTE] = (
            f"turned upright as its EXIF orientation {orientation} says: pixel coordinates are of the upright image"
        )
    return _Source(size, properties, lambda: _decode_with_pillow(path, plugin, upright))


def _decode_with_pillow(path: Path, plugin: type[ImageFile], upright: Image.Transpose | None) -> Bands:
    """Decode the whole image, 4 bytes a pixel (twice that if it is turned), which is freed at the end."""
    with plugin(path) as file:
        file.load()
        image: Image.Image = file if upright is None else file.transpose(upright)
        transparent = image.mode == "RGBA" or "transparency" in image.info
        for top in range(0, image.height, _ROWS):
            band = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
            yield np.asarray(blend_on_white(band.convert("RGBA")) if transparent else band.convert("RGB"))


def _read_tiff_header(path: Path) -> _Source:
    import tifffile

    with tifffile.TiffFile(path) as file:
        pages = _pages(file)
        page = _largest(pages)
        if len(pages) > MAX_PAGES:
            problem = f"more than {MAX_PAGES} images in one TIFF: a stack, or its directories are damaged"
            raise InputError(path, problem, "Export the slide as one image")
        _check_tiff(path, page)
        properties = {"openslide.vendor": "plain-tiff", **tag_resolution(page)}
        if len(pages) > 1:
            properties[NOTE] = f"the largest of {len(pages)} images in the file is used"
        size = page.imagewidth, page.imagelength
    return _Source(size, properties, lambda: _decode_tiff(path))


def _pages(file: Any) -> list[Any]:
    """Return the images of a TIFF, no more than `MAX_PAGES` and one: damaged directories may go round in circles."""
    return [page.aspage() for page in islice(file.pages, MAX_PAGES + 1)]


def _largest(pages: Sequence[Any]) -> Any:
    return max(pages, key=lambda page: page.imagewidth * page.imagelength)


def _check_tiff(path: Path, page: Any) -> None:
    """Refuse what is not 8-bit colour, what is stored turned, and tiles: they are OpenSlide's, where they are whole."""
    if page.is_tiled:
        problem = f"a tiled TIFF ({page.compression.name}) that OpenSlide does not know: truncated, or of another kind"
        raise InputError(path, problem, "Copy it again, or export it with JPEG or Deflate compression")
    if page.dtype != np.uint8 or page.bitspersample != 8:
        raise _not_colour(path, f"{page.bitspersample} bits a channel ({page.dtype})")
    kind = int(page.photometric)
    colour = kind == _RGB and page.samplesperpixel in (3, 4)
    if not colour and kind != _PALETTE and not (kind == _YCBCR and page.compression in _JPEG):
        raise _not_colour(path, f"{page.photometric.name} of {page.samplesperpixel} channels")
    if page.imagedepth > 1:
        raise _not_colour(path, f"a stack of {page.imagedepth}")
    orientation = int(page.tags.valueof(_ORIENTATION, 1))
    if orientation != 1:
        raise InputError(path, f"stored turned or mirrored (orientation {orientation})", "Save it upright")


def _decode_tiff(path: Path) -> Bands:
    """Decode band by band: whole strips, of which each is decoded once; alpha is blended."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = _largest(_pages(file))
        strip = min(page.rowsperstrip, page.imagelength)
        uncompressed = tifffile.memmap(path, page=page.index, mode="r") if _is_mappable(page) else None
        rows = _ROWS if uncompressed is not None else strip * -(-_ROWS // strip)
        for top in range(0, page.imagelength, rows):
            height = min(rows, page.imagelength - top)
            if uncompressed is not None:
                yield np.asarray(uncompressed[top : top + height])
                continue
            canvas = np.zeros((height, page.imagewidth, 4), np.uint8)
            try:
                _paste_band(canvas, page, top)
            except Exception as error:
                raise name_undecodable(path, 0, (0, top), error) from error
            yield np.asarray(blend_on_white(Image.fromarray(canvas)))


def _is_mappable(page: Any) -> bool:
    interleaved = page.photometric == _RGB and page.samplesperpixel == 3 and page.planarconfig == 1
    return bool(interleaved and page.is_memmappable)


def _paste_band(canvas: UInt8[np.ndarray, "h w 4"], page: Any, top: int) -> None:
    if page.photometric == _PALETTE:
        paste_segments(canvas, page, 0, top, slice(0, 1))
        colours = (np.asarray(page.colormap) >> 8).astype(np.uint8)  # [3 256], of 16 bits
        canvas[..., :3] = colours[:, canvas[..., 0]].transpose(1, 2, 0)
        return
    alpha = next(iter(page.extrasamples or ()), 0)  # 1: premultiplied, 2: not, 0: something else
    channels = page.samplesperpixel if alpha else 3
    if page.planarconfig == 1:
        paste_segments(canvas, page, 0, top, slice(0, channels))
    else:
        for plane in range(channels):
            paste_segments(canvas, page, 0, top, slice(plane, plane + 1), plane)
    if alpha == 1:
        undo_premultiplication(canvas)


def _not_colour(path: Path, what: str) -> InputError:
    problem = f"{what}: a slide is a colour image of 8 bits a channel"
    return InputError(path, problem, "Export it as RGB with 8 bits (JPEG, PNG or TIFF)")
