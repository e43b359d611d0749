"""Content hashes of slides, tiles and features: equal keys mean equal results, so finished work is reused."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dml.config.params import Tiles
from dml.core.files import digest
from dml.core.types import TileGrid

TILING = 5
"""Raise when tiling computes something else from the same input."""
ENCODING = 1
"""Raise when encoding computes something else from the same input."""
NORMALISING = 1
"""Raise when stain normalisation computes something else from the same tiles."""
IMPORTING = 2
"""Raise when importing makes something else of the same file."""


def tiling_key(fingerprint: str, tiles: Tiles, stated: Sequence[Any] = ()) -> str:
    """Key of the tiles of one slide; `stated` is what the slide list says: resolution, source to trust, fields."""
    chosen = {"mpps": sorted(tiles.mpps)} | tiles.model_dump(include={"tile_px", "min_tissue", "max_tiles"})
    chosen |= tiles.model_dump(include={"min_tissue_coarse", "remove_ink"}, exclude_defaults=True)
    return digest("tiles", TILING, fingerprint, chosen, list(stated))


def encoding_key(fingerprint: str, grid: TileGrid, stain_grid: TileGrid | None = None, **encoder: Any) -> str:
    """Key of the features of one slide at one resolution.

    It holds the slide, the exact tiles, encoder, weights, precision, device; if stains are normalised, the tiles that
    they are estimated from.
    """
    stains = [] if stain_grid is None else [NORMALISING, *_describe(stain_grid)]
    return digest("features", ENCODING, fingerprint, *_describe(grid), encoder, *stains)


def _describe(grid: TileGrid) -> tuple[dict[str, Any], str]:
    facts = {name: value for name, value in asdict(grid).items() if not isinstance(value, np.ndarray)}
    return facts, hashlib.blake2b(np.ascontiguousarray(grid.coords_um).tobytes(), digest_size=16).hexdigest()


def importing_key(content: str, spec: dict[str, Any]) -> str:
    """Key of features made elsewhere: the file's content and its description."""
    return digest("imported", IMPORTING, content, spec)
