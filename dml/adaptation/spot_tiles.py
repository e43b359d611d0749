"""Tiles around spots beside the counts of these spots: the pairs that an encoder is adapted on."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from dml.cohorts.spot_store import SpotTable
from dml.cohorts.store_files import section_ids
from dml.core.errors import InputError
from dml.slides.reader import open_slide
from dml.slides.stain import estimate_stains, evenly_spaced, sample_tiles

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpotTiles:
    """Tiles centred on the spots of a cohort, at one resolution after the other.

    Attributes
    ----------
    spots : DataFrame
        Rows of the spots, in the order of `counts`.
    counts : csr_matrix [n, g]
        Their counts.
    genes : tuple of str
        Names of the g genes.
    tiles : mapping
        Resolution to tiles [n t t 3], tile i around spot i.
    """

    spots: pd.DataFrame
    counts: Any
    genes: tuple[str, ...]
    tiles: Mapping[float, UInt8[np.ndarray, "n t t 3"]]

    @property
    def sections(self) -> np.ndarray:
        """Section of each spot [n]."""
        return self.spots["section_id"].to_numpy(str)


def read_spot_tiles(
    table: SpotTable, slides: pd.DataFrame, mpps: Sequence[float], tile_px: int, normalise: bool = False
) -> SpotTiles:
    """Read the tile around every spot on tissue.

    Parameters
    ----------
    table : SpotTable
        The spots.
    slides : DataFrame
        slide_id, path, mpp; section_id where slides are regions of a section.
    mpps : sequence of float
        Microns per pixel of the tiles.
    tile_px : int
        Side of a tile in pixels.
    normalise : bool
        Whether the stains of each section are normalised; they are estimated from its tiles of the finest resolution.

    Raises
    ------
    InputError
        If a section has no slide file, or no spot is on tissue.
    """
    files = slides.assign(section_id=section_ids(slides)).drop_duplicates("section_id").set_index("section_id")
    rows = np.flatnonzero(table.spots["on_tissue"].to_numpy(bool))
    if not len(rows):
        raise InputError("spots.parquet", "no spot is on tissue", "Is it a spatial cohort? Run: dvc repro spots")
    spots = table.spots.iloc[rows].reset_index(drop=True)
    tiles = {mpp: np.empty((len(spots), tile_px, tile_px, 3), np.uint8) for mpp in mpps}
    for section, part in spots.groupby("section_id", sort=False):
        if section not in files.index or pd.isna(files.at[section, "path"]):
            problem = f"section {section} has no slide file"
            raise InputError("slides.parquet", problem, "Adaptation reads pixels; embed.source: import has none")
        file = files.loc[section].to_dict()
        with open_slide(Path(file["path"]), None if pd.isna(file["mpp"]) else float(file["mpp"])) as slide:
            for mpp, array in tiles.items():
                half = tile_px * mpp / slide.mpp / 2
                for i, x, y in zip(part.index, part["x_px"], part["y_px"], strict=True):
                    array[i] = slide.read_tile(x - half, y - half, tile_px, mpp)
        if normalise:
            _normalise(tiles, part.index.to_numpy(), str(section))
    return SpotTiles(spots, table.counts[rows], table.genes, tiles)


def _normalise(tiles: Mapping[float, UInt8[np.ndarray, "n t t 3"]], rows: np.ndarray, section: str) -> None:
    """Give the tiles of a section the stains of the reference slide, in place."""
    stains = estimate_stains(sample_tiles(tiles[min(tiles)][rows[evenly_spaced(len(rows))]]))
    if stains is None:
        logger.warning("section %s: no two stains found, its tiles stay without stain normalisation", section)
        return
    for array in tiles.values():
        array[rows] = stains.to_reference()(array[rows])
