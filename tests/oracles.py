"""Slow, obvious twins of clever functions."""

import math
from collections.abc import Sequence


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
