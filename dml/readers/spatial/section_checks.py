"""Spots and counts of one slide made one: matched by id, checked to be counts, empty spots left out.

What is left out is reported; what cannot be meant is refused with file, spot or gene, and remedy.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from dml.core.errors import InputError, listed
from dml.readers.joins import Join, match_ids
from dml.readers.spatial.spatial_format import SpatialSection

logger = logging.getLogger(__name__)

ENSEMBL = re.compile(r"^ENS[A-Z]*G\d{11}(?:\.\d+)?$")
"""An Ensembl id of a gene, of any species."""
MAX_LOG = 25.0
"""Largest cell of a table of logarithms (natural or binary): counts of a gene that is seen at all exceed it."""
MAX_EMPTY = 0.5
"""Share of spots without a count from which a table is refused."""


def align_section(section: SpatialSection, min_matched: float) -> SpatialSection:
    """Match spots with counts by id, and leave out spots of one side only and spots without a count.

    Parameters
    ----------
    section : SpatialSection
        As a format reads it.
    min_matched : float
        Share of the spots, and of the rows of counts, that must have a partner.

    Raises
    ------
    InputError
        If too few match (both numbers, both spellings), the counts are negative, no whole numbers or logarithms, or
        most spots are empty.
    """
    spots = section.spots.reset_index(drop=True)
    join = match_ids("spots to counts", spots["spot_id"], section.spot_ids)
    _check_join(section, join, min_matched)
    check_counts(section)
    row_of = {name: row for row, name in enumerate(section.spot_ids)}
    matched = spots["spot_id"].isin(row_of)
    spots = spots[matched].reset_index(drop=True)
    counts = section.counts[[row_of[name] for name in spots["spot_id"]]]
    empty = np.asarray(counts.sum(axis=1)).ravel() == 0
    if empty.mean() > MAX_EMPTY:
        problem = f"{empty.sum()} of {len(empty)} spots have no count at all: {listed(list(spots['spot_id'][empty]))}"
        raise InputError(section.where, problem, "Are these the counts of this section? Export the raw counts again")
    if empty.any():
        logger.warning("%s: %s left out, without a count", section.where, _name_spots(spots["spot_id"][empty]))
    spots = spots[~empty].reset_index(drop=True)
    return replace(section, spots=spots, spot_ids=tuple(spots["spot_id"]), counts=counts[~empty])


def _check_join(section: SpatialSection, join: Join, min_matched: float) -> None:
    shares = {"spots": join.matched / max(join.left, 1), "rows of counts": join.matched / max(join.right, 1)}
    if not join.matched or min(shares.values()) < min_matched:
        problem = (
            f"{join.matched} of {join.left} spots of {section.where_spots} are among its {join.right} rows; "
            f"without partner: {join.format_examples()}"
        )
        hint = f" ({join.hint})" if join.hint else ""
        remedy = f"Are these the counts of another section? Else correct the ids{hint}, or lower spatial.min_matched"
        raise InputError(section.where, problem, remedy)
    if left := join.left - join.matched:
        logger.warning("%s: %d of %d spots have no counts and are left out: %s", section.where_spots, left, join.left,
                       listed(join.only_left))  # fmt: skip
    if right := join.right - join.matched:
        logger.warning("%s: %d of %d rows are of no spot and are left out: %s", section.where, right, join.right,
                       listed(join.only_right))  # fmt: skip


def check_counts(section: SpatialSection) -> None:
    """Refuse what are no counts: negative or infinite cells, cells that are no whole numbers, logarithms.

    Raises
    ------
    InputError
        Naming spot and gene of the first such cell, and how many there are.
    """
    values = section.counts.data
    infinite = ~np.isfinite(values)
    if infinite.any():
        raise InputError(section.where, f"{_name_cells(section, infinite)} not finite", "Export the raw counts again")
    if (negative := values < 0).any():
        remedy = "Give raw counts, not values that were scaled or corrected"
        raise InputError(section.where, f"{_name_cells(section, negative)} negative", remedy)
    broken = values != np.round(values)
    if not broken.any():
        return
    largest = float(values.max())
    if largest < MAX_LOG and broken.mean() > 0.5:
        problem = f"logarithms, not counts: {_name_cells(section, broken)} not whole, and the largest is {largest:.3g}"
    else:
        problem = f"no counts: {_name_cells(section, broken)} not whole numbers"
    raise InputError(section.where, problem, "Give raw counts, neither normalised nor logged")


def _name_cells(section: SpatialSection, wrong: np.ndarray) -> str:
    """Return how many cells a mask of the stored values marks, and the spot, gene and value of the first."""
    first = int(np.argmax(wrong))
    row = int(np.searchsorted(section.counts.indptr, first, side="right")) - 1
    spot, gene = section.spot_ids[row], section.genes[section.counts.indices[first]]
    count = int(wrong.sum())
    value = section.counts.data[first]
    return f"{count} cell{'s are' if count > 1 else ' is'} (first: spot {spot}, gene {gene}: {value:g})"


def check_symbols(where: Any, genes: Iterable[str]) -> None:
    """Refuse genes that are Ensembl ids.

    Raises
    ------
    InputError
        Naming the setting that turns them into symbols.
    """
    names = list(genes)
    ids = [name for name in names if ENSEMBL.match(name)]
    if len(ids) > len(names) / 2:
        problem = f"its genes are Ensembl ids: {listed(ids, 3)}"
        remedy = "Say `symbols: approved` under `spatial`: ids become HGNC symbols; or give a table with symbols"
        raise InputError(where, problem, remedy)


def _name_spots(spots: Any) -> str:
    names = list(spots)
    return f"{len(names)} spot{'s' if len(names) > 1 else ''} ({listed(names)})"
