"""Pixels of slides for the browser: deep-zoom tiles, thumbnails and model tiles as JPEG, from any format `dml` opens.

Level ``n`` of the deep zoom is the slide at full resolution, each level below has half of its side, level 0 is one
pixel. Tiles are `TILE` pixels wide and do not overlap, as the tiles of most slide files.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from queue import Empty, LifoQueue
from threading import BoundedSemaphore, Lock

import numpy as np
from PIL import Image

from dml.core.errors import InputError
from dml.slides.reader import Slide, open_slide

TILE = 256
QUALITY = 85
MAX_REDUCTION = 16
"""Largest ratio at which a tile is read in one go; a coarser one is made of four tiles of the next finer level."""
TILE_BYTES = 48 * 2**20
"""Of encoded tiles in memory."""
OPEN_SLIDES = 3
HANDLES = 2
"""Of one slide: each has a cache of its own."""


class TileCache:
    """The latest encoded tiles, up to a number of bytes."""

    def __init__(self, limit: int = TILE_BYTES) -> None:
        self._limit, self._bytes, self._lock = limit, 0, Lock()
        self._tiles: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    def get(self, key: tuple[object, ...]) -> bytes | None:
        """Return a tile, or None."""
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def put(self, key: tuple[object, ...], tile: bytes) -> None:
        """Add a tile; the tiles that were not asked for longest leave."""
        with self._lock:
            self._bytes += len(tile) - len(self._tiles.pop(key, b""))
            self._tiles[key] = tile
            while self._bytes > self._limit:
                self._bytes -= len(self._tiles.popitem(last=False)[1])


class SlidePixels:
    """An open slide as a pyramid of powers of two. Threads may share it: each reads through a handle of its own.

    Raises
    ------
    InputError
        If the file cannot be opened.
    """

    def __init__(self, path: Path, stated_mpp: float | None) -> None:
        self._path, self._stated, self._idle = path, stated_mpp, LifoQueue[Slide]()
        self._free = BoundedSemaphore(HANDLES)
        slide = open_slide(path, stated_mpp)
        self.dimensions, self.mpp = slide.dimensions, slide.mpp
        self.max_level = math.ceil(math.log2(max(max(self.dimensions), 1)))
        self._coarsest = slide.coarsest_downsample
        self._idle.put(slide)

    @contextmanager
    def _handle(self) -> Iterator[Slide]:
        with self._free, self._one_handle() as slide:
            yield slide

    @contextmanager
    def _one_handle(self) -> Iterator[Slide]:
        try:
            slide = self._idle.get_nowait()
        except Empty:
            slide = open_slide(self._path, self._stated)
        works = False  # after a failed read a handle gives nothing any more, and is not used again
        try:
            yield slide
            works = True
        finally:
            if works:
                self._idle.put(slide)
            else:
                slide.close()

    def close(self) -> None:
        """Close the idle handles."""
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def tile(self, level: int, column: int, row: int) -> Image.Image:
        """Return one tile of the deep zoom.

        Raises
        ------
        InputError
            If there is no such tile, or the slide is damaged there.
        """
        width, height = self.level_size(level)
        size = min(TILE, width - column * TILE), min(TILE, height - row * TILE)
        if column < 0 or row < 0 or min(size) < 1:
            raise InputError(self._path.name, f"no tile {column}, {row} at level {level}", "See its dimensions")
        scale = 2 ** (self.max_level - level)
        if scale > MAX_REDUCTION * self._coarsest:
            return self._of_four(level, column, row, size)
        with self._handle() as slide:
            pixels = slide.read(column * TILE * scale, row * TILE * scale, size, slide.mpp * scale)
        return Image.fromarray(pixels)

    def level_size(self, level: int) -> tuple[int, int]:
        """Return width and height of a level.

        Raises
        ------
        InputError
            If there is no such level.
        """
        if not 0 <= level <= self.max_level:
            raise InputError(self._path.name, f"no level {level}", f"There are 0 to {self.max_level}")
        scale = 2 ** (self.max_level - level)
        return math.ceil(self.dimensions[0] / scale), math.ceil(self.dimensions[1] / scale)

    def _of_four(self, level: int, column: int, row: int, size: tuple[int, int]) -> Image.Image:
        canvas = Image.new("RGB", (2 * size[0], 2 * size[1]), "white")
        finer = self.level_size(level + 1)
        for x in (0, 1):
            for y in (0, 1):
                at = 2 * column + x, 2 * row + y
                if at[0] * TILE < finer[0] and at[1] * TILE < finer[1]:
                    canvas.paste(self.tile(level + 1, *at), (x * TILE, y * TILE))
        return canvas.reduce(2)

    def square(self, x_um: float, y_um: float, tile_px: int, mpp: float) -> Image.Image:
        """Return the square around a point as the model reads it at a resolution."""
        with self._handle() as slide:
            left, top = (at / slide.mpp - tile_px * mpp / slide.mpp / 2 for at in (x_um, y_um))
            return Image.fromarray(slide.read_tile(left, top, tile_px, mpp))

    def thumbnail(self, side: int) -> Image.Image:
        """Return the whole slide with the longer side of some pixels at most."""
        level = max(level for level in range(self.max_level + 1) if level == 0 or max(self.level_size(level)) <= TILE)
        image = self.tile(level, 0, 0)
        image.thumbnail((side, side))
        return image


class BlankPixels:
    """The extent of a slide without pixels, one microns a pixel: white."""

    mpp = 1.0

    def __init__(self, coords_um: np.ndarray, tile_um: float) -> None:
        width, height = (math.ceil(side) for side in coords_um.max(0) + tile_um)
        self.dimensions = (width, height)
        self.max_level = math.ceil(math.log2(max(width, height, 1)))

    def tile(self, level: int, column: int, row: int) -> Image.Image:
        """Return a white tile."""
        return Image.new("RGB", (TILE, TILE), "white")

    def close(self) -> None:
        """Nothing is open."""


class OpenSlides:
    """The slides that are open: the latest few."""

    def __init__(self, limit: int = OPEN_SLIDES) -> None:
        self._limit, self._lock = limit, Lock()
        self._open: OrderedDict[Path, SlidePixels] = OrderedDict()

    def get(self, path: Path, stated_mpp: float | None) -> SlidePixels:
        """Return a slide, opened if need be.

        Raises
        ------
        InputError
            If it cannot be opened.
        """
        with self._lock:
            pixels = self._open.get(path)
            if pixels is None:
                pixels = self._open[path] = SlidePixels(path, stated_mpp)
            self._open.move_to_end(path)
            while len(self._open) > self._limit:
                self._open.popitem(last=False)[1].close()
            return pixels

    def close(self) -> None:
        """Close all."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()


def encode(image: Image.Image) -> bytes:
    """Return an image as JPEG."""
    buffer = BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()
