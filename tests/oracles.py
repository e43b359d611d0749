"""Slow, obvious twins of clever functions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dml.core.types import MagnificationTokens


def discrete_time_log_likelihood(hazards: Sequence[float], bin_: int, event: bool) -> float:
    """Product of what was survived, times the hazard of the bin of the event."""
    total = 0.0
    for i in range(bin_):
        total += math.log(1 - hazards[i])
    return total + (math.log(hazards[bin_]) if event else math.log(1 - hazards[bin_]))


def project_if_conflicting(follower: Sequence[float], leader: Sequence[float]) -> list[float]:
    """Take from the follower its component against the leader, if there is one."""
    dot = sum(f * g for f, g in zip(follower, leader, strict=True))
    if dot >= 0:
        return list(follower)
    norm2 = sum(g * g for g in leader)
    return [f - dot / norm2 * g for f, g in zip(follower, leader, strict=True)]


def jensen_shannon(p: Sequence[float], q: Sequence[float]) -> float:
    """Jensen-Shannon divergence in bits."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        m = (a + b) / 2
        total += sum(x * math.log2(x / m) for x in (a, b) if x > 0) / 2
    return total


def survival_after(days: float, ends: Sequence[float], hazards: Sequence[float]) -> float:
    """Survival with a constant hazard rate inside each bin; `ends` are the bins' last days."""
    survival, start = 1.0, 0.0
    for end, hazard in zip(ends, hazards, strict=True):
        inside = min(max((days - start) / (end - start), 0.0), 1.0)
        survival *= (1 - hazard) ** inside
        start = end
    return survival


def deformable_attention(
    parameters: nn.Module, heads: int, queries: Tensor, tokens: Tensor, level: MagnificationTokens
) -> tuple[Tensor, Tensor]:
    """Attend patient by patient, head by head, with keys and values of every real tile, as the equations say."""
    p, attended, attention = parameters, [], torch.zeros_like(level.mask, dtype=tokens.dtype)
    for i, (own, bag, real) in enumerate(zip(queries, tokens, level.mask, strict=True)):
        normed = p.norm_tokens(bag[real])
        keys, values = (layer(normed).chunk(heads, -1) for layer in (p.keys, p.values))
        positions = _standardise_positions(level.coords_um[i][real])

        def weights(q: Tensor, bias: list[Tensor], keys: tuple[Tensor, ...] = keys) -> list[Tensor]:
            heads_of = zip(q.chunk(heads, -1), keys, bias, strict=True)
            scores = [a @ k.T / math.sqrt(k.shape[1]) + b for a, k, b in heads_of]
            return [torch.softmax(score, -1) for score in scores]

        def read(a: list[Tensor], values: tuple[Tensor, ...] = values) -> Tensor:
            return torch.cat([w @ v for w, v in zip(a, values, strict=True)], -1)

        first = weights(p.first(p.norm_queries(own)), [torch.zeros(len(own), len(normed))] * heads)
        context = read(first)
        offset = torch.tanh(p.offset(torch.nn.functional.gelu(p.offset_hidden(torch.cat([own, context], -1)))))
        points = torch.stack(first).mean(0) @ positions + offset
        distance = (points[:, None] - positions[None]).square().sum(-1) * bool(level.has_coords[i])
        sharpness = torch.nn.functional.softplus(p.sharpness)
        second = weights(p.second(p.norm_queries(own + context)), [-gamma * distance for gamma in sharpness])
        attended.append(own + p.out(read(second)))
        if real.any():
            attention[i, real] = torch.stack(second).mean((0, 1))
    return torch.stack(attended), attention


def _standardise_positions(coords_um: Tensor) -> Tensor:
    if len(coords_um) == 0:
        return coords_um
    centred = coords_um - coords_um.mean(0)
    spread = centred.square().sum(1).mean().sqrt()
    return centred / spread if spread > 0 else centred
