"""Contributions of tokens and genes to the outputs of one network: integrated gradients (arXiv 1703.01365).

    z_s(a)  = W_s f_s(a x)                              the branch's share of the logits, x: scaled tokens and genes
    c_s,n,o = x_n . int_0^1 sum_k (do / dlogit_k)(a) (dz_s,k / dx_n)(a) da

The reference (a = 0) is the training-mean token at every tile and the mean of every gene: scaled inputs are zero there.
Logits are a sum over branches, so each branch has contributions of its own, which add up with the others': summed over
branches, tiles and genes they are the output minus the reference's (completeness). The weights of the magnifications
are those of the patient all along the path; no gradient flows through them in training either. Nodes of the quadrature
(Gauss-Legendre) are doubled until the sum agrees. A network that pools tokens linearly by attention needs no gradient:
each tile's part is its attention times what its token adds to the reference's.

Shape legend: a nodes of the path, n tokens, t token width, g genes, m magnifications, k logits, o outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from dml.attribution.outputs import explained_outputs
from dml.core.errors import ConfigError
from dml.core.types import SUBSPACES, Batch, Expression, Kind, MagnificationTokens
from dml.models.frozen_teacher import FrozenTeacherStudent
from dml.models.multi_scale import MultiScaleModel
from dml.models.nn.head import add_offset, certainty_weights

TOLERANCE = 1e-3
"""Largest share of the summed magnitude of all contributions by which their sum may miss the output's difference."""
FIRST_NODES, MAX_NODES = 16, 256
TOKENS_AT_A_TIME = 20_000
"""Tokens of all nodes that are differentiated together."""
Parts = Mapping[tuple[str, int], Tensor]
"""Branch and index of the magnification to the contributions of its tiles (n o)."""


@dataclass(frozen=True, slots=True)
class MemberContributions:
    """Contributions to the outputs of one network, for one patient.

    Attributes
    ----------
    tiles : mapping
        Branch and magnification to contributions (n o).
    genes : mapping
        Branch and gene group to contributions (g o).
    attention : mapping
        Branch and magnification to the attention of the tiles (n).
    output_gradient : Tensor, o k
        Mean gradient of the outputs along the path, by which the linear offset's shares are weighted.
    output, reference : Tensor, o
        The outputs of the patient and of the reference.
    """

    tiles: Parts
    genes: Mapping[tuple[str, str], Tensor]
    attention: Parts
    output_gradient: Tensor
    output: Tensor
    reference: Tensor


def contributions_of(
    model: nn.Module, batch: Batch, offset_reference: Tensor | None, kind: Kind
) -> MemberContributions:
    """Attribute one network's outputs for one patient.

    Parameters
    ----------
    model : Module
        In evaluation mode.
    batch : Batch
        Of one patient.
    offset_reference : Tensor, 1 k, optional
        The linear offset of the reference; needed where the batch has an offset.

    Raises
    ------
    ConfigError
        If the model has no branches, as a linear one.
    """
    path = _Path(model, batch, offset_reference, kind)
    if path.network.pools_linearly:
        return _pooled(path)
    nodes = FIRST_NODES
    while True:
        result = _integrate(path, nodes)
        total = sum(part.sum(0) for part in (*result.tiles.values(), *result.genes.values()))
        size = sum(part.abs().sum(0) for part in (*result.tiles.values(), *result.genes.values()))
        missing = (result.output - result.reference - total - path.offset_share(result.output_gradient)).abs()
        if nodes >= MAX_NODES or bool((missing <= TOLERANCE * (size + 1e-6)).all()):
            return result
        nodes *= 2


class _Path:
    """The straight path of one patient's inputs from the reference, and the logits along it."""

    def __init__(self, model: nn.Module, batch: Batch, offset_reference: Tensor | None, kind: Kind) -> None:
        self._imputation = model if isinstance(model, FrozenTeacherStudent) else None
        network = model if self._imputation is None else self._imputation.teacher
        if not isinstance(network, MultiScaleModel):
            raise ConfigError(f"contributions are defined for networks with branches, not for {type(model).__name__}")
        batch = network.select_tokens(batch)  # the same tiles all along the path
        self.network, self.batch, self.kind = network, batch, kind
        if batch.offset is None:
            self._offset = self._offset_reference = None
        else:
            self._offset, self._offset_reference = batch.offset, offset_reference
        with torch.no_grad():
            embeddings, self.attention = self.encode(batch)
            by_level = [torch.stack(list(embeddings[s]), dim=1) for s in network.head.inputs]
            has_tiles = torch.stack([level.mask.any(1) for level in batch.levels], dim=1)
            covariates = batch.covariates[:, None].expand(-1, len(batch.levels), -1)
            logits = add_offset(network.head(by_level, covariates), batch)
            self.weights = certainty_weights(logits, kind, has_tiles)  # 1 m

    def encode(self, batch: Batch) -> tuple[dict[str, list[Tensor]], list[Mapping[str, Tensor]]]:
        """Return the embeddings of each branch at each magnification, and the attention of each magnification."""
        imputed = self._imputation
        genes = self.network.embed_genes(batch.expression) if imputed is None else imputed.embed_genes(batch)
        levels, embeddings = self.network.encode_levels(batch, genes)
        return embeddings, [level.attention for level in levels]

    def branch_logits(self, batch: Batch) -> dict[str, Tensor]:
        """Return the share of each branch in the logits (a k), magnifications weighted as for the patient."""
        embeddings, _ = self.encode(batch)
        fused = {s: (self.weights[..., None] * torch.stack(levels, 1)).sum(1) for s, levels in embeddings.items()}
        shares: dict[str, Tensor] = {}
        for branch, layer in zip(self.network.head.inputs, self.network.head.maps, strict=True):
            share = layer(fused[branch])
            shares[branch] = shares[branch] + share if branch in shares else share
        return shares

    def constant_logits(self, at: Tensor) -> Tensor:
        """Return the rest of the logits (a k): bias, clinical covariates, the linear offset at points of the path."""
        head, batch = self.network.head, self.batch
        constant = head.bias + head.covariate_logits(batch.covariates) if head.reads_covariates else head.bias[None]
        if self._offset is None or self._offset_reference is None:
            return constant.expand(len(at), -1)
        return constant + self._offset_reference + at[:, None] * (self._offset - self._offset_reference)

    def offset_share(self, gradient: Tensor) -> Tensor:
        """Return what the linear offset adds to the outputs (o), beyond the reference's."""
        if self._offset is None or self._offset_reference is None:
            return torch.zeros(len(gradient))
        return gradient @ (self._offset - self._offset_reference).expand(1, gradient.shape[1])[0]

    def at(self, points: Tensor) -> tuple[Batch, list[Tensor], dict[str, Tensor]]:
        """Return the inputs at points of the path as one batch, with the tokens and genes that are differentiated."""
        n, batch = len(points), self.batch
        tokens = [(points[:, None, None] * level.tokens).requires_grad_() for level in batch.levels]
        genes: dict[str, Tensor] = {s: (points[:, None] * batch.expression[s]).requires_grad_() for s in SUBSPACES}
        levels = tuple(_repeat(level, x, n) for level, x in zip(batch.levels, tokens, strict=True))
        expression = Expression(genes["tumor"], genes["tme"], batch.expression.present.expand(n))
        covariates = batch.covariates.expand(n, -1)
        return replace(batch, levels=levels, expression=expression, covariates=covariates), tokens, genes

    def outputs(self, at: float) -> Tensor:
        """Return the outputs (o) at one point of the path."""
        with torch.no_grad():
            point = torch.tensor([at])
            logits = sum(self.branch_logits(self.at(point)[0]).values(), start=self.constant_logits(point))
            return explained_outputs(logits, self.kind)[0]


def _integrate(path: _Path, nodes: int) -> MemberContributions:
    positions, weights = (torch.from_numpy(x).float() for x in np.polynomial.legendre.leggauss(nodes))
    points, weights = (positions + 1) / 2, weights / 2
    longest = max(level.tokens.shape[1] for level in path.batch.levels)
    tiles: dict[tuple[str, int], Tensor] = {}
    genes: dict[tuple[str, str], Tensor] = {}
    gradients = []
    for at, share in _chunks(points, weights, max(1, TOKENS_AT_A_TIME // longest)):
        batch, tokens, expression = path.at(at)
        shares = path.branch_logits(batch)
        logits = sum(shares.values(), start=path.constant_logits(at))
        slopes = _output_slopes(logits, path.kind) * share[:, None]  # o a k
        gradients.append(slopes.sum(1))
        for branch, logit in shares.items():
            by_output = [_derivatives((logit * slope).sum(), [*tokens, *expression.values()]) for slope in slopes]
            for i, level in enumerate(path.batch.levels):
                _add(tiles, (branch, i), [(each[i] * level.tokens).sum(-1).sum(0) for each in by_output])
            for i, group in enumerate(expression, start=len(tokens)):
                _add(genes, (branch, group), [(each[i] * path.batch.expression[group]).sum(0) for each in by_output])
    return _result(path, tiles, genes, torch.stack(gradients).sum(0))


def _pooled(path: _Path) -> MemberContributions:
    """Exact contributions of a network whose embeddings are attention-weighted means of projected tokens."""
    nodes, weights = (torch.from_numpy(x).float() for x in np.polynomial.legendre.leggauss(FIRST_NODES))
    at, network = (nodes + 1) / 2, path.network
    with torch.no_grad():
        shares: dict[tuple[str, int], Tensor] = {}
        for branch, layer in zip(network.head.inputs, network.head.maps, strict=True):
            for i, level in enumerate(path.batch.levels):
                added = network.project(level.tokens, i) - network.project(torch.zeros_like(level.tokens), i)
                attention = path.attention[i][branch][0][:, None]
                share = path.weights[0, i] * attention * layer(added[0])  # n k
                shares[branch, i] = shares[branch, i] + share if (branch, i) in shares else share
        change = sum(share.sum(0) for share in shares.values())
        start = sum(path.branch_logits(path.at(torch.zeros(1))[0]).values(), start=path.constant_logits(torch.zeros(1)))
        along = start + at[:, None] * change + path.constant_logits(at) - path.constant_logits(torch.zeros(1))
    gradient = (_output_slopes(along, path.kind) * weights[:, None] / 2).sum(1)  # o k
    return _result(path, {key: share @ gradient.T for key, share in shares.items()}, {}, gradient)


def _result(
    path: _Path, tiles: Parts, genes: Mapping[tuple[str, str], Tensor], gradient: Tensor
) -> MemberContributions:
    attention = {(s, i): _attention(level, s) for i, level in enumerate(path.attention) for s in path.network.branches}
    return MemberContributions(tiles, genes, attention, gradient, path.outputs(1.0), path.outputs(0.0))


def _attention(level: Mapping[str, Tensor], branch: str) -> Tensor:
    """Attention of a branch (n); of one without attention of its own, the mean over those there are."""
    return level[branch][0] if branch in level else torch.stack(list(level.values())).mean(0)[0]


def _output_slopes(logits: Tensor, kind: Kind) -> Tensor:
    """Gradient of each output with respect to the logits (o a k)."""
    leaf = logits.detach().requires_grad_()
    outputs = explained_outputs(leaf, kind)
    return torch.stack([torch.autograd.grad(each.sum(), leaf, retain_graph=True)[0] for each in outputs.T])


def _derivatives(scalar: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    gradients = torch.autograd.grad(scalar, inputs, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if each is None else each for each, x in zip(gradients, inputs, strict=True)]


def _add(parts: dict, key: tuple, columns: Sequence[Tensor]) -> None:  # type: ignore[type-arg]
    part = torch.stack(list(columns), -1).detach()
    parts[key] = parts[key] + part if key in parts else part


def _chunks(points: Tensor, weights: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(points, size), torch.split(weights, size), strict=True))


def _repeat(level: MagnificationTokens, tokens: Tensor, n: int) -> MagnificationTokens:
    parent = None if level.parent is None else level.parent.expand(n, -1)
    return MagnificationTokens(
        level.mpp,
        tokens,
        level.mask.expand(n, -1),
        level.coords_um.expand(n, -1, -1),
        level.has_coords.expand(n),
        parent,
    )
