"""The tables of a spatial validation: which maps are compared with which measurements.

    claims          the tumor subspace against tumor regions, the TME subspace against stroma and immune cells, each
                    less the other subspace; the prediction of a spot against tumor regions and signature
    subspaces       every map of both subspaces, at each magnification, with signatures, proportions and regions
    genes           the maps of both subspaces with single genes
    magnifications  the map of the finest with that of the coarsest magnification
    predictions     the prediction of a spot with all that is measured
    tokens          where aggregated tokens come from, with signatures, proportions and regions

p-values are corrected within each table.
"""

from collections.abc import Collection, Sequence

from dml.cohorts.spot_store import PROPORTION
from dml.core.types import SUBSPACES
from dml.spatial.comparison import Comparison, Statistic
from dml.spatial.measurements import GENE, REGION_PREFIX, SIGNATURE, STROMA_AND_IMMUNE, TUMOR_REGIONS

TESTED = ("attention", "contribution")
"""What is compared of a map; the deviation over members is in spots.parquet only."""
PREDICTED, TOKENS = "predicted", "tokens"
TME_SIGNATURES = ("signature.stroma", "signature.immune")


def map_name(branch: str, what: str, mpp: float | None = None) -> str:
    """Name of the column of a map; without magnification it is the mean or sum over them.

    Examples
    --------
    >>> map_name("tumor", "attention", 0.7), map_name("tme", "contribution")
    ('tumor.attention.0.7', 'tme.contribution')
    """
    return f"{branch}.{what}" if mpp is None else f"{branch}.{what}.{mpp:g}"


def make_tables(columns: Collection[str], mpps: Sequence[float]) -> dict[str, list[Comparison]]:
    """Return the comparisons of each table, as far as there are maps and measurements."""
    prefixes = (SIGNATURE, PROPORTION, REGION_PREFIX)
    measured = [name for name in columns if name.startswith(prefixes) and name != TUMOR_REGIONS]
    genes = [name for name in columns if name.startswith(GENE)]
    levels = [None, *mpps] if len(mpps) > 1 else [None]
    maps = [map_name(s, what, mpp) for what in TESTED for mpp in levels for s in SUBSPACES]
    tokens = [map_name(s, TOKENS, mpp) for mpp in levels for s in SUBSPACES]
    tables = {
        "claims": _claims(columns),
        "subspaces": [_against(m, y) for y in measured for m in maps],
        "genes": [_against(map_name(s, what), y) for y in genes for what in TESTED for s in SUBSPACES],
        "magnifications": _agreement(mpps),
        "predictions": [_against(PREDICTED, y) for y in [*measured, *genes]],
        "tokens": [_against(m, y) for y in measured for m in tokens],
    }
    available = {name: [c for c in rows if _is_available(c, columns)] for name, rows in tables.items()}
    return {name: rows for name, rows in available.items() if rows}


def _claims(columns: Collection[str]) -> list[Comparison]:
    tumor = TUMOR_REGIONS if TUMOR_REGIONS in columns else f"{SIGNATURE}tumor"
    tme = [STROMA_AND_IMMUNE] if STROMA_AND_IMMUNE in columns else list(TME_SIGNATURES)
    rows = []
    for subspace, other, truths in (("tumor", "tme", [tumor]), ("tme", "tumor", tme)):
        for truth in truths:
            for what in TESTED:
                first, second = map_name(subspace, what), map_name(other, what)
                rows += [_against(first, truth), _against(first, truth, less=second)]
    return [*rows, *(_against(PREDICTED, truth) for truth in dict.fromkeys([tumor, f"{SIGNATURE}tumor"]))]


def _agreement(mpps: Sequence[float]) -> list[Comparison]:
    if len(mpps) < 2:
        return []
    fine, coarse = min(mpps), max(mpps)
    return [Comparison(map_name(s, w, fine), map_name(s, w, coarse)) for s in SUBSPACES for w in (*TESTED, TOKENS)]


def _against(name: str, measurement: str, less: str | None = None) -> Comparison:
    statistic: Statistic = "auc" if measurement.startswith(REGION_PREFIX) else "spearman"
    return Comparison(name, measurement, statistic, less)


def _is_available(comparison: Comparison, columns: Collection[str]) -> bool:
    names = {comparison.map, comparison.measurement, comparison.less or comparison.map}
    return names <= set(columns)
