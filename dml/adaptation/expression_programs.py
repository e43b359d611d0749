"""What an encoder is adapted to predict: principal components of expression, and the scores of tumor and TME genes.

Shape legend: n spots, g genes, k programs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from sklearn.decomposition import PCA

from dml.core.errors import InputError
from dml.core.types import SUBSPACES, GeneGroups
from dml.spatial.measurements import COUNTS_PER

MIN_GENES = 3
"""Measured genes that a group needs for a score."""


def log_counts(counts: Any) -> Float[np.ndarray, "n g"]:
    """Return log(1 + counts per 10,000); `counts` may be sparse."""
    total = np.asarray(counts.sum(axis=1), np.float64).reshape(-1, 1)
    dense = np.asarray(counts.todense() if hasattr(counts, "todense") else counts, np.float64)
    return np.log1p(dense / np.maximum(total, 1) * COUNTS_PER)


def group_score(
    logs: Float[np.ndarray, "n g"], genes: Sequence[str], wanted: Sequence[str], reference: Bool[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Return the mean over the measured genes of a group of z-scores, mean and deviation those of the reference spots.

    Raises
    ------
    InputError
        If fewer than three of its genes are measured and vary.
    """
    at = {gene: i for i, gene in enumerate(genes)}
    columns = [at[gene] for gene in wanted if gene in at]
    deviation = logs[reference][:, columns].std(axis=0)
    columns = [column for column, scale in zip(columns, deviation, strict=True) if scale > 0]
    if len(columns) < MIN_GENES:
        problem = f"{len(columns)} of {len(wanted)} genes of a group are measured and vary"
        raise InputError("gene_groups.json", problem, f"At least {MIN_GENES} are needed: correct gene_groups")
    part = logs[:, columns]
    z = (part - part[reference].mean(axis=0)) / part[reference].std(axis=0)
    return np.asarray(z.mean(axis=1))


@dataclass(frozen=True, slots=True)
class ExpressionPrograms:
    """Programs of each spot [n k], standardised on the training spots, and the weight of each in the loss (sum 1)."""

    values: Float[np.ndarray, "n k"]
    weights: Float[np.ndarray, "k"]


def make_programs(
    logs: Float[np.ndarray, "n g"], genes: Sequence[str], groups: GeneGroups, training: Bool[np.ndarray, "n"],
    components: int = 24, variable_genes: int = 2000,
) -> ExpressionPrograms:  # fmt: skip
    """Compute programs; genes, components and scales are chosen on the training spots alone.

    Half of the weight is of the components, by the variance that they explain, half of the two scores.
    """
    chosen = np.argsort(-logs[training].var(axis=0), kind="stable")[:variable_genes]
    count = min(components, int(training.sum()) - 1, len(chosen))
    pca = PCA(count, svd_solver="randomized", random_state=0).fit(logs[training][:, chosen])
    scores = [group_score(logs, genes, getattr(groups, subspace), training) for subspace in SUBSPACES]
    values = np.concatenate([pca.transform(logs[:, chosen]), np.stack(scores, axis=1)], axis=1)
    values = (values - values[training].mean(axis=0)) / np.maximum(values[training].std(axis=0), 1e-9)
    explained = pca.explained_variance_ratio_ / pca.explained_variance_ratio_.sum()
    weights = np.concatenate([explained / 2, np.full(len(scores), 0.5 / len(scores))])
    return ExpressionPrograms(values, weights)
