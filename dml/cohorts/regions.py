"""Square regions of sections as learning units: tiles inside one field, the summed counts of its spots, its targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64
from scipy.sparse import csr_matrix

from dml.cohorts.description import CohortDescription
from dml.cohorts.gene_groups import declare_gene_groups
from dml.cohorts.provenance import Ledger, Record
from dml.cohorts.slide_table import build_slides
from dml.cohorts.spot_resolution import fill_resolution
from dml.cohorts.spot_store import SpotTable
from dml.cohorts.store_files import ExpressionMatrix
from dml.cohorts.stores import CohortTables
from dml.core.errors import ConfigError, InputError, listed
from dml.core.types import GeneGroups
from dml.genes.gene_symbols import rename
from dml.readers.region_units import RegionTarget, RegionUnits
from dml.slides.reader import open_slide

UNIT = "log2_cpm"
"""Unit of the expression of a region: log2(counts per million + 1) of the summed counts of its spots."""


@dataclass(frozen=True, slots=True)
class SectionImage:
    """Width and height in level-0 pixels, and microns per pixel, of a section's image."""

    width: int
    height: int
    mpp: float


def build_region_cohort(description: CohortDescription, table: SpotTable) -> CohortTables:
    """Build the tables of a cohort whose patients are regions of sections (`spatial.regions`).

    Parameters
    ----------
    description : CohortDescription
        With `spatial.regions`; its slides are the sections.
    table : SpotTable
        The spots of all sections.

    Raises
    ------
    ConfigError
        If it has tables of patients or an expression matrix beside its regions.
    InputError
        If a section's image cannot be read, no region has enough spots, or a target is not measured.
    """
    units = description.spatial.regions if description.spatial else None
    if units is None or description.patients or description.expression or description.labels:
        problem = "spatial.regions: regions are the patients, their counts the expression, their `targets` the labels"
        raise ConfigError(f"{description.name}: {problem}; remove patients, expression and labels")
    ledger = Ledger()
    sections = fill_resolution(build_slides(description), description, table.spots)
    images = {row["slide_id"]: _open_image(row) for _, row in sections.iterrows()}
    regions = assign_regions(table, {name: image.mpp for name, image in images.items()}, units)
    if regions.empty:
        problem = f"no region of {units.size_um:g} microns has {units.min_spots} spots on tissue"
        raise InputError("spots.parquet", problem, "Lower spatial.regions.min_spots, or raise size_um")
    expression = sum_counts(table, regions)
    groups = declare_gene_groups(description, expression.genes)
    patients = region_patients(table, regions, expression, units, groups.groups, ledger)
    slides = region_slides(regions, sections, images, units)
    classes = {name: target.classes for name, target in units.targets.items()}
    return CohortTables(patients, slides, expression, groups, classes, ledger)


def assign_regions(table: SpotTable, mpps: Mapping[str, float], units: RegionUnits) -> pd.DataFrame:
    """Assign the spots on tissue to the regions of a grid that begins half a spacing before each section's first spot.

    Parameters
    ----------
    table : SpotTable
        The spots.
    mpps : mapping
        Microns per level-0 pixel of each section.
    units : RegionUnits
        Side of a region, least number of spots.

    Returns
    -------
    DataFrame
        Index: rows of the spots. Columns unit (``<section>_r<row>c<column>``), section_id, patient_id, and the corner
        x0_px, y0_px of the region in level-0 pixels; spots of regions with too few of them have no row.
    """
    tissue = table.spots[table.spots["on_tissue"]]
    mpp = tissue["section_id"].map(mpps)
    parts = tissue[["section_id", "patient_id"]].copy()
    for axis, letter in (("y", "r"), ("x", "c")):
        position = tissue[f"{axis}_px"] * mpp
        first = (position.groupby(tissue["section_id"]).transform("min") - table.spacing_um / 2).clip(lower=0)
        cell = ((position - first) // units.size_um).astype(int)
        parts[f"{axis}0_px"] = (first + cell * units.size_um) / mpp
        parts[letter] = cell
    names = zip(parts["section_id"], parts.pop("r"), parts.pop("c"), strict=True)
    parts.insert(0, "unit", [f"{section}_r{r:02d}c{c:02d}" for section, r, c in names])
    counts = parts["unit"].map(parts["unit"].value_counts())
    return parts[counts.to_numpy() >= units.min_spots]


def sum_counts(table: SpotTable, regions: pd.DataFrame) -> ExpressionMatrix:
    """Return the pseudo-bulk expression of each region, log2(CPM + 1), genes by approved symbol.

    Raises
    ------
    InputError
        If a region has no counts at all.
    """
    ids = sorted(set(regions["unit"]))
    row = pd.Series(range(len(ids)), index=ids)[regions["unit"]].to_numpy()
    select = csr_matrix((np.ones(len(regions)), (row, regions.index.to_numpy())), (len(ids), len(table.spots)))
    names = rename(list(table.genes)).names
    genes = sorted(set(names))
    column = pd.Series(range(len(genes)), index=genes)[names].to_numpy()
    merge = csr_matrix((np.ones(len(names)), (np.arange(len(names)), column)), (len(names), len(genes)))
    counts = np.asarray((select @ table.counts @ merge).todense(), np.float64)
    total = counts.sum(axis=1)
    if (total <= 0).any():
        problem = f"no counts in the regions {listed([ids[i] for i in np.flatnonzero(total <= 0)])}"
        raise InputError("spatial.counts", problem, "Is it the count table of this section? Or raise regions.min_spots")
    values = np.log2(counts / total[:, None] * 1e6 + 1)
    return ExpressionMatrix(tuple(ids), tuple(genes), values.astype(np.float32), UNIT, "summed counts of spots")


def region_slides(
    regions: pd.DataFrame, slides: pd.DataFrame, images: Mapping[str, SectionImage], units: RegionUnits
) -> pd.DataFrame:
    """Return one slide a region: the file of its section, and the region as its only field.

    Parameters
    ----------
    regions : DataFrame
        As `assign_regions` returns them.
    slides : DataFrame
        The sections: slide_id, path, mpp (stated; the file counts where it says one).
    images : mapping
        Size and resolution of each section's image.

    Returns
    -------
    DataFrame
        Columns of `slides`, section_id, and fields_px: ``[[x0, y0, width, height]]`` in level-0 pixels, inside the
        image.
    """
    corners = regions.groupby("unit", sort=True).first()
    section = slides.set_index("slide_id")
    rows = corners[["section_id"]].join(section, on="section_id")
    boxes = np.empty(len(corners), dtype=object)
    columns = corners["section_id"], corners["x0_px"].round().astype(int), corners["y0_px"].round().astype(int)
    for i, (section_id, x0, y0) in enumerate(zip(*columns, strict=True)):
        image = images[section_id]
        side = round(units.size_um / image.mpp)
        boxes[i] = [[x0, y0, min(side, image.width - x0), min(side, image.height - y0)]]
    rows = rows.assign(fields_px=boxes, patient_id=rows.index).rename_axis("slide_id").reset_index()
    return rows[[*slides.columns, *(c for c in ("section_id", "fields_px") if c not in slides.columns)]]


def region_patients(
    table: SpotTable, regions: pd.DataFrame, expression: ExpressionMatrix, units: RegionUnits, groups: GeneGroups,
    ledger: Ledger,
) -> pd.DataFrame:  # fmt: skip
    """Return one row a region in the form of a table of patients: group, site (its section), and its targets.

    Raises
    ------
    InputError
        If a target asks for annotations, cell types or genes that are not there.
    """
    first = regions.groupby("unit", sort=True)[["section_id", "patient_id"]].first()
    columns = {
        "patient_id": first.index.to_numpy(str),
        "site": first["section_id"].to_numpy(str),
        "group": first["section_id" if units.group == "section" else "patient_id"].to_numpy(str),
        "survival_days": np.nan,
        "event": None,
        "survival_source": None,
        "age": np.nan,
        "sex": np.nan,
    }
    for name, target in units.targets.items():
        columns[name] = _measure(name, target, table, regions, expression, groups)
    number = regions["unit"].value_counts().to_dict()
    ledger.add(
        Record(unit, "slide", "used", f"{number[unit]} spots", "spatial.spots", section, None, "region of a section")
        for unit, section in zip(first.index.to_list(), first["section_id"].to_list(), strict=True)
    )
    patients = pd.DataFrame(columns)
    patients["event"] = patients["event"].astype(object)
    return patients


def _measure(
    name: str, target: RegionTarget, table: SpotTable, regions: pd.DataFrame, expression: ExpressionMatrix,
    groups: GeneGroups,
) -> Sequence[object]:  # fmt: skip
    """Return the target of each region, in the order of their names."""
    if target.kind == "signature":
        return list(_signature(name, target.values, expression, groups))
    spots = table.spots.loc[regions.index]
    known = pd.Series(True, index=spots.index)
    if target.without or target.kind in ("share", "dominant"):
        _require(name, ["region"], spots.columns)
        known &= ~spots["region"].isin(target.without)
    if target.kind == "proportion":
        wanted = [f"proportion.{cell}" for cell in target.values]
        _require(name, wanted, spots.columns)
        value = spots[wanted].sum(axis=1, min_count=len(wanted))
    else:
        _require(name, target.values, set(spots["region"].dropna()), f"spatial.regions.targets.{name}.values")
        value = spots["region"].isin(target.values).astype(float)
        known &= spots["region"].notna()
    known &= value.notna()
    unit = regions["unit"]
    number = known.groupby(unit).sum().sort_index()
    if target.kind == "dominant":
        return _dominant(target, spots["region"].where(known), unit, number)
    mean = value.where(known).groupby(unit).mean().sort_index()
    return list(mean.where(number.to_numpy(int) >= target.min_spots).to_numpy(np.float64))


def _dominant(target: RegionTarget, region: pd.Series, unit: pd.Series, number: pd.Series) -> list[object]:
    counts = pd.crosstab(unit, region).reindex(index=number.index, columns=list(target.values), fill_value=0)
    share = counts.max(axis=1) / number.clip(lower=1)
    enough = (number.to_numpy(int) >= target.min_spots) & (share >= target.min_share).to_numpy()
    enough &= counts.max(axis=1).to_numpy(int) > 0
    return [name if good else None for name, good in zip(counts.idxmax(axis=1), enough, strict=True)]


def _signature(
    name: str, values: Sequence[str], expression: ExpressionMatrix, groups: GeneGroups
) -> Float64[np.ndarray, "u"]:
    wanted: Sequence[str] = getattr(groups, values[0]) if values[0] in ("tumor", "tme") else rename(list(values)).names
    at = {gene: i for i, gene in enumerate(expression.genes)}
    measured = [at[gene] for gene in wanted if gene in at]
    if not measured:
        problem = f"target {name}: none of its {len(wanted)} genes is measured: {listed(sorted(wanted))}"
        raise InputError("spatial.counts", problem, f"Correct spatial.regions.targets.{name}.values")
    matrix: Float[np.ndarray, "u g"] = expression.values[:, measured]
    return np.asarray(matrix.mean(axis=1), np.float64)


def _require(target: str, wanted: Sequence[str], there: object, where: str = "spatial.annotations") -> None:
    present = set(there)  # type: ignore[call-overload]
    if absent := [name for name in wanted if name not in present]:
        problem = f"target {target}: no {listed(absent)}; there are {listed(sorted(map(str, present)))}"
        raise InputError(where, problem, "Correct the names, or describe the annotation")


def _open_image(section: pd.Series) -> SectionImage:
    stated = None if pd.isna(section["mpp"]) else float(section["mpp"])
    source = section.get("mpp_from")
    with open_slide(Path(section["path"]), stated, None if pd.isna(source) else source) as slide:
        return SectionImage(*slide.dimensions, slide.mpp)
