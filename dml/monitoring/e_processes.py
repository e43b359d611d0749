"""Rates and proportions that are inspected every week: e-processes, and intervals that hold at all times together.

An e-process against a hypothesis is at most 1 on average at any time that one stops, if the hypothesis holds: the
chance that it ever reaches 1/α is at most α. Here they are likelihoods mixed over alternatives, divided by the
likelihood at the hypothesis, and depend on totals only, so that it does not matter in which order outcomes arrive.
Likelihood ratios are monotone in the rate, so the one at the border holds for all rates within it.

Sources: Robbins, Annals of Mathematical Statistics 1970 (mixtures); Howard et al., Annals of Statistics 2021 (intervals
for all times; the gamma mixture of a counting process is their section 3.5); Ramdas et al., Statistical Science 2023.
"""

from collections.abc import Callable

import numpy as np
from scipy import optimize, special, stats

Counts = float | np.ndarray
"""Totals of one stream, or of many."""
SHAPE = 4.0
"""Of the gamma distribution (mean 1) over ratios of observed to expected events: they are 0.3 to 2.2 in 95 %."""
SHIFTS = np.linspace(-2.0, 2.0, 41)
"""Shifts of a log odds over which calibration of a probability is mixed."""


def log_e_rate_above(observed: Counts, expected: Counts, border: float) -> np.ndarray:
    """Log e-process against: events come at most `border` times as often as expected.

    Observed less expected events is a martingale in calendar time, whoever enters or is censored when.
    """
    return _rate_tail(observed, expected, border, stats.gamma.logsf)


def log_e_rate_below(observed: Counts, expected: Counts, border: float) -> np.ndarray:
    """Log e-process against: events come at least `border` times as often as expected."""
    return _rate_tail(observed, expected, border, stats.gamma.logcdf)


def _rate_tail(observed: Counts, expected: Counts, border: float, tail: Callable[..., np.ndarray]) -> np.ndarray:
    shape, rate = SHAPE + observed, SHAPE + expected
    prior, posterior = tail(border, SHAPE, scale=1 / SHAPE), tail(border, shape, scale=1 / rate)
    return np.asarray(
        _log_rate_mixture(observed, expected) + posterior - prior - _log_poisson(observed, expected, border)
    )


def _log_rate_mixture(observed: Counts, expected: Counts) -> np.ndarray:
    shape, rate = SHAPE + observed, SHAPE + expected
    return np.asarray(SHAPE * np.log(SHAPE) - special.gammaln(SHAPE) + special.gammaln(shape) - shape * np.log(rate))


def _log_poisson(observed: Counts, expected: Counts, ratio: float) -> np.ndarray:
    return np.asarray(special.xlogy(observed, ratio) - ratio * expected)


def rate_interval(observed: float, expected: float, alpha: float) -> tuple[float, float]:
    """Return the ratios of observed to expected events that are not refuted at any time, with confidence 1 - alpha.

    Examples
    --------
    >>> low, high = rate_interval(120, 100, 0.05)
    >>> low < 1.0 < 1.2 < high
    True
    """
    if expected <= 0:
        return 0.0, np.inf
    mixture, limit = float(_log_rate_mixture(observed, expected)), float(np.log(1 / alpha))

    def excess(ratio: float) -> float:
        return mixture - float(_log_poisson(observed, expected, ratio)) - limit

    middle, top = observed / expected, (observed + limit + 1) / expected
    while excess(top) < 0:
        top *= 2
    low = optimize.brentq(excess, 1e-300, middle) if observed else 0.0
    return float(low), float(optimize.brentq(excess, middle, top))


def log_e_share_below(hits: Counts, trials: Counts, border: float) -> np.ndarray:
    """Log e-process against: the share of hits is at least `border`; alternatives are uniform below it."""
    return _share_tail(hits, trials, border)


def log_e_share_above(hits: Counts, trials: Counts, border: float) -> np.ndarray:
    """Log e-process against: the share of hits is at most `border`; alternatives are uniform above it."""
    return _share_tail(trials - hits, trials, 1 - border)


def _share_tail(hits: Counts, trials: Counts, border: float) -> np.ndarray:
    a, b = hits + 1, trials - hits + 1
    mixed = special.betaln(a, b) + stats.beta.logcdf(border, a, b) - np.log(border)
    return np.asarray(mixed - _log_binomial(hits, trials, border))


def _log_binomial(hits: Counts, trials: Counts, share: float) -> np.ndarray:
    return np.asarray(special.xlogy(hits, share) + special.xlog1py(trials - hits, -share))


def share_interval(hits: float, trials: float, alpha: float) -> tuple[float, float]:
    """Return the shares that are not refuted at any time, with confidence 1 - alpha.

    Examples
    --------
    >>> low, high = share_interval(70, 100, 0.05)
    >>> round(low, 2), round(high, 2)
    (0.54, 0.83)
    """
    if not trials:
        return 0.0, 1.0
    mixture, limit, middle = special.betaln(hits + 1, trials - hits + 1), np.log(1 / alpha), hits / trials

    def excess(share: float) -> float:
        return float(mixture - _log_binomial(hits, trials, share) - limit)

    low = optimize.brentq(excess, 1e-300, middle) if hits else 0.0
    high = optimize.brentq(excess, middle, 1 - 1e-16) if hits < trials else 1.0
    return float(low), float(high)


def log_e_shift(outcome: np.ndarray, probability: np.ndarray, tolerance: float) -> tuple[float, float]:
    """Log e-processes against: the log odds of events are at most, and at least, so far from those predicted.

    Parameters
    ----------
    outcome, probability : [n]
        Whether the event was there, and its predicted probability.
    tolerance : float
        Of the shift of the log odds.

    Returns
    -------
    above, below : float
        Against a shift of at most `tolerance`, and of at least -`tolerance`.
    """
    above, below = SHIFTS[tolerance < SHIFTS], SHIFTS[-tolerance > SHIFTS]
    likelihoods = [
        special.logsumexp(_log_shifted(outcome, probability, shifts)) - np.log(len(shifts)) for shifts in (above, below)
    ]
    borders = _log_shifted(outcome, probability, np.array([tolerance, -tolerance]))
    return float(likelihoods[0] - borders[0]), float(likelihoods[1] - borders[1])


def shift_interval(outcome: np.ndarray, probability: np.ndarray, alpha: float) -> tuple[float, float]:
    """Return the shifts of the log odds that are not refuted at any time (of -4 to 4), with confidence 1 - alpha."""
    mixture = special.logsumexp(_log_shifted(outcome, probability, SHIFTS)) - np.log(len(SHIFTS))
    candidates = np.linspace(-4.0, 4.0, 801)
    accepted = candidates[mixture - _log_shifted(outcome, probability, candidates) < np.log(1 / alpha)]
    return (float(accepted.min()), float(accepted.max())) if len(accepted) else (np.nan, np.nan)


def _log_shifted(outcome: np.ndarray, probability: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Log likelihood [shifts] of outcomes whose log odds are shifted from the predicted ones."""
    logits = special.logit(np.clip(probability, 1e-6, 1 - 1e-6))[None, :] + shifts[:, None]
    signed = np.where(outcome[None, :], logits, -logits)
    total: np.ndarray = special.log_expit(signed).sum(axis=1)
    return total
