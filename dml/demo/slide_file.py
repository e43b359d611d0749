"""Painted slides as files: tiled pyramidal TIFF that OpenSlide reads, with microns per pixel and reproducible bytes."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np

from dml.core.files import atomic, digest
from dml.demo.paint import SlidePlan, paint

TILE_PX = 256
MIN_LEVELS, MIN_SIDE_PX = 3, 300
PAINTING_MODULES = ("anatomy", "artefacts", "fields", "paint", "slide_file", "sprites", "stains", "vessels")


def is_current(plan: SlidePlan, path: Path) -> bool:
    """Return whether the file exists and was painted from the same plan by the same code."""
    return read_fingerprint(path) == fingerprint(plan)


def make_slide(plan: SlidePlan, path: Path) -> None:
    """Paint a slide and write it."""
    write_slide(path, paint(plan), plan.mpp, fingerprint(plan))


def fingerprint(plan: SlidePlan) -> str:
    """Return a string that identifies the bytes of a slide: a digest of its plan and of the painting code."""
    return f"dml demo slide {digest(asdict(plan), hash_sources())}"


@cache
def hash_sources() -> str:
    """Return a digest of the source of the painting modules."""
    return digest(*((Path(__file__).parent / f"{name}.py").read_text() for name in PAINTING_MODULES))


def read_fingerprint(path: Path) -> str | None:
    """Return the fingerprint inside a slide file; None if it is missing or not a TIFF."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return str(file.pages.first.description)
    except (FileNotFoundError, tifffile.TiffFileError):
        return None


def write_slide(path: Path, image: np.ndarray, mpp: float, description: str) -> None:
    """Write an image [h w 3] and its reductions by 2, 4, 8, ...; at least three levels.

    The base carries `subfiletype` 0, the others 1, as OpenSlide's generic-tiff reader wants it; no time stamp is kept.
    """
    import tifffile

    with atomic(path) as temporary, tifffile.TiffWriter(temporary) as file:
        for level, reduced in enumerate(build_pyramid(image)):
            file.write(
                reduced,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="zlib",
                compressionargs={"level": 1},
                subfiletype=int(level > 0),
                resolution=(1e4 / (mpp * 2**level),) * 2,
                resolutionunit="CENTIMETER",
                description=description if level == 0 else None,
                metadata=None,
                software=False,
                datetime=False,
                maxworkers=1,
            )


def build_pyramid(image: np.ndarray) -> list[np.ndarray]:
    """Return the image [h w 3] and its halvings, until a side falls below `MIN_SIDE_PX`."""
    levels = [image]
    while len(levels) < MIN_LEVELS or min(levels[-1].shape[:2]) >= 2 * MIN_SIDE_PX:
        levels.append(downsample(levels[-1]))
    return levels


def downsample(image: np.ndarray) -> np.ndarray:
    """Return the means of 2 x 2 pixels, rounded; an odd last row or column is dropped."""
    h, w = (n // 2 * 2 for n in image.shape[:2])
    total = np.full((h // 2, w // 2, 3), 2, dtype=np.uint16)
    for y in (0, 1):
        for x in (0, 1):
            total += image[y:h:2, x:w:2]
    result: np.ndarray = (total >> 2).astype(np.uint8)
    return result
