"""Content hashes of slides, tiles and features: equal keys mean equal results, so finished work is reused."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dml.config.params import Tiles
from dml.core.errors import InputError
from dml.core.files import digest
from dml.core.types import TileGrid

TILING = 5
"""Raise when tiling computes something else from the same input."""
ENCODING = 1
"""Raise when encoding computes something else from the same input."""
IMPORTING = 2
"""Raise when importing makes something else of the same file."""
_BLOCK = 65536
_BLOCKS = 64


def slide_fingerprint(path: Path) -> str:
    """Fingerprint the content of a slide in milliseconds: its size, both ends, and 64 blocks spread evenly between.

    A file of up to 4 MiB is hashed whole. An edit in place that keeps the size and falls between the blocks of a larger
    file goes unnoticed; no scanner, converter or copy tool does that. Of a folder beside the file that has its name, as
    MIRAX slides have, and of the other files of a DICOM series, the names and sizes count.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        size = path.stat().st_size
        sampled = hashlib.blake2b(str(size).encode(), digest_size=16)
        with path.open("rb") as file:
            for start in _starts(size):
                file.seek(start)
                sampled.update(file.read(_BLOCK))
        beside = path.parent if path.suffix.lower() == ".dcm" else path.with_suffix("")
        for part in sorted(beside.rglob("*")) if path.suffix and beside.is_dir() else ():
            sampled.update(f"{part.relative_to(beside)} {part.stat().st_size}".encode())
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "Correct the path or the permissions") from None
    return sampled.hexdigest()


def tiling_key(fingerprint: str, tiles: Tiles, stated: Sequence[Any] = ()) -> str:
    """Key of the tiles of one slide; `stated` is what the slide list says: resolution, source to trust, fields."""
    chosen = {"mpps": sorted(tiles.mpps)} | tiles.model_dump(include={"tile_px", "min_tissue", "max_tiles"})
    chosen |= tiles.model_dump(include={"min_tissue_coarse", "remove_ink"}, exclude_defaults=True)
    return digest("tiles", TILING, fingerprint, chosen, list(stated))


def encoding_key(fingerprint: str, grid: TileGrid, **encoder: Any) -> str:
    """Key of the features of one slide at one resolution: slide, exact tiles, encoder, weights, precision, device."""
    facts = {name: value for name, value in asdict(grid).items() if not isinstance(value, np.ndarray)}
    positions = hashlib.blake2b(np.ascontiguousarray(grid.coords_um).tobytes(), digest_size=16).hexdigest()
    return digest("features", ENCODING, fingerprint, facts, positions, encoder)


def importing_key(content: str, spec: dict[str, Any]) -> str:
    """Key of features made elsewhere: the file's content and its description."""
    return digest("imported", IMPORTING, content, spec)


def _starts(size: int) -> list[int]:
    if size <= _BLOCK * _BLOCKS:
        return list(range(0, size, _BLOCK))
    return [int(start) for start in np.linspace(0, size - _BLOCK, _BLOCKS)]
