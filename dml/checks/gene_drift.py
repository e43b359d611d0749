"""Differences of every gene between each group of patients and all others, with one sort a gene for all groups.

The empirical distribution of a group and that of the others are counted along the sorted values of a gene, so that the
Kolmogorov-Smirnov statistic of a further group costs a sum and no sort.

Shape legend: n patients, g genes of a part, s groups.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from dml.checks.drift_size import difference
from dml.cohorts.store_files import ExpressionMatrix

GENES_AT_A_TIME = 512
"""Columns that are sorted together, so that memory does not grow with the genes."""
WINSOR_PERCENTILES = (1, 99)
"""Percentiles of all patients at which each gene is held: published z-scores reach 3,515."""


def compare_genes_by_group(
    expression: ExpressionMatrix, groups: Mapping[str, Bool[np.ndarray, "n"]]
) -> dict[str, pd.DataFrame]:
    """Compare each group with all others, gene by gene.

    Parameters
    ----------
    expression : ExpressionMatrix
        Of all patients.
    groups : mapping
        Name to the patients that belong to the group; none may be empty or everybody.

    Returns
    -------
    dict of DataFrame
        As `dml.checks.drift.compare_genes`: gene, mean_a (others), mean_b (the group), d, ks, by falling size of d.
    """
    order = np.argsort(np.array(expression.genes, dtype=object), kind="stable")
    parts: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in groups}
    for start in range(0, len(order), GENES_AT_A_TIME):
        columns = order[start : start + GENES_AT_A_TIME]
        values = expression.values[:, columns].astype(np.float64)
        values = values.clip(*np.percentile(values, WINSOR_PERCENTILES, axis=0))
        ranks, ends = _sort(values)
        for name, is_member in groups.items():
            first, second = values[~is_member], values[is_member]
            means = {"mean_a": first.mean(axis=0), "mean_b": second.mean(axis=0)}
            parts[name].append({**means, "d": difference(first, second), "ks": _ks(is_member, ranks, ends)})
    genes = [expression.genes[i] for i in order]
    return {name: _sorted_table(genes, each) for name, each in parts.items()}


def _sort(values: Float[np.ndarray, "n g"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of each column (n g), and where a run of equal values ends in it."""
    ranks = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, ranks, axis=0)
    ends = np.ones(values.shape, bool)
    ends[:-1] = ordered[1:] != ordered[:-1]
    return ranks, ends


def _ks(is_member: Bool[np.ndarray, "n"], ranks: np.ndarray, ends: np.ndarray) -> Float[np.ndarray, "g"]:
    """Return the largest distance between the distributions of members and others, for each gene."""
    members = np.cumsum(is_member[ranks], axis=0)
    count, total = int(is_member.sum()), len(is_member)
    others = np.arange(1, total + 1)[:, None] - members
    return np.asarray(np.where(ends, np.abs(others / (total - count) - members / count), 0.0).max(axis=0))


def _sorted_table(genes: list[str], parts: list[dict[str, np.ndarray]]) -> pd.DataFrame:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in ("mean_a", "mean_b", "d", "ks")}
    table = pd.DataFrame({"gene": genes, **columns})
    return table.iloc[np.lexsort((table["gene"], -table["d"].abs()))].reset_index(drop=True)
