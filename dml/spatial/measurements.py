"""What was measured at the spots of one section: signatures, genes, proportions of cell types, regions.

    expression = log(1 + 10,000 count / library size);  signature = mean over its genes of (expression - mean) / SD

Mean and SD are over the spots of the section. Shape legend: n spots, g genes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pandas as pd
import yaml
from jaxtyping import Float

from dml.cohorts.spot_store import PROPORTION, REGION, SpotTable
from dml.core.types import GeneGroups

COUNTS_PER = 10_000.0
MIN_GENES = 3
"""Least genes of a signature that are counted in the section."""
MIN_SPOTS_OF_GENE = 5
"""Least spots with a count for a gene to be used."""
SIGNATURE, GENE, REGION_PREFIX = "signature.", "gene.", "region."
TUMOR_REGIONS, STROMA_AND_IMMUNE = "region.tumor", "proportion.stroma + immune"
"""Union of all regions that are named as tumor; sum of the proportions of stromal and immune cells."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Content of measurements.yaml: genes of each signature, single genes, parts of names of regions and cell types."""

    source: str
    signatures: Mapping[str, Sequence[str]]
    genes: Sequence[str]
    regions: Mapping[str, Sequence[str]]
    cell_types: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls) -> "Terms":
        """Read the file of this package."""
        return cls(**yaml.safe_load(files("dml.spatial").joinpath("measurements.yaml").read_text(encoding="utf-8")))

    def region_is(self, kind: str, name: str) -> bool:
        """Whether a region is named as ``tumor``, ``adipose`` or ``unknown``."""
        return _matches(name, self.regions[kind])

    def cell_types_of(self, kind: str, names: Iterable[str]) -> list[str]:
        """Return the cell types that are named as ``tumor``, ``immune`` or ``stroma``."""
        return [name for name in names if _matches(name, self.cell_types[kind])]


def _matches(name: str, parts: Sequence[str]) -> bool:
    return any(part in name.lower() for part in parts)


def measure_spots(section: SpotTable, terms: Terms, groups: GeneGroups) -> pd.DataFrame:
    """Return a column per signature, gene, proportion and region of one section, a row a spot.

    Parameters
    ----------
    section : SpotTable
        Of one section.
    groups : GeneGroups
        The model's genes: signatures of their own.

    Returns
    -------
    DataFrame
        ``signature.<name>`` and ``gene.<symbol>`` (missing where too few genes are counted); ``proportion.<cell type>``
        and their sum over stroma and immune, NaN in adipose regions, whose cells the reference of a deconvolution
        often lacks; ``region.<name>`` is 1 inside, 0 in other regions, NaN where the region is unknown.
    """
    expression = _Expression(section)
    columns: dict[str, np.ndarray] = {}
    model = {"tumor genes of the model": groups.tumor, "TME genes of the model": groups.tme}
    for name, genes in {**terms.signatures, **model}.items():
        if (score := expression.score(genes)) is not None:
            columns[f"{SIGNATURE}{name}"] = score
    for gene in terms.genes:
        if (values := expression.gene(gene)) is not None:
            columns[f"{GENE}{gene}"] = values
    regions: pd.Series | None = section.spots.get(REGION)
    columns |= {} if regions is None else _regions(regions, terms)
    return pd.DataFrame({**columns, **_proportions(section, regions, terms)}, index=section.spots.index)


class _Expression:
    """Log-normalised expression of the genes of one section, one gene at a time."""

    def __init__(self, section: SpotTable) -> None:
        self._columns = {gene: i for i, gene in enumerate(section.genes)}
        self._counts = section.counts.tocsc()
        self._library = np.asarray(section.counts.sum(axis=1), float).ravel()

    def gene(self, symbol: str) -> Float[np.ndarray, "n"] | None:
        """Return the expression of a gene, None if it is counted in too few spots."""
        if symbol not in self._columns:
            return None
        counts = np.asarray(self._counts[:, [self._columns[symbol]]].todense(), float).ravel()
        if (counts > 0).sum() < MIN_SPOTS_OF_GENE:
            return None
        share = np.divide(counts, self._library, out=np.full(len(counts), np.nan), where=self._library > 0)
        return np.asarray(np.log1p(COUNTS_PER * share))

    def score(self, genes: Sequence[str]) -> Float[np.ndarray, "n"] | None:
        """Return the mean of the standardised genes, None if too few are counted."""
        counted = [values for gene in genes if (values := self.gene(gene)) is not None and np.nanstd(values) > 0]
        if len(counted) < MIN_GENES:
            return None
        standardised = [(values - np.nanmean(values)) / np.nanstd(values) for values in counted]
        return np.asarray(np.mean(standardised, axis=0))


def _regions(regions: pd.Series, terms: Terms) -> dict[str, np.ndarray]:
    known = regions.notna().to_numpy() & ~np.array(
        [terms.region_is("unknown", name) for name in regions.fillna("")], bool
    )
    names = sorted(regions[known].unique())
    columns = {f"{REGION_PREFIX}{name}": (regions == name).to_numpy() for name in names}
    if tumor := [name for name in names if terms.region_is("tumor", name)]:
        columns[TUMOR_REGIONS] = regions.isin(tumor).to_numpy()
    return {name: np.where(known, inside, np.nan).astype(float) for name, inside in columns.items()}


def _proportions(section: SpotTable, regions: pd.Series | None, terms: Terms) -> dict[str, np.ndarray]:
    names = section.cell_types
    masked = np.zeros(len(section.spots), bool)
    if regions is not None:
        masked = np.array([terms.region_is("adipose", name) for name in regions.fillna("")], bool)
    columns = {
        f"{PROPORTION}{name}": np.where(masked, np.nan, section.spots[f"{PROPORTION}{name}"].to_numpy(float))
        for name in names
    }
    if micro := [*terms.cell_types_of("stroma", names), *terms.cell_types_of("immune", names)]:
        columns[STROMA_AND_IMMUNE] = np.sum([columns[f"{PROPORTION}{name}"] for name in micro], axis=0)
    return columns
