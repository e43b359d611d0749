"""How far a trial is: its mean so far, reported after each epoch and fold, and the end of those that fall behind."""

from dataclasses import dataclass, field
from statistics import fmean

from optuna import Trial, TrialPruned

from dml.config.params import Params
from dml.experiments.tuning.search_space import Space, most


def block(params: Params, space: Space) -> int:
    """Count the steps that a fold takes in a trial: its epochs, of all members, and its end.

    Only the end where the objective is not the loss that an epoch gives.
    """
    if params.tuning.objective != "validation_loss":
        return 1
    return most(params, space, "optimisation.epochs") * most(params, space, "optimisation.ensemble_size") + 1


@dataclass(slots=True)
class Progress:
    """Reports one trial.

    Parameters
    ----------
    trial : Trial
        What is reported to.
    steps : int
        Of a fold, see `block`.
    grace : int
        Epochs of a fold before a trial may end inside it.
    prunes : bool
        Off where there are several objectives: Optuna compares only single values.
    """

    trial: Trial
    steps: int
    grace: int
    prunes: bool = True
    folds: list[float] = field(default_factory=list)
    _members: list[float] = field(default_factory=list)
    _epochs: int = 0

    @property
    def mean(self) -> float:
        """Mean over the folds that are done."""
        return fmean(self.folds)

    def epoch(self, epoch: int, loss: float) -> None:
        """Take the validation loss of an epoch of the present fold; the lowest of each member counts.

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
        self._report(fmean([*self.folds, fmean(self._members)]), len(self.folds) * self.steps + self._epochs)
        self._epochs += 1
        if self._epochs > self.grace:
            self._prune()

    def fold(self, value: float, last: bool) -> None:
        """Take the value of a fold.

        Raises
        ------
        TrialPruned
            If the trial is behind and this was not its last fold.
        """
        self.folds.append(value)
        self._members, self._epochs = [], 0
        self._report(self.mean, len(self.folds) * self.steps - 1)
        if not last:
            self._prune()

    def _report(self, value: float, step: int) -> None:
        if self.prunes:
            self.trial.report(value, step)

    def _prune(self) -> None:
        if self.prunes and self.trial.should_prune():
            raise TrialPruned
