"""Measured expression as layers: what the spots of a spatial section say of each tile.

A tile's value is the mean of the spots on it, weighted by the area they share; a tile without a spot has none.

Shape legend: s spots, t tiles.
"""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from dml.cohorts.spot_store import read_spots
from dml.cohorts.store_files import section_ids
from dml.core.types import GeneGroups
from dml.data.cohort_store import CohortStore
from dml.spatial.measurements import GENE, SIGNATURE, Terms, measure_spots
from dml.spatial.spot_overlap import overlap
from dml.viewer.layers import Layer

PREFIX = "measured-"
SPOTS = f"{PREFIX}spots"
"""Layer of how much of a tile lies under spots."""
UNITS = {SIGNATURE: "mean of standardised genes", GENE: "log(1 + counts per 10,000)"}
CLIP = 0.99


@dataclass(frozen=True, slots=True)
class MeasuredSpots:
    """The spots of one slide.

    Attributes
    ----------
    centres_um : array, s 2
        Microns from the corner of the slide.
    diameter_um : float
        Of a spot.
    values : DataFrame
        A row a spot: ``signature.<name>`` and ``gene.<symbol>``.
    """

    centres_um: Float[np.ndarray, "s 2"]
    diameter_um: float
    values: pd.DataFrame

    def layers(self) -> list[Layer]:
        """Return the layers, the spots first."""
        first = Layer(SPOTS, "Spots", "measured", "spots", "share of the tile")
        return [
            first,
            *(_layer(str(name), kind) for name in self.values for kind in UNITS if str(name).startswith(kind)),
        ]

    def on_tiles(
        self, layer: Layer, tiles_um: Float[np.ndarray, "t 2"], tile_um: float
    ) -> tuple[Float[np.ndarray, "t"], float, float]:
        """Return a value per tile, NaN without a spot, and the ends of its colours."""
        weights = overlap(self.centres_um, tiles_um, tile_um, self.diameter_um).weights
        spot_area = np.pi * (self.diameter_um / 2) ** 2
        if layer.id == SPOTS:
            share = np.asarray(weights.sum(axis=0), float).ravel() * spot_area / tile_um**2
            return np.where(share > 0, share, np.nan), 0.0, float(min(share.max(initial=0.0), 1.0)) or 1.0
        values = self.values[layer.branch].to_numpy(float)
        known = np.isfinite(values)
        total = np.asarray(weights[known].sum(axis=0), float).ravel()
        sums = np.asarray(weights[known].T @ values[known], float).ravel()
        mean = np.where(total > 0, sums / np.where(total > 0, total, 1), np.nan)
        finite = mean[np.isfinite(mean)]
        if not len(finite):
            return mean, 0.0, 1.0
        low, high = np.quantile(finite, [1 - CLIP, CLIP])
        return mean, float(low), float(high if high > low else low + 1)


def read_measured_spots(store: CohortStore, slide_id: str, mpp: float, groups: GeneGroups) -> MeasuredSpots | None:
    """Read the spots of a slide; None for a slide without.

    Parameters
    ----------
    mpp : float
        Microns per level-0 pixel of the slide, in which the spots are given.
    groups : GeneGroups
        The model's genes: signatures of their own.
    """
    if not (store.folder / "spots.parquet").exists():
        return None
    table = read_spots(store.folder)
    section_id = next((name for name in _section_names(store, slide_id) if name in table.sections), None)
    if section_id is None:
        return None
    section = table.section(section_id)
    centres = section.spots[["x_px", "y_px"]].to_numpy(float) * mpp
    measured = measure_spots(section, Terms.read(), groups)
    return MeasuredSpots(centres, section.spot_diameter_um, measured)


def _section_names(store: CohortStore, slide_id: str) -> list[str]:
    """Return what the section of a slide may be called: by the table of slides, or as the group of its patient."""
    slides, patients = store.slides(), store.patients()
    rows = slides[slides["slide_id"] == slide_id]
    names = [slide_id, *section_ids(rows).astype(str)]
    if "group" in patients:
        names += patients.loc[patients["patient_id"].isin(rows["patient_id"]), "group"].astype(str).tolist()
    return names


def _layer(column: str, kind: str) -> Layer:
    """Return the layer of a column; its id stands in addresses and is a word."""
    word = re.sub(r"[^A-Za-z0-9]+", "-", column)
    return Layer(f"{PREFIX}{word}", f"Measured {column.removeprefix(kind)}", "measured", column, UNITS[kind])
