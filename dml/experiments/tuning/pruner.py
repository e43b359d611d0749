"""End a trial early: after an epoch or a fold, if its mean so far is worse than the median of complete trials there.

Optuna's MedianPruner compares the best value that a trial ever reported, which for folds is that of the easiest fold.
"""

from collections.abc import Mapping
from statistics import median

from optuna import Study
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


class FoldPruner(BasePruner):
    """Prune trials that report their mean over the folds so far.

    Parameters
    ----------
    warmup : int
        Complete trials to wait for.
    steps : int
        Steps of a fold: its epochs and its end. Of a trial that stopped a fold early, the last epoch's value counts.
    """

    def __init__(self, warmup: int, steps: int = 1) -> None:
        self.warmup, self.steps = warmup, steps

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether a running trial should end."""
        step = trial.last_step
        if step is None:
            return False
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        there = [self._at(t.intermediate_values, step) for t in complete]
        others = [value for value in there if value is not None]
        if len(others) < self.warmup:
            return False
        worse = trial.intermediate_values[step] - median(others)
        return worse > 0 if study.direction == StudyDirection.MINIMIZE else worse < 0

    def _at(self, values: Mapping[int, float], step: int) -> float | None:
        """Value of a trial at a step, or the last one before it within the same fold; the end of a fold is exact."""
        if (step + 1) % self.steps == 0:
            return values.get(step)
        first = step - step % self.steps
        before = [known for known in values if first <= known <= step]
        return values[max(before)] if before else None
