"""How maps, measurements and statistics are named on the page."""

from dml.cohorts.spot_store import PROPORTION
from dml.spatial.comparison import Comparison
from dml.spatial.comparison_tables import PREDICTED
from dml.spatial.measurements import GENE, REGION_PREFIX, SIGNATURE, TUMOR_REGIONS

BRANCHES = {"tumor": "tumor subspace", "tme": "TME subspace", "linear": "linear offset", "total": "all branches"}
WHATS = {"tokens": "origin of tokens"}
STATISTICS = {"spearman": "Spearman correlation", "auc": "AUC"}


def label(column: str) -> str:
    """Return the name of a map or measurement in words.

    Examples
    --------
    >>> label("tme.contribution.1.4"), label("region.connective tissue"), label("signature.immune")
    ('TME subspace, contribution at 1.4 µm/px', 'region: connective tissue', 'immune signature')
    """
    if column == PREDICTED:
        return "prediction of the spot alone"
    if column == TUMOR_REGIONS:
        return "tumor regions"
    for prefix, text in ((REGION_PREFIX, "region: {}"), (SIGNATURE, "{} signature"), (GENE, "{}")):
        if column.startswith(prefix):
            name = column.removeprefix(prefix)
            return name if name.endswith("of the model") else text.format(name)
    if column.startswith(PROPORTION):
        return f"proportion of {column.removeprefix(PROPORTION)}"
    branch, what, *mpp = column.split(".", 2)
    at = f" at {mpp[0]} µm/px" if mpp else ""
    return f"{BRANCHES.get(branch, branch)}, {WHATS.get(what, what)}{at}"


def compared(comparison: Comparison) -> str:
    """Return what is compared in words: the map, less another, against the measurement."""
    less = "" if comparison.less is None else f" less {label(comparison.less)}"
    return f"{label(comparison.map)}{less}, against {label(comparison.measurement)}"
