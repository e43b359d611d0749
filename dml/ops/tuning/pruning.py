"""End a trial early: after a fold, if its mean so far is worse than the median of complete trials over the same folds.

Optuna's MedianPruner compares the best value that a trial ever reported, which for folds is that of the easiest fold.
"""

from statistics import median

from optuna import Study
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


class FoldPruner(BasePruner):
    """Prune trials that report, at step i, their mean over the first i + 1 folds.

    Parameters
    ----------
    warmup : int
        Complete trials to wait for.
    """

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether a running trial should end."""
        step = trial.last_step
        if step is None:
            return False
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [t.intermediate_values[step] for t in complete if step in t.intermediate_values]
        if len(others) < self.warmup:
            return False
        worse = trial.intermediate_values[step] - median(others)
        return worse > 0 if study.direction == StudyDirection.MINIMIZE else worse < 0
