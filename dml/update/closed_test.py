"""The step of a ladder that is enough: the first after which no further step is significantly better.

For each step from the lowest, one test of the hypothesis that none of the steps above is better; the ladder is climbed
as long as it is refuted. The chance to climb beyond the lowest step that is enough is at most alpha: that step's own
hypothesis is true, and it must be refuted. The test takes the largest studentised mean difference of the steps above,
on the same patients, and signs of all differences of a patient are drawn together, so that steps may depend.

Sources: Vergouwe et al., A closed testing procedure to select an appropriate method for updating prediction models,
Statistics in Medicine 2017; Chernozhukov et al., Annals of Statistics 2013 (multiplier bootstrap of a maximum).

Shape legend: n patients, s steps.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

DRAWS = 4999


class StepTest(NamedTuple):
    """Of a step: mean score of the patients, its difference to the first step, and p that no step above is better."""

    score: float
    gain: float
    p: float | None


def climb(scores: Float[np.ndarray, "n s"], alpha: float, seed: int) -> tuple[int, tuple[StepTest, ...]]:
    """Return the position of the step that is enough, and the test at each step that was tested.

    Parameters
    ----------
    scores : [n s]
        Log-likelihood of each patient by each step, lowest step first; out of sample.
    alpha : float
        Chance to climb too far.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> plain = rng.normal(size=100)
    >>> climb(np.column_stack([plain, plain + 1 + rng.normal(size=100), plain]), 0.05, 0)[0]
    1
    """
    rng, steps = np.random.default_rng(seed), scores.shape[1]
    chosen, p_values = steps - 1, []
    for step in range(steps - 1):
        p = largest_gain_p(scores[:, step + 1 :] - scores[:, step, None], rng)
        p_values.append(p)
        if p > alpha:
            chosen = step
            break
    means = scores.mean(axis=0)
    tests = [
        StepTest(float(mean), float(mean - means[0]), p_values[i] if i < len(p_values) else None)
        for i, mean in enumerate(means)
    ]
    return chosen, tuple(tests)


def largest_gain_p(differences: Float[np.ndarray, "n s"], rng: np.random.Generator) -> float:
    """Return the p-value of the hypothesis that no column has a positive mean."""
    number = len(differences)
    centred = differences - differences.mean(axis=0)
    error = np.sqrt(np.square(centred).sum(axis=0) / max(number - 1, 1) / number)
    used = error > 0
    if not used.any():
        return float(not (differences.mean(axis=0) > 0).any())
    observed = (differences.mean(axis=0)[used] / error[used]).max()
    signs = rng.choice([-1.0, 1.0], size=(DRAWS, number))
    drawn = (signs @ centred[:, used] / number / error[used]).max(axis=1)
    return float((1 + (drawn >= observed).sum()) / (DRAWS + 1))
