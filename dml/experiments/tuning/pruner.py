"""Prune trials that fall behind: report the mean so far after each epoch and fold, compare it with complete trials.

Optuna's MedianPruner compares the best value that a trial ever reported, which for folds is that of the easiest fold;
its WilcoxonPruner cannot reach significance with three to five folds, and neither compares inside a fold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, median

from optuna import Study, Trial, TrialPruned
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dml.config.params import Params
from dml.experiments.tuning.search_space import Space


def steps_per_fold(params: Params, space: Space) -> int:
    """Count the reports of a fold: one for each epoch of each member, and its end.

    Only the end where the objective is not the validation loss, which is all that an epoch gives.
    """
    if params.tuning.objective != "validation_loss":
        return 1
    epochs, members = (space.largest(params, f"optimisation.{name}") for name in ("epochs", "ensemble_size"))
    return epochs * members + 1


class FoldPruner(BasePruner):
    """Prune a trial whose mean over the folds so far is worse than the median of complete trials at the same step.

    Parameters
    ----------
    n_startup_trials : int
        Complete trials before one may be pruned.
    steps : int
        Reports of a fold. Of a trial that stopped a fold early, its last epoch in that fold counts.
    """

    def __init__(self, n_startup_trials: int, steps: int = 1) -> None:
        self.n_startup_trials, self.steps = n_startup_trials, steps

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Decide whether a running trial ends."""
        step = trial.last_step
        if step is None:
            return False
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        values = [self._value_at(other.intermediate_values, step) for other in complete]
        reached = [value for value in values if value is not None]
        if len(reached) < self.n_startup_trials:
            return False
        difference = trial.intermediate_values[step] - median(reached)
        return difference > 0 if study.direction == StudyDirection.MINIMIZE else difference < 0

    def _value_at(self, values: Mapping[int, float], step: int) -> float | None:
        """Value of a trial at a step, or the last one before it within the same fold; the end of a fold is exact."""
        if (step + 1) % self.steps == 0:
            return values.get(step)
        first = step - step % self.steps
        before = [reported for reported in values if first <= reported <= step]
        return values[max(before)] if before else None


@dataclass(slots=True)
class TrialProgress:
    """Reports one trial and ends it where the pruner says so.

    Parameters
    ----------
    trial : Trial
        The trial.
    steps : int
        Reports of a fold.
    min_epochs : int
        Epochs of a fold before the trial may end inside it.
    prunes : bool
        False where there are several objectives: Optuna compares only single values.
    """

    trial: Trial
    steps: int
    min_epochs: int
    prunes: bool = True
    folds: list[float] = field(default_factory=list)
    _members: list[float] = field(default_factory=list)
    _epochs: int = 0

    @property
    def mean(self) -> float:
        """Mean over the folds that ended."""
        return fmean(self.folds)

    def end_epoch(self, epoch: int, loss: float) -> None:
        """Add the validation loss of an epoch of the present fold; the lowest of each member counts.

        Raises
        ------
        TrialPruned
            If the trial is behind.
        """
        if self.steps == 1 or not self.prunes:
            return
        if epoch == 0:
            self._members.append(loss)
        self._members[-1] = min(self._members[-1], loss)
        step = len(self.folds) * self.steps + self._epochs
        self._epochs += 1
        self._report(fmean([*self.folds, fmean(self._members)]), step, self._epochs > self.min_epochs)

    def end_fold(self, value: float, last: bool) -> None:
        """Add the value of a fold.

        Raises
        ------
        TrialPruned
            If the trial is behind and this was not its last fold.
        """
        self.folds.append(value)
        self._members, self._epochs = [], 0
        self._report(self.mean, len(self.folds) * self.steps - 1, not last)

    def _report(self, value: float, step: int, may_end: bool) -> None:
        if not self.prunes:
            return
        self.trial.report(value, step)
        if may_end and self.trial.should_prune():
            raise TrialPruned
