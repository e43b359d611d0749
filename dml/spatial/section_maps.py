"""The spots of one section with all that was measured, and all that a model makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dml.cohorts.spot_store import SpotTable
from dml.cohorts.store_files import section_ids
from dml.core.errors import InputError, listed
from dml.core.types import Cohort, GeneGroups
from dml.data.cohort_store import CohortStore
from dml.slides.reader import open_slide
from dml.spatial.comparison import SpotSection
from dml.spatial.comparison_tables import PREDICTED, TOKENS, map_name
from dml.spatial.measurements import Terms, measure_spots
from dml.spatial.spot_grid import SpotGrid
from dml.spatial.spot_predictions import predict_spots
from dml.spatial.tile_maps import SectionUnits, TileMap, folds_not_trained_on, map_tiles, section_units
from dml.spatial.token_origin import TokenOrigin, token_origins
from dml.training.checkpoint import FoldModel


@dataclass(frozen=True, slots=True)
class SpatialCohort:
    """The stores of a spatial cohort that a validation reads.

    Attributes
    ----------
    spots : SpotTable
        All sections; without rows for a cohort that is not spatial.
    cohort : Cohort
        The units with the features of the model's encoder.
    groups : mapping
        Unit to its group, where patients.parquet has the column.
    """

    name: str
    spots: SpotTable
    cohort: Cohort
    slides: pd.DataFrame
    manifest: pd.DataFrame
    groups: Mapping[str, str]

    @classmethod
    def of(cls, store: CohortStore, spots: SpotTable, cohort: Cohort) -> "SpatialCohort":
        """Read the tables beside spots and units that were read already."""
        patients = store.patients()
        groups = dict(zip(patients["patient_id"], patients["group"], strict=True)) if "group" in patients else {}
        return cls(store.folder.name, spots, cohort, store.slides(), store.manifest(), groups)

    def slide_of(self, section_id: str) -> tuple[Path | None, float | None]:
        """Return file and stated resolution of a section's slide."""
        groups = self.slides["patient_id"].map(self.groups)
        rows = self.slides[(section_ids(self.slides) == section_id) | (groups == section_id)]
        if rows.empty:
            known = listed(sorted(self.slides["slide_id"]), 5)
            raise InputError("slides.parquet", f"no slide of section {section_id}", f"There are: {known}")
        first = rows.iloc[0]
        path = None if pd.isna(first["path"]) else Path(str(first["path"]))
        return path, None if pd.isna(first["mpp"]) else float(first["mpp"])


@dataclass(frozen=True, slots=True)
class SectionMaps:
    """One section: its spots (n), their values, and what made them.

    Attributes
    ----------
    slide_mpp : float
        Microns per level-0 pixel of the slide; `path` is its file, None without one.
    spots : DataFrame
        section_id, patient_id, spot_id, array_x, array_y, x_um, y_um, n_counts, and region where known.
    measured, maps : DataFrame
        A column per measurement, and per map of the model.
    units, folds : int
        Number of units on the section, and of folds that were not trained on any of them.
    origins : sequence of TokenOrigin
        Of the aggregated tokens of each unit.
    """

    section_id: str
    path: Path | None
    slide_mpp: float
    stated_mpp: float | None
    spots: pd.DataFrame
    measured: pd.DataFrame
    maps: pd.DataFrame
    units: int
    folds: int
    origins: Sequence[TokenOrigin]

    @property
    def compared(self) -> SpotSection:
        """The section as the comparisons read it."""
        grid = SpotGrid.of(
            self.spots["array_x"].to_numpy(float), self.spots["array_y"].to_numpy(float), name=self.section_id
        )
        patient = str(self.spots["patient_id"].iloc[0])
        return SpotSection(self.section_id, patient, grid, pd.concat([self.measured, self.maps], axis=1))


def map_section(
    section_id: str, data: SpatialCohort, folds: Sequence[FoldModel], terms: Terms, output: str | None
) -> SectionMaps | None:
    """Measure and map one section; None if every fold was trained on one of its units.

    Raises
    ------
    InputError
        If the section has no slide, no resolution, no unit with features, or features without coordinates.
    """
    units = section_units(section_id, data.slides, data.manifest, data.groups, data.cohort)
    if not units.cases:
        raise InputError(section_id, "no features of this section", "Run: dvc repro extract_features")
    unseen = folds_not_trained_on(folds, units)
    if not unseen:
        return None
    path, stated = data.slide_of(section_id)
    mpp = _slide_mpp(section_id, path, stated)
    table = _usable(data.spots.section(section_id))
    spots_um = table.spots[["x_px", "y_px"]].to_numpy(float) * mpp
    diameter, prepared = data.spots.spot_diameter_um, unseen[0].spec.preprocessor
    tiles = map_tiles(unseen, units, data.cohort, output)
    origins = [(case.patient_id, token_origins(unseen, data.cohort.subset({case.patient_id}))) for case in units.whole]
    maps = _resample(tiles, spots_um, diameter)
    maps |= _resample_tokens(dict(origins), units, spots_um, diameter)
    maps[PREDICTED] = predict_spots(unseen, units, data.cohort, spots_um, diameter, output)
    groups = GeneGroups(prepared.tumor_genes, prepared.tme_genes)
    columns = ["section_id", "patient_id", "spot_id", "array_x", "array_y", "n_counts"]
    columns += ["region"] if "region" in table.spots else []
    spots = table.spots[columns].assign(x_um=spots_um[:, 0], y_um=spots_um[:, 1])
    measured = measure_spots(table, terms, groups)
    traced = [origin for _, each in origins for origin in each]
    counts = len(units.cases), len(unseen)
    return SectionMaps(section_id, path, mpp, stated, spots, measured, pd.DataFrame(maps), *counts, traced)


def _usable(section: SpotTable) -> SpotTable:
    """Return the spots on tissue that have counts."""
    rows = np.flatnonzero(section.spots["on_tissue"].to_numpy(bool) & (section.spots["n_counts"] > 0).to_numpy())
    spots = section.spots.iloc[rows].reset_index(drop=True)
    return SpotTable(spots, section.counts[rows], section.genes, section.spacing_um, section.spot_diameter_um)


def _slide_mpp(section_id: str, path: Path | None, stated: float | None) -> float:
    if path is not None and path.exists():
        with open_slide(path, stated) as slide:
            return float(slide.mpp)
    if stated is None:
        raise InputError(section_id, "its slide has neither file nor resolution", "Give `mpp` in the slide table")
    return stated


def _resample(tiles: Sequence[TileMap], spots_um: np.ndarray, diameter_um: float) -> dict[str, np.ndarray]:
    """Return each map at the spots per magnification, and over them: contributions summed, attention averaged."""
    maps: dict[str, np.ndarray] = {}
    levels: dict[tuple[str, str], list[np.ndarray]] = {}
    for level in tiles:
        weights = level.at(spots_um, diameter_um)
        for (branch, what), values in level.values.items():
            at_spots = weights.resample(values)
            maps[map_name(branch, what, level.mpp)] = at_spots
            levels.setdefault((branch, what), []).append(at_spots)
    for (branch, what), each in levels.items():
        maps[map_name(branch, what)] = _join_levels(what, np.array(each))
    return maps


def _join_levels(what: str, each: np.ndarray) -> np.ndarray:
    """Join the levels [m n] of a map."""
    if what == "contribution":
        return np.asarray(each.sum(0))
    return np.asarray(each.mean(0) if what == "attention" else np.sqrt(np.square(each).sum(0)))


def _resample_tokens(
    origins: Mapping[str, Sequence[TokenOrigin]], units: SectionUnits, spots_um: np.ndarray, diameter_um: float
) -> dict[str, np.ndarray]:
    """Return the origin of aggregated tokens at the spots; 1 is an equal share of the unit's tiles."""
    levels: dict[tuple[str, float], list[tuple[np.ndarray, np.ndarray, float]]] = {}
    for case in units.whole:
        for traced in origins[case.patient_id]:
            bag = next(bag for mpp, bag in case.bags.items() if abs(float(mpp) - traced.mpp) < 1e-6)
            here = np.isin(bag.slide.numpy(), list(units.slides[case.patient_id]))
            if bag.coords_um is None:
                continue
            coords, shares = bag.coords_um.double().numpy()[here], len(bag) * traced.origin[: len(bag)][here]
            levels.setdefault((traced.subspace, traced.mpp), []).append((coords, shares, float(bag.tile_um)))
    maps: dict[str, np.ndarray] = {}
    for (subspace, mpp), parts in levels.items():
        coords, shares = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        tiles = TileMap(mpp, parts[0][2], coords)
        maps[map_name(subspace, TOKENS, mpp)] = tiles.at(spots_um, diameter_um).resample(shares)
    for subspace in {subspace for subspace, _ in levels}:
        each = [values for name, values in maps.items() if name.startswith(f"{subspace}.{TOKENS}.")]
        maps[map_name(subspace, TOKENS)] = np.mean(each, axis=0)
    return maps
