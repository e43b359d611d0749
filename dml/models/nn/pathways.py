"""Pathway tokens: one self-normalising network for each gene set, on the genes of it that are measured.

The sets are read from the .gmt file that the environment variable `DML_GENE_SETS` names: MSigDB's Hallmark collection
(Liberzon et al. 2015), or others. None is shipped. The file belongs to the model: what was trained with it is loaded
with it. Genes in none of the sets make one more group for each subspace, so that no gene is lost; a panel that measures
few genes of any set has these groups only.

Shape legend: b patients, g genes, p pathways, m genes of the largest pathway, e hidden width, d width.
"""

import math
import os
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dml.core.errors import ConfigError, InputError
from dml.core.types import Expression
from dml.data.dims import ModelDims

VARIABLE = "DML_GENE_SETS"
MIN_GENES = 5
"""Measured genes below which a gene set is no pathway of a panel."""
HIDDEN_SHARE = 4
"""Each pathway has a hidden layer of `gene_width` divided by this: Hallmark has fifty."""


def pathway_sets() -> dict[str, frozenset[str]]:
    """Return the gene sets of the file that the environment names: name to symbols.

    Raises
    ------
    ConfigError
        If no file is named.
    InputError
        If it is missing or has no gene.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        remedy = f"set {VARIABLE} to a .gmt file, as MSigDB's h.all.symbols.gmt"
        raise ConfigError(f"a model with pathways needs gene sets: {remedy}")
    return _read(Path(name))


@cache
def _read(path: Path) -> dict[str, frozenset[str]]:
    """Read a set a line: name, description, symbols, separated by tabs."""
    if not path.is_file():
        raise InputError(path, "the file does not exist", f"Correct {VARIABLE}")
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    sets = {row[0]: frozenset(gene.strip() for gene in row[2:] if gene.strip()) for row in rows}
    if not any(sets.values()):
        raise InputError(path, "no genes in it", "A .gmt file has a set a line: name, description, symbols, with tabs")
    return sets


def pathway_groups(dims: ModelDims) -> dict[str, list[int]]:
    """Return the pathways of a panel: name to positions among the genes of the tumor, then of the TME.

    Raises
    ------
    ConfigError, InputError
        As `pathway_sets`.
    """
    inside = {
        pathway: [i for i, name in enumerate(dims.gene_names) if name in genes]
        for pathway, genes in pathway_sets().items()
    }
    groups = {pathway: positions for pathway, positions in inside.items() if len(positions) >= MIN_GENES}
    covered = {position for positions in groups.values() for position in positions}
    ends = (0, dims.tumor_genes, dims.tumor_genes + dims.tme_genes)
    for subspace, start, end in zip(("tumor", "TME"), ends, ends[1:], strict=False):
        if rest := [i for i in range(start, end) if i not in covered]:
            groups[f"other genes of the {subspace}"] = rest
    return groups or {"no genes": []}


class PathwayEncoder(nn.Module):
    """Genes to one token per pathway: ELU(V_p AlphaDropout(ELU(W_p x_p))), all pathways at once.

    Attributes
    ----------
    names : tuple of str
        The pathways.
    """

    positions: Tensor
    is_gene: Tensor

    def __init__(self, dims: ModelDims, gene_width: int, width: int, dropout: float) -> None:
        super().__init__()
        groups = pathway_groups(dims)
        self.names = tuple(groups)
        largest = max(1, *(len(group) for group in groups.values()))
        padded = [[*group, *[0] * (largest - len(group))] for group in groups.values()]
        counts = torch.tensor([len(group) for group in groups.values()])
        self.register_buffer("positions", torch.tensor(padded), persistent=False)
        self.register_buffer("is_gene", torch.arange(largest) < counts[:, None], persistent=False)
        hidden = max(gene_width // HIDDEN_SHARE, 1)
        deviation = counts.clamp_min(1).rsqrt()[:, None, None]
        self.inner = nn.Parameter(torch.randn(len(groups), largest, hidden) * deviation)  # p m e
        self.outer = nn.Parameter(torch.randn(len(groups), hidden, width) / math.sqrt(hidden))  # p e d
        self.inner_bias = nn.Parameter(torch.zeros(len(groups), hidden))
        self.outer_bias = nn.Parameter(torch.zeros(len(groups), width))
        self.dropout = nn.AlphaDropout(dropout)

    def forward(self, expression: Expression) -> Float[Tensor, "b p d"]:
        """Encode; tokens of patients without transcriptome have no meaning."""
        genes = torch.cat([expression.tumor, expression.tme], dim=1)
        if not genes.shape[1]:
            genes = genes.new_zeros(len(genes), 1)
        inside = genes[:, self.positions] * self.is_gene  # b p m
        hidden = nn.functional.elu(torch.einsum("bpm,pme->bpe", inside, self.inner) + self.inner_bias)
        tokens = torch.einsum("bpe,ped->bpd", self.dropout(hidden), self.outer) + self.outer_bias
        return nn.functional.elu(tokens)
