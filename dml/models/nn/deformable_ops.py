"""How deformable attention is computed: few queries, many tokens, so the weights of keys and values go to the queries.

    q_h . W_K,h LN(x) = (gamma W_K,h^T q_h) . x^ + const        x^: tokens normalised, without gain and bias
    sum_n a_n W_V,h LN(x_n) = W_V,h (gamma sum_n a_n x^_n + beta)
    -g |x - p|^2 = 2 g p . x - g |x|^2 + const                  constants vanish in a softmax

No keys or values are made: every look is two matrix products of all queries (of all attentions that share the tokens)
with one matrix of tokens, whose four last columns are the tile's place, its square, and a large negative number where
there is no tile. Memory is linear in the tokens, and the position bias costs nothing of its own.

Shape legend: s attentions, b patients, r reference points, h heads, n tokens, d width, e = d / h, c = d + 4 columns.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from dml.models.nn.deformable import DeformableCrossAttention

PLACE = 4
"""Columns beside a token's width: x, y, x^2 + y^2, whether there is no tile."""
HIDDEN = -1e4
"""Added to the score of a place without tile; its weight is then exactly zero."""
RUNS = 4
"""Parts of a padded batch whose common padding is cut off before the matrix products."""
SHORT = 32
"""Padded length up to which cutting gains nothing."""


class Tissue:
    """The tokens of a batch as the matrix that queries are multiplied with, in parts padded no more than needed.

    On a CPU patients are taken in `RUNS` runs (batches are sorted by bag size): a run of short bags is not computed to
    the length of the longest. On a GPU that would need to wait for the mask.
    """

    def __init__(
        self,
        tokens: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n"],
        coords_um: Float[Tensor, "b n 2"],
        has_coords: Bool[Tensor, "b"],
    ) -> None:
        self.patients, self.length = mask.shape
        self.some = mask.any(1)[:, None, None].to(tokens.dtype)  # b 1 1: zero for a bag without any tile
        places = standardised(coords_um, mask) * has_coords[:, None, None].to(coords_um.dtype)
        hidden = torch.where(mask, 0.0, HIDDEN)[..., None]
        columns = torch.cat([places, places.square().sum(-1, keepdim=True), hidden], -1).to(tokens.dtype)  # b n 4
        self.runs = runs(mask)
        sizes = [rows for rows, _ in self.runs]
        pieces = zip(torch.split(tokens, sizes), torch.split(columns, sizes), self.runs, strict=True)
        self.parts = [_columns(own[:, :length], place[:, :length]) for own, place, (_, length) in pieces]

    def seen_by(self, queries: Float[Tensor, "b q c"]) -> tuple[Float[Tensor, "b q c"], list[Tensor]]:
        """Return the mean of the columns by attention weight, and the weights (b q n) of each part."""
        weights = [
            torch.softmax(own @ part.transpose(1, 2), -1)
            for own, part in zip(torch.split(queries, [rows for rows, _ in self.runs]), self.parts, strict=True)
        ]
        return _joined([a @ part for a, part in zip(weights, self.parts, strict=True)]), weights

    def attention(self, weights: Sequence[Float[Tensor, "_ q _"]], attentions: int) -> Float[Tensor, "s b n"]:
        """Return the mean weight of each token over the queries of each attention."""
        means = [a.view(len(a), attentions, -1, a.shape[-1]).mean(2) for a in weights]
        whole = _joined([functional.pad(mean, (0, self.length - mean.shape[-1])) for mean in means])
        return (whole * self.some).transpose(0, 1)


class Looks:
    """The parameters of several attentions side by side, and what they do with their seeds."""

    def __init__(self, looks: Sequence["DeformableCrossAttention"]) -> None:
        self.looks, self.heads = looks, looks[0].heads

    def _all(self, of: Callable[["DeformableCrossAttention"], Tensor]) -> Tensor:
        return torch.stack([of(look) for look in self.looks])

    def linear(self, name: str, x: Float[Tensor, "s b r i"]) -> Float[Tensor, "s b r o"]:
        """Apply each attention's own linear map."""
        weight = self._all(lambda look: look.get_submodule(name).get_parameter("weight"))  # s o i
        bias = self._all(lambda look: look.get_submodule(name).get_parameter("bias"))
        return torch.baddbmm(bias[:, None], x.flatten(1, 2), weight.transpose(1, 2)).view(*x.shape[:3], -1)

    def norm(self, x: Float[Tensor, "s b r d"]) -> Float[Tensor, "s b r d"]:
        """Apply each attention's own layer normalisation of seeds."""
        gain, shift = self._all(lambda look: look.norm_seeds.weight), self._all(lambda look: look.norm_seeds.bias)
        return torch.addcmul(shift[:, None, None], functional.layer_norm(x, x.shape[-1:]), gain[:, None, None])

    def attend(
        self, queries: Float[Tensor, "s _ r d"], points: Float[Tensor, "s b r 2"] | None, tissue: Tissue
    ) -> tuple[Float[Tensor, "s h b r d"], Float[Tensor, "s b r 2"], list[Tensor]]:
        """Look once, near `points` if there are any; queries are each patient's own, or the same for all.

        Returns
        -------
        what : Tensor, s h b r d
            Normalised tokens by attention weight.
        place : Tensor, s b r 2
            Where the heads looked, on the mean.
        weights : list of Tensor, b s*h*r n
            Of each part of the tissue.
        """
        s, _, r, d = queries.shape
        b, absorbed = tissue.patients, self._absorbed(queries)
        asked = torch.cat([absorbed, self._places(points, absorbed)], -1).flatten(1, 3)
        seen, weights = tissue.seen_by(asked.expand(b, -1, -1))
        what, where = torch.split(seen.view(b, s, self.heads, r, d + PLACE), [d, PLACE], -1)
        place = where[..., :2].mean(2).transpose(0, 1)
        return what.permute(1, 2, 0, 3, 4), place, weights

    def read(self, what: Float[Tensor, "s h b r d"], tissue: Tissue) -> Float[Tensor, "s b r d"]:
        """Apply the values' weights to what was seen; zero where there is no tissue."""
        s, h, b, r, d = what.shape
        weight = self._all(lambda look: look.values.weight * look.norm_tokens.weight).view(s * h, -1, d)  # sh e d
        shift = self._all(lambda look: look.values(look.norm_tokens.bias))  # s d
        values = torch.bmm(what.reshape(s * h, b * r, d), weight.transpose(1, 2))
        merged = values.view(s, h, b, r, -1).permute(0, 2, 3, 1, 4).reshape(s, b, r, d)
        return (merged + shift[:, None, None]) * tissue.some

    def _absorbed(self, queries: Float[Tensor, "s b r d"]) -> Float[Tensor, "b s h r d"]:
        s, b, r, d = queries.shape
        scale = (d // self.heads) ** -0.5
        weight = self._all(lambda look: look.keys.weight * (look.norm_tokens.weight * scale)).view(
            s * self.heads, -1, d
        )
        apart = queries.view(s, b * r, self.heads, -1).transpose(1, 2).reshape(s * self.heads, b * r, -1)
        return torch.bmm(apart, weight).view(s, self.heads, b, r, d).permute(2, 0, 1, 3, 4)

    def _places(self, points: Tensor | None, like: Float[Tensor, "b s h r d"]) -> Float[Tensor, "b s h r 4"]:
        shape = like.shape[:-1]
        one = like.new_ones(1).expand(*shape, 1)
        if points is None:
            return torch.cat([like.new_zeros(1).expand(*shape, PLACE - 1), one], -1)
        sharpness = functional.softplus(self._all(lambda look: look.sharpness))[:, :, None, None]  # s h 1 1
        near = 2 * sharpness * points.transpose(0, 1)[:, :, None]
        return torch.cat([near, (-sharpness).expand(*shape, 1), one], -1)


def standardised(coords_um: Float[Tensor, "b n 2"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n 2"]:
    """Centre positions on the tissue and divide by its spread, so that slides of any size and origin compare."""
    weights = mask.to(coords_um.dtype)[..., None]
    count = weights.sum(1, keepdim=True).clamp_min(1.0)
    centred = (coords_um - (coords_um * weights).sum(1, keepdim=True) / count) * weights
    spread = (centred.square().sum((1, 2), keepdim=True) / count).sqrt()
    return centred / torch.where(spread > 0, spread, torch.ones_like(spread))


def runs(mask: Bool[Tensor, "b n"]) -> list[tuple[int, int]]:
    """Cut a batch into runs of patients: how many, and how many places the longest of them needs."""
    b, n = mask.shape
    if mask.device.type != "cpu" or b < 2 * RUNS or n <= SHORT:
        return [(b, n)]
    needed = (mask * torch.arange(1, n + 1)).amax(1).clamp_min(1)
    parts = [(len(part), int(part.max())) for part in needed.chunk(RUNS)]
    return parts if sum(rows * length for rows, length in parts) < 0.9 * b * n else [(b, n)]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _columns(tokens: Float[Tensor, "b n d"], places: Float[Tensor, "b n 4"]) -> Float[Tensor, "b n c"]:
    return torch.cat([functional.layer_norm(tokens, tokens.shape[-1:]), places], -1)
