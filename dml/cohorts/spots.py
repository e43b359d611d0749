"""The spots of a spatial cohort: every section read, its genes named, its annotations joined."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from dml.cohorts.description import CohortDescription
from dml.cohorts.slide_table import build_slides
from dml.cohorts.spot_store import PROPORTION, REGION, SpotTable, empty_spots, stack_spots
from dml.core.errors import InputError, listed
from dml.genes.gene_symbols import rename
from dml.readers.columns import Column
from dml.readers.joins import match_ids
from dml.readers.spatial.section_checks import align_section, check_symbols
from dml.readers.spatial.spatial_format import ProportionTable, RegionTable, SpatialFormat, SpatialSection, fill_slide
from dml.readers.table_files import keys, numbers, read_table, rows

logger = logging.getLogger(__name__)


def build_spots(description: CohortDescription) -> SpotTable:
    """Read the spots and counts of all slides of a cohort; without `spatial` there are none.

    Raises
    ------
    InputError
        If a slide has no file, its spots and counts are not of one section, or the counts are no raw counts by symbol.
    """
    spatial = description.spatial
    if spatial is None:
        return empty_spots()
    slides = build_slides(description)
    pairs = list(zip(slides["slide_id"], slides["patient_id"], strict=True))
    if not pairs:
        raise InputError(description.raw_folder, "the cohort has no slide", "Spots need `slides` in the description")
    parts = [_read(description.raw_folder, spatial, slide, patient) for slide, patient in pairs]
    return stack_spots(parts)


def _read(raw: Path, spatial: SpatialFormat, slide_id: str, patient_id: str) -> SpotTable:
    section = align_section(spatial.read_tables(raw, slide_id), spatial.min_matched)
    genes = _name_genes(section, spatial)
    spots = section.spots.assign(
        section_id=slide_id,
        patient_id=patient_id,
        n_counts=np.asarray(section.counts.sum(axis=1), np.float64).ravel(),
        n_genes=section.counts.getnnz(axis=1).astype(np.int64),
    )
    spots = _annotate(spots, raw, spatial, slide_id)
    logger.info(
        "%s: %d spots, %d genes, median count %d", slide_id, len(spots), len(set(genes)), spots["n_counts"].median()
    )
    return SpotTable(spots, section.counts, genes, spatial.spacing_um, spatial.spot_diameter_um)


def _name_genes(section: SpatialSection, spatial: SpatialFormat) -> tuple[str, ...]:
    if spatial.symbols == "approved":
        renaming = rename(section.genes)
        logger.info("%s: genes: %s", section.where, renaming.format_line())
        return tuple(renaming.names)
    check_symbols(section.where, section.genes)
    return section.genes


def _annotate(spots: pd.DataFrame, raw: Path, spatial: SpatialFormat, slide_id: str) -> pd.DataFrame:
    region, proportions = spatial.annotations.region, spatial.annotations.proportions
    if region is not None:
        spots[REGION] = _read_regions(raw, region, slide_id).reindex(spots["spot_id"]).to_numpy()
    if proportions is None:
        return spots
    shares = _read_proportions(raw, proportions, slide_id)
    _tell_unmatched(raw / fill_slide(proportions.file, slide_id), shares.index, spots["spot_id"])
    shares = shares.reindex(spots["spot_id"]).set_axis(spots.index)
    if proportions.unknown_in:
        shares = shares.mask(spots[REGION].isin(proportions.unknown_in))
    return spots.join(shares.add_prefix(PROPORTION))


def _read_regions(raw: Path, spec: RegionTable, slide_id: str) -> pd.Series:
    path, frame, ids = _of_slide(raw, spec.file, spec.section, spec.spot, slide_id)
    if spec.column not in frame:
        raise InputError(
            path, f"no column {spec.column!r}; it has {listed(list(frame.columns), 12)}", "Correct `column`"
        )
    cells = frame[spec.column].str.strip()
    return pd.Series(cells.where(cells != "").to_numpy(), index=ids.to_numpy(), dtype=object)


def _read_proportions(raw: Path, spec: ProportionTable, slide_id: str) -> pd.DataFrame:
    path, frame, ids = _of_slide(raw, spec.file, spec.section, spec.spot, slide_id)
    names = [name for name in frame.columns if name not in (ids.name, spec.section)]
    shares = pd.DataFrame({str(name): numbers(frame[name], path) for name in names})
    wrong = ((shares < 0) | (shares > 1)).any(axis=1)
    if wrong.any():
        raise InputError(path, f"shares of cells below 0 or above 1 in {rows(wrong)}", "Give shares of a whole of 1")
    return shares.set_axis(ids.to_numpy(), axis=0)


def _of_slide(
    raw: Path, file: str, section: str | None, spot: str | None, slide_id: str
) -> tuple[Path, pd.DataFrame, pd.Series]:
    """Read the rows of one slide of a table by spot, and their spot ids."""
    path = raw / fill_slide(file, slide_id)
    frame = read_table(path)
    if section is not None:
        frame = frame[keys(frame, path, Column(column=section)) == slide_id]
        if frame.empty:
            raise InputError(path, f"column {section!r} has no row of {slide_id}", "Correct the column or its cells")
    ids = keys(frame, path, Column(column=str(frame.columns[0]) if spot is None else spot))
    if (again := ids.duplicated(keep=False)).any():
        raise InputError(
            path, f"repeated spots: {listed(sorted(set(ids[again])))} in {rows(again)}", "Delete one of each"
        )
    return path, frame, ids


def _tell_unmatched(path: Path, annotated: pd.Index, spots: pd.Series) -> None:
    join = match_ids("annotation", annotated, spots)
    if not join.matched:
        problem = f"none of its {join.left} spots is one of the section's {join.right}: {join.format_examples()}"
        raise InputError(path, problem, f"Correct the ids{f' ({join.hint})' if join.hint else ''}, or the file")
    if join.matched < join.right:
        logger.warning("%s: %d of %d spots are not in it", path, join.right - join.matched, join.right)
