"""The ladder of an update: its steps, and which of them is enough by the inner part of the new patients.

Every fold of the champion is updated without one part of the inner patients, which it then predicts: of each inner
patient every step has one prediction by a model that was not updated with the patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from dml.config import params as config
from dml.core.types import Cohort
from dml.training.checkpoint import FoldModel
from dml.training.folds import Fold
from dml.update.closed_test import StepTest, climb
from dml.update.predictive_score import log_scores
from dml.update.recalibrated_network import recalibrate_network
from dml.update.retrain import as_champion, retrain
from dml.update.trained_steps import rescale_risk, train_adapters, train_head

Step = Literal["keep", "level", "slope", "head", "adapters", "retrain"]
STEPS: tuple[Step, ...] = get_args(Step)
"""From the champion as it is to a new model; "slope" is level and slope."""


@dataclass(frozen=True, slots=True)
class LadderResult:
    """The step that is enough, and the test at each."""

    step: Step
    tests: Mapping[str, StepTest]
    patients: int

    def rows(self) -> list[dict[str, Any]]:
        """Return a row a step: score, gain over keeping, and p that no step above is better."""
        return [
            {
                "step": name,
                "log_likelihood": test.score,
                "gain": test.gain,
                "p_enough": test.p,
                "taken": name == self.step,
            }
            for name, test in self.tests.items()
        ]


def update_fold(
    champion: FoldModel,
    step: Step,
    new: Cohort,
    replay: Fold | None,
    params: config.Params,
    index: int,
    seed: int,
) -> FoldModel:
    """Return one fold's model after a step.

    Parameters
    ----------
    champion : FoldModel
        The fold's model.
    new : Cohort
        New patients to learn from.
    replay : Fold, optional
        Patients that the fold learned from; None if they are not kept.
    """
    settings = as_champion(params, champion.spec)
    if step == "keep":
        return champion
    if step in ("level", "slope"):
        updated = recalibrate_network(champion, new, with_slope=step == "slope")
    elif step == "head":
        updated = train_head(champion, new, settings, seed)
    elif step == "adapters":
        updated = train_adapters(champion, new, replay.learning if replay else None, settings, seed)
    else:
        return retrain(champion, new, replay, params, index, seed)
    return rescale_risk(updated, new)


def choose_step(
    champion: Sequence[FoldModel],
    inner: Cohort,
    replay: Sequence[Fold | None],
    params: config.Params,
    steps: Sequence[Step],
    alpha: float,
    seed: int,
) -> LadderResult:
    """Predict the inner patients out of fold by every step and climb as far as a test says it pays.

    Parameters
    ----------
    champion : sequence of FoldModel
        One a fold.
    inner : Cohort
        New patients of known outcome.
    replay : sequence
        Learning patients of each fold, or None.
    steps : sequence of str
        Steps that are offered, "keep" first.
    """
    parts = divide(inner, len(champion), seed)
    scores = {step: _scores(champion, step, inner, parts, replay, params, seed) for step in steps}
    position, tests = climb(np.column_stack([scores[step] for step in steps]), alpha, seed)
    return LadderResult(steps[position], dict(zip(steps, tests, strict=True)), len(inner.cases))


def _scores(
    champion: Sequence[FoldModel],
    step: Step,
    inner: Cohort,
    parts: Mapping[str, int],
    replay: Sequence[Fold | None],
    params: config.Params,
    seed: int,
) -> np.ndarray:
    rows = []
    for k, model in enumerate(champion):
        learning = inner.subset({patient for patient, part in parts.items() if part != k})
        held_out = inner.subset({patient for patient, part in parts.items() if part == k})
        rows.append(predict_with_targets(update_fold(model, step, learning, replay[k], params, k, seed), held_out))
    table = pd.concat(rows).set_index("patient_id").loc[[case.patient_id for case in inner.cases]]
    return log_scores(table, champion[0].spec.preprocessor.task, champion[0].spec.years)


def predict_with_targets(model: FoldModel, cohort: Cohort) -> pd.DataFrame:
    """Return predictions and outcomes of a cohort's patients, all of known outcome."""
    task = model.spec.preprocessor.task
    predicted = model.predict(cohort)
    cases = {case.patient_id: case for case in cohort.cases}
    observed = [{"site": cases[id_].site, **task.target_values(cases[id_])} for id_ in predicted["patient_id"]]
    return pd.concat([predicted, pd.DataFrame(observed, index=predicted.index)], axis=1)


def divide(cohort: Cohort, parts: int, seed: int) -> dict[str, int]:
    """Divide patients into parts in which deaths (or each label) are alike."""
    drawn = np.random.default_rng([seed, 6]).random(len(cohort.cases))
    died = np.array([case.survival is not None and case.survival.event for case in cohort.cases])
    labels = np.array([str(sorted(case.labels.items())) for case in cohort.cases])
    order = np.lexsort((drawn, labels, died))
    return {cohort.cases[i].patient_id: rank % parts for rank, i in enumerate(order)}
