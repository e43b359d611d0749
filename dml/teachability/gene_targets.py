"""Functions of a transcriptome that a slide may predict: single genes, gene sets, principal components.

Everything is fitted on a fold's learning patients: winsorisation, mean and deviation of each gene, the rotation to
components. Shape legend: n patients, g genes, t targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from dml.cohorts.gene_groups import HALLMARK
from dml.core.types import SUBSPACES, Case, Cohort
from dml.data.preprocessing import WINSOR_QUANTILE
from dml.genes.gene_symbols import rename
from dml.linear_models.design_matrix import DesignMatrix, Reduction
from dml.readers.gene_sets import read_gene_sets
from dml.readers.raw_files import GeneSets

Kind = Literal["gene", "gene set", "component"]
GeneSetMap = Mapping[str, Sequence[str]]
"""Name of a gene set to its genes."""


def read_hallmark_sets(raw: Path) -> dict[str, list[str]]:
    """Read the Hallmark sets in a cohort's raw folder; none if it has no file of them.

    Raises
    ------
    InputError
        If the file is there and cannot be read.
    """
    files = sorted(path for pattern in HALLMARK for path in raw.glob(pattern))
    if not files:
        return {}
    path = files[-1]
    sets = read_gene_sets(path, GeneSets(file=path.name, kind="gmt" if path.suffix == ".gmt" else "columns"))
    return {name: genes for name, genes in sets.items() if name.startswith("HALLMARK_")}


def measured_sets(cohort: Cohort, hallmark: GeneSetMap, min_genes: int) -> dict[str, tuple[str, ...]]:
    """Return the cohort's gene groups and the Hallmark sets, each restricted to measured genes, if they are enough.

    A gene that is not measured under its name is looked up under its approved symbol.
    """
    measured = set(cohort.genes)
    declared = {f"group {subspace}": getattr(cohort.groups, subspace) for subspace in SUBSPACES}
    sets = {}
    for name, genes in {**declared, **hallmark}.items():
        names = set(genes) | set(rename(sorted(set(genes) - measured)).names)
        if len(names & measured) >= min_genes:
            sets[name] = tuple(gene for gene in cohort.genes if gene in names)
    return sets


@dataclass(frozen=True, slots=True)
class GeneTargets:
    """The targets of one fold, fitted on its learning patients.

    Attributes
    ----------
    genes : Reduction
        Winsorised and standardised genes, all that vary among the learning patients.
    components : DesignMatrix
        Principal components of the genes of both gene groups, as the linear baselines use them.
    membership : [g s]
        Genes by gene sets: 1 / size where a gene is in a set.
    n_components : int
        Number of component targets; those that the patients are too few for are constant.
    """

    genes: Reduction
    components: DesignMatrix
    membership: Float[np.ndarray, "g s"]
    n_components: int

    @classmethod
    def fit(
        cls, cohort: Cohort, cases: Sequence[Case], sets: Mapping[str, Sequence[str]], components: int
    ) -> "GeneTargets":
        """Fit on learning patients with a transcriptome."""
        genes = Reduction.fit(_expression(cases), None, WINSOR_QUANTILE)
        position = {gene: i for i, gene in enumerate(cohort.genes)}
        membership = np.zeros((len(cohort.genes), len(sets)))
        for column, members in enumerate(sets.values()):
            membership[[position[gene] for gene in members], column] = 1 / len(members)
        return cls(genes, DesignMatrix.fit(cohort, cases, ["genes"], components), membership, components)

    def __call__(self, cohort: Cohort, cases: Sequence[Case]) -> Float[np.ndarray, "n t"]:
        """Return the targets of patients with a transcriptome: genes, gene sets, components side by side."""
        scaled = self.standardise(_expression(cases))
        components = self.components(cohort, cases)
        padding = np.zeros((len(cases), max(self.n_components - components.shape[1], 0)))  # fewer patients than asked
        return np.concatenate([scaled, scaled @ self.membership, components, padding], axis=1)

    def standardise(self, expression: Float[np.ndarray, "n g"]) -> Float[np.ndarray, "n g"]:
        """Scale genes; one that does not vary, or is missing, is 0."""
        limits = self.genes.limits
        clipped = expression if limits is None else np.clip(expression, *limits)
        scaled = (clipped - self.genes.mean) / self.genes.deviation
        return np.where(np.isfinite(scaled), scaled, 0.0)


def name_targets(cohort: Cohort, sets: Mapping[str, Sequence[str]], components: int) -> pd.DataFrame:
    """Return one row a target in the order of `GeneTargets`: kind and name."""
    names: dict[Kind, Sequence[str]] = {
        "gene": cohort.genes,
        "gene set": list(sets),
        "component": [f"component {k + 1}" for k in range(components)],
    }
    rows = [(kind, name) for kind, each in names.items() for name in each]
    return pd.DataFrame(rows, columns=["kind", "name"])


def _expression(cases: Sequence[Case]) -> np.ndarray:
    return np.array([case.expression for case in cases], float)
