"""Deformable cross-attention on tiles at real positions (arXiv 2508.16479), all subspaces in one pass over the tokens.

    c   = softmax(Q K^T / sqrt(e)) V                          first attention, Q = W_q LN(s)
    p   = sum_n a_n x_n + rho tanh(W_2 GELU(W_1 [s; c]))      reference point: mean attended position plus an offset
    A   = softmax(Q' K^T / sqrt(e) - gamma_h |x - p|^2)       second attention, Q' = W_q' LN(s + c)
    H   = s + W_o A V

The queries s carry the genes, the first attention c the tissue: queries, offsets and sampling depend on both. Sampling
is a Gaussian window at p over the tiles there are, instead of bilinear interpolation on a filled grid, so that tissue
of any shape and any number of tiles will do. Differs from the authors' code, in which the query is one gene vector
repeated (offsets never depend on the tissue) and tiles are laid on a 50 x 50 grid in list order.

Memory-efficient: key and value projections are absorbed into the (few) queries, so no per-tile keys or values are made.

    q_h . W_K,h LN(x) = (gamma W_K,h^T q_h) . x^ + const        x^: tokens normalised, without gain and bias
    sum_n a_n W_V,h LN(x_n) = W_V,h (gamma sum_n a_n x^_n + beta)
    -g |x - p|^2 = 2 g p . x - g |x|^2 + const                  constants vanish in a softmax

Every attention is two matrix products of all queries (of all subspaces) with one matrix of tokens, whose four last
columns are the tile's position, its square, and a large negative number where there is no tile.

Shape legend: s subspaces, b patients, r queries, h heads, n tokens, d width, e = d / h, c = d + 4 columns.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from dml.core.types import MagnificationTokens
from dml.models.nn.blocks import Dropout

MAX_OFFSET = 1.0
"""Largest offset of a reference point (rho), in units of the bag's spatial spread."""
N_POSITION_COLUMNS = 4
"""Columns beside a token's width: x, y, x^2 + y^2, whether there is no tile."""
MASK_VALUE = -1e4
"""Added to the score of a position without tile; its weight is then exactly zero."""
N_CHUNKS = 4
"""Parts of a padded batch whose common padding is cut off before the matrix products."""
MIN_LENGTH_TO_CHUNK = 32
"""Padded length up to which cutting gains nothing."""


class DeformableParameters(nn.Module):
    """Parameters of the deformable attention of one subspace."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_queries, self.norm_tokens = nn.LayerNorm(width), nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.keys, self.values = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.offset_hidden, self.offset = nn.Linear(2 * width, width), nn.Linear(width, 2)
        self.sharpness = nn.Parameter(torch.linspace(-3.0, 0.0, heads))
        self.out = nn.Linear(width, width)


class SubspaceDeformableAttention(nn.Module):
    """Deformable cross-attention of several subspaces to the same tokens, each with its own parameters and queries.

    Each subspace keeps parameters of its own, which are stacked to [s out in] in the forward pass: gradients are
    clipped and coordinated tensor by tensor, so tensors that span subspaces would be another training.
    """

    def __init__(self, subspaces: Sequence[str], width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.subspaces = nn.ModuleDict({s: DeformableParameters(width, heads) for s in subspaces})
        self.dropout = Dropout(dropout)

    def forward(
        self, queries: Mapping[str, Float[Tensor, "*b r d"]], tokens: Float[Tensor, "b n d"], level: MagnificationTokens
    ) -> tuple[dict[str, Float[Tensor, "b r d"]], dict[str, Float[Tensor, "b n"]]]:
        """Attend; bags without coordinates are treated as sets.

        Parameters
        ----------
        queries : mapping
            Subspace to its queries: of each patient (b r d), or the same for all patients (r d).
        tokens : Tensor, b n d
            Projected tokens of the level.
        level : MagnificationTokens
            Mask and coordinates.

        Returns
        -------
        attended : dict
            Subspace to its queries plus what they attended to.
        attention : dict
            Subspace to the mean attention over heads and queries: a distribution over the bag's tokens.
        """
        packed = PackedTokens(tokens, level.mask, level.coords_um, level.has_coords)
        shared = all(queries[s].dim() == 2 for s in self.subspaces)
        q = torch.stack([queries[s].expand(len(tokens), -1, -1) for s in self.subspaces])  # s b r d
        first = self._linear(lambda p: p.first, self._norm_queries(q[:, :1] if shared else q))
        attended, position, _ = self._attend(first, None, packed)
        context = self._read_values(attended, packed)
        hidden = functional.gelu(self._linear(lambda p: p.offset_hidden, torch.cat([q, context], -1)))
        reference_points = position + MAX_OFFSET * torch.tanh(self._linear(lambda p: p.offset, hidden))  # s b r 2
        second = self._linear(lambda p: p.second, self._norm_queries(q + context))
        attended, _, weights = self._attend(second, reference_points, packed)
        output = q + self.dropout(self._linear(lambda p: p.out, self._read_values(attended, packed)))
        attention = packed.mean_attention(weights, len(self.subspaces))
        return dict(zip(self.subspaces, output, strict=True)), dict(zip(self.subspaces, attention, strict=True))

    def _stack(self, select: Callable[[DeformableParameters], Tensor]) -> Tensor:
        return torch.stack([select(part) for part in cast(list[DeformableParameters], list(self.subspaces.values()))])

    def _linear(
        self, layer: Callable[[DeformableParameters], nn.Linear], x: Float[Tensor, "s b r i"]
    ) -> Float[Tensor, "s b r o"]:
        weight, bias = self._stack(lambda p: layer(p).weight), self._stack(lambda p: layer(p).bias)  # s o i, s o
        return torch.baddbmm(bias[:, None], x.flatten(1, 2), weight.transpose(1, 2)).view(*x.shape[:3], -1)

    def _norm_queries(self, x: Float[Tensor, "s b r d"]) -> Float[Tensor, "s b r d"]:
        gain, shift = self._stack(lambda p: p.norm_queries.weight), self._stack(lambda p: p.norm_queries.bias)
        return torch.addcmul(shift[:, None, None], functional.layer_norm(x, x.shape[-1:]), gain[:, None, None])

    def _attend(
        self,
        queries: Float[Tensor, "s _ r d"],
        reference_points: Float[Tensor, "s b r 2"] | None,
        packed: "PackedTokens",
    ) -> tuple[Float[Tensor, "s h b r d"], Float[Tensor, "s b r 2"], list[Tensor]]:
        """Return attended normalised tokens, mean attended positions, and the weights (b s*h*r n) of each chunk."""
        s, _, r, d = queries.shape
        absorbed = self._absorb_keys(queries)
        columns = torch.cat([absorbed, self._position_columns(reference_points, absorbed)], -1).flatten(1, 3)
        means, weights = packed.attend(columns.expand(packed.patients, -1, -1))
        split = means.view(packed.patients, s, self.heads, r, d + N_POSITION_COLUMNS)
        attended, position = torch.split(split, [d, N_POSITION_COLUMNS], -1)
        mean_position = position[..., :2].mean(2).transpose(0, 1)
        return attended.permute(1, 2, 0, 3, 4), mean_position, weights

    def _read_values(self, attended: Float[Tensor, "s h b r d"], packed: "PackedTokens") -> Float[Tensor, "s b r d"]:
        """Apply the values' weights to attended tokens; zero where there is no tissue."""
        s, h, b, r, d = attended.shape
        weight = self._stack(lambda p: p.values.weight * p.norm_tokens.weight).view(s * h, -1, d)  # sh e d
        shift = self._stack(lambda p: p.values(p.norm_tokens.bias))  # s d
        values = torch.bmm(attended.reshape(s * h, b * r, d), weight.transpose(1, 2))
        merged = values.view(s, h, b, r, -1).permute(0, 2, 3, 1, 4).reshape(s, b, r, d)
        return (merged + shift[:, None, None]) * packed.has_tiles

    def _absorb_keys(self, queries: Float[Tensor, "s b r d"]) -> Float[Tensor, "b s h r d"]:
        s, b, r, d = queries.shape
        scale = (d // self.heads) ** -0.5
        weight = self._stack(lambda p: p.keys.weight * (p.norm_tokens.weight * scale)).view(s * self.heads, -1, d)
        by_head = queries.view(s, b * r, self.heads, -1).transpose(1, 2).reshape(s * self.heads, b * r, -1)
        return torch.bmm(by_head, weight).view(s, self.heads, b, r, d).permute(2, 0, 1, 3, 4)

    def _position_columns(self, points: Tensor | None, like: Float[Tensor, "b s h r d"]) -> Float[Tensor, "b s h r 4"]:
        shape = like.shape[:-1]
        one = like.new_ones(1).expand(*shape, 1)
        if points is None:
            return torch.cat([like.new_zeros(1).expand(*shape, N_POSITION_COLUMNS - 1), one], -1)
        sharpness = functional.softplus(self._stack(lambda p: p.sharpness))[:, :, None, None]  # s h 1 1
        near = 2 * sharpness * points.transpose(0, 1)[:, :, None]
        return torch.cat([near, (-sharpness).expand(*shape, 1), one], -1)


class PackedTokens:
    """Patch tokens and position columns of a batch, packed into chunks to limit padding.

    On a CPU patients are taken in `N_CHUNKS` chunks (batches are sorted by bag size): a chunk of short bags is not
    computed to the length of the longest. On a GPU that would need to wait for the mask.
    """

    def __init__(
        self,
        tokens: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n"],
        coords_um: Float[Tensor, "b n 2"],
        has_coords: Bool[Tensor, "b"],
    ) -> None:
        self.patients, self.length = mask.shape
        self.has_tiles = mask.any(1)[:, None, None].to(tokens.dtype)  # b 1 1
        positions = standardise_positions(coords_um, mask) * has_coords[:, None, None].to(coords_um.dtype)
        hidden = torch.where(mask, 0.0, MASK_VALUE)[..., None]
        columns = torch.cat([positions, positions.square().sum(-1, keepdim=True), hidden], -1).to(tokens.dtype)  # b n 4
        chunks = chunk_sizes(mask)
        self.rows = [rows for rows, _ in chunks]
        pieces = zip(torch.split(tokens, self.rows), torch.split(columns, self.rows), chunks, strict=True)
        self.chunks = [_join_columns(part[:, :length], column[:, :length]) for part, column, (_, length) in pieces]

    def attend(self, queries: Float[Tensor, "b q c"]) -> tuple[Float[Tensor, "b q c"], list[Tensor]]:
        """Return the mean of the columns by attention weight, and the weights (b q n) of each chunk."""
        weights = [
            torch.softmax(part @ chunk.transpose(1, 2), -1)
            for part, chunk in zip(torch.split(queries, self.rows), self.chunks, strict=True)
        ]
        return _concatenate([a @ chunk for a, chunk in zip(weights, self.chunks, strict=True)]), weights

    def mean_attention(self, weights: Sequence[Float[Tensor, "_ q _"]], subspaces: int) -> Float[Tensor, "s b n"]:
        """Return the mean weight of each token over the queries of each subspace."""
        means = [a.view(len(a), subspaces, -1, a.shape[-1]).mean(2) for a in weights]
        padded = _concatenate([functional.pad(mean, (0, self.length - mean.shape[-1])) for mean in means])
        return (padded * self.has_tiles).transpose(0, 1)


def standardise_positions(coords_um: Float[Tensor, "b n 2"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n 2"]:
    """Centre positions on the tissue and divide by its spread, so that slides of any size and origin compare."""
    weights = mask.to(coords_um.dtype)[..., None]
    count = weights.sum(1, keepdim=True).clamp_min(1.0)
    centred = (coords_um - (coords_um * weights).sum(1, keepdim=True) / count) * weights
    radius = (centred.square().sum((1, 2), keepdim=True) / count).sqrt()
    return centred / torch.where(radius > 0, radius, torch.ones_like(radius))


def chunk_sizes(mask: Bool[Tensor, "b n"]) -> list[tuple[int, int]]:
    """Cut a batch into chunks: number of patients of each, and length that the longest of them needs."""
    b, n = mask.shape
    if mask.device.type != "cpu" or b < 2 * N_CHUNKS or n <= MIN_LENGTH_TO_CHUNK:
        return [(b, n)]
    needed = (mask * torch.arange(1, n + 1)).amax(1).clamp_min(1)
    chunks = [(len(part), int(part.max())) for part in needed.chunk(N_CHUNKS)]
    return chunks if sum(rows * length for rows, length in chunks) < 0.9 * b * n else [(b, n)]


def _concatenate(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _join_columns(tokens: Float[Tensor, "b n d"], positions: Float[Tensor, "b n 4"]) -> Float[Tensor, "b n c"]:
    return torch.cat([functional.layer_norm(tokens, tokens.shape[-1:]), positions], -1)
