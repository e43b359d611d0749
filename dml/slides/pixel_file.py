"""Decoded pixels of an image in temporary files without a name, shared by all handles of a process.

Where they lie is the folder for temporary files (environment variable TMPDIR): 3 bytes a pixel, a third more with all
levels. They are mapped into memory, so the operating system takes back what it needs.

Shape legend: h, w pixels of a level.
"""

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dml.core.errors import InputError

Pixels = UInt8[np.ndarray, "h w 3"]
_BAND = 512  # rows averaged at once; a multiple of all downsamples

_shared: "WeakValueDictionary[tuple[object, ...], PixelFile]" = WeakValueDictionary()
_lock = threading.Lock()


class PixelFile:
    """Pixels of one image at several resolutions, each decoded or averaged when it is first asked for.

    Parameters
    ----------
    path : Path
        The image, for messages.
    size : tuple of int
        Width and height.
    bands : callable
        Returns an iterator over its pixels, in bands of full width from the top.
    """

    def __init__(self, path: Path, size: tuple[int, int], bands: Callable[[], Iterator[Pixels]]) -> None:
        self._path, self._size, self._bands = path, size, bands
        self._levels: dict[int, Pixels] = {}
        self._lock = threading.Lock()

    def level(self, downsample: int) -> Pixels:
        """Return the pixels of a level: averages of `downsample` x `downsample` pixels, of what is left at the border.

        Raises
        ------
        InputError
            If the folder for temporary files has too little room.
        """
        with self._lock:
            if 1 not in self._levels:
                self._levels[1] = self._write(self._size, self._bands())
            if downsample not in self._levels:
                width, height = (-(-side // downsample) for side in self._size)
                self._levels[downsample] = self._write((width, height), _average(self._levels[1], downsample))
            return self._levels[downsample]

    def _write(self, size: tuple[int, int], bands: Iterator[Pixels]) -> Pixels:
        width, height = size
        needed, free = 3 * width * height, shutil.disk_usage(tempfile.gettempdir()).free
        if needed > free:
            problem = f"its pixels take {needed / 1e9:.1f} GB in {tempfile.gettempdir()}, {free / 1e9:.1f} GB are free"
            raise InputError(self._path, problem, "Free some space, or name another folder in TMPDIR")
        with tempfile.TemporaryFile(prefix="dml-pixels-") as file:
            for band in bands:
                file.write(np.ascontiguousarray(band).data)
            file.flush()
            if file.tell() != needed:
                raise ValueError(f"{file.tell()} bytes of pixels, {needed} are declared")
            # the mapping keeps the file, which has no name any more
            return np.memmap(file, np.uint8, "r", shape=(height, width, 3))


def share_pixels(path: Path, size: tuple[int, int], bands: Callable[[], Iterator[Pixels]]) -> PixelFile:
    """Return the pixels that another handle of this very file has decoded, or new ones that nobody has read yet."""
    facts = path.stat()
    key = path.resolve(), facts.st_ino, facts.st_size, facts.st_mtime_ns
    with _lock:
        pixels = _shared.get(key)
        if pixels is None:
            pixels = _shared[key] = PixelFile(path, size, bands)
        return pixels


def _average(pixels: Pixels, downsample: int) -> Iterator[Pixels]:
    for top in range(0, len(pixels), _BAND):
        yield np.asarray(Image.fromarray(pixels[top : top + _BAND]).reduce(downsample))
