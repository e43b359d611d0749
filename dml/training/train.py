"""Teach and distil one fold, and train the baselines beside: who is learnt from, and by which loss."""

from dml.config import params as config
from dml.core.types import Case
from dml.models import registry
from dml.training.checkpoint import FoldModel
from dml.training.ensemble_trainer import Learner, Trained, has_target
from dml.training.folds import Fold
from dml.training.objectives import TaskObjective, TeacherObjective
from dml.training.trainer import OnEpoch, Recipe


def teach(fold: Fold, params: config.Params, task: str, on_epoch: OnEpoch | None = None) -> Trained:
    """Train the teacher of one fold on every patient with a target and a slide or a transcriptome.

    With `teacher.unpaired` off, only on those who have both.
    """
    unpaired = params.teacher.unpaired
    kept = [c for c in fold.learning.cases if has_target(c, task) and _has_sources(c, unpaired)]
    recipe = Recipe(
        params.optimisation,
        seed=0,
        coordination=params.teacher.coordination,
        token_dropout=params.model.token_dropout,
        modality_dropout=params.teacher.modality_dropout,
        on_epoch=on_epoch,
    )
    learner = Learner("teacher", fold, params, task, recipe, kept)
    objective = TeacherObjective(learner.preparation, params.teacher, params.optimisation.cox)
    return learner.train(lambda member: objective)


def distil(
    fold: Fold,
    params: config.Params,
    task: str,
    teacher: FoldModel | None,
    on_epoch: OnEpoch | None = None,
    exchanged: bool = False,
) -> Trained:
    """Train the student of one fold.

    It learns the task from patients with slide and label, and what the teacher says from patients with slide and
    transcriptome; with `distillation.unpaired` off, only from those with all three. Member i of the student is
    distilled from member i of the teacher. Without a teacher this is the undistilled student: same patients with a
    target, task loss only. With `exchanged`, the control, each patient gets the lesson of another.
    """
    kept = [c for c in fold.learning.cases if _has_slide(c) and (has_target(c, task) or _teachable(c, teacher))]
    if not params.distillation.unpaired:
        kept = [c for c in kept if c.expression is not None and has_target(c, task)]
    recipe = Recipe(params.optimisation, seed=0, token_dropout=params.model.token_dropout, on_epoch=on_epoch)
    if teacher is None:  # nobody whose genes could be generated
        params = params.model_copy(
            update={"distillation": params.distillation.model_copy(update={"student": "tokens"})}
        )
    learner = Learner("student", fold, params, task, recipe, kept, teacher)
    return learner.train(lambda member: learner.student_objective(member, exchanged))


def train_baseline(fold: Fold, params: config.Params, task: str, name: str) -> Trained | None:
    """Train one deep baseline of one fold, for the task alone, on every patient with a target and what it needs.

    Returns
    -------
    Trained or None
        None if no training or no validation patient with a target has what it needs.

    Raises
    ------
    ConfigError
        If there is no such baseline.
    """
    reads = registry.get(name).reads
    kept = [c for c in fold.learning.cases if reads(c) and has_target(c, task)]
    judged = {c.patient_id for c in kept} & set(fold.parts)
    if not judged or (len(judged) == len(kept) and fold.turns < 2):
        return None
    recipe = Recipe(params.optimisation, seed=0, token_dropout=params.model.token_dropout)
    learner = Learner(registry.PREFIX + name, fold, params, task, recipe, kept)
    objective = TaskObjective(learner.preparation, params.optimisation.cox)
    return learner.train(lambda member: objective)


def _has_sources(case: Case, unpaired: bool) -> bool:
    found = (_has_slide(case), case.expression is not None)
    return any(found) if unpaired else all(found)


def _has_slide(case: Case) -> bool:
    return any(len(bag) for bag in case.pyramid.values())


def _teachable(case: Case, teacher: FoldModel | None) -> bool:
    return teacher is not None and case.expression is not None
