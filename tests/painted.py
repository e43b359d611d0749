"""Small painted slides that OpenSlide opens, and an encoder that needs no weights: the pipeline in seconds."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from dml.encoders.card import EncoderCard

TISSUE, NUCLEUS, GLASS = (226, 160, 200), (92, 60, 140), (244, 243, 245)


def tissue_pixels(width: int, height: int, seed: int = 0, cover: float = 0.6) -> NDArray[np.uint8]:
    """An ellipse of H&E-like tissue with nuclei, on slightly noisy glass; `cover` is its share of each side."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    inside = ((x / width - 0.5) / (cover / 2)) ** 2 + ((y / height - 0.5) / (cover / 2)) ** 2 < 1
    pixels = np.full((height, width, 3), GLASS, np.int16)
    pixels[inside] = TISSUE
    for cx, cy in rng.integers(0, (width, height), size=(width * height // 900, 2)):
        box = (slice(max(0, cy - 4), cy + 4), slice(max(0, cx - 4), cx + 4))
        pixels[box][inside[box]] = NUCLEUS
    pixels += rng.integers(-6, 7, size=(height, width, 1), dtype=np.int16)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_slide(
    path: Path,
    pixels: NDArray[np.uint8],
    mpp: float | tuple[float, float] | None = 0.5,
    levels: int = 3,
    description: str | None = None,
) -> Path:
    """Write a tiled pyramidal TIFF; each level halves the one before by averaging. `description` makes it Aperio."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    scale = {} if x is None or y is None else {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tif:
        for level in range(levels):
            facts = {"description": description, "software": False} if level == 0 else {}
            tif.write(
                pixels,
                tile=(256, 256),
                photometric="rgb",
                compression="zlib",
                metadata=None,
                subfiletype=int(level > 0),
                **(scale if level == 0 else {}),
                **facts,
            )
            height, width = (side // 2 for side in pixels.shape[:2])
            halves = pixels[: height * 2, : width * 2].reshape(height, 2, width, 2, 3)
            pixels = halves.mean(axis=(1, 3)).round().astype(np.uint8)
    return path


def write_image(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write a JPEG or PNG, which says nothing of its resolution."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def with_a_hole(path: Path, tile: int = -1) -> Path:
    """Make one tile of the finest level unreadable, as when a copy lost a part of the file."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        offsets = tif.pages[0].tags["TileOffsets"]
        moved = list(offsets.value)
        moved[tile] = path.stat().st_size + 10_000
        offsets.overwrite(moved)
    return path


@dataclass
class ColourStatistics:
    """Eight numbers a tile: means and deviations of its channels, and its extremes. Counts the tiles it has seen."""

    batch_sizes: list[int] = field(default_factory=list)

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        self.batch_sizes.append(len(tiles))
        flat = tiles.reshape(len(tiles), -1, 3).astype(np.float64) / 255
        parts = [flat.mean(axis=1), flat.std(axis=1), flat.min(axis=(1, 2))[:, None], flat.max(axis=(1, 2))[:, None]]
        return np.concatenate(parts, axis=1).astype(np.float16)


FAKE = ColourStatistics()


def fake_card(name: str = "fake") -> EncoderCard:
    """An encoder card for `ColourStatistics`; register it in a test with `registry.register`."""
    return EncoderCard(
        name=name,
        width=8,
        mpp=0.5,
        input_px=None,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        licence="none",
        paper="none",
        load_with=lambda device, precision: FAKE,
        hash_with=lambda: "fake-weights",
    )


def seeded(seed: int = 0) -> torch.Generator:
    """A seeded torch generator."""
    return torch.Generator().manual_seed(seed)
