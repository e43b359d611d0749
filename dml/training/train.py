"""Teach and distil one fold, and train the baselines beside: who is learnt from, and by which loss."""

from dml.config import params as config
from dml.core.types import Case
from dml.models import registry
from dml.training.checkpoint import FoldModel
from dml.training.ensemble_trainer import EnsembleTrainer, TrainingResult
from dml.training.folds import Fold
from dml.training.objectives import TaskObjective, TeacherObjective
from dml.training.trainer import EpochCallback, TrainConfig


def train_teacher(
    fold: Fold, params: config.Params, task: str, on_epoch: EpochCallback | None = None
) -> TrainingResult:
    """Train the teacher of one fold on every patient with a target and a slide or a transcriptome.

    With `teacher.use_unpaired` off, only on those who have both.
    """
    unpaired = params.teacher.use_unpaired
    kept = [c for c in fold.learning.cases if c.has_target(task) and _has_sources(c, unpaired)]
    recipe = TrainConfig(
        params.optimisation,
        seed=0,
        coordination=params.teacher.use_gradient_coordination,
        token_dropout=params.model.token_dropout,
        modality_dropout=params.teacher.modality_dropout,
        on_epoch=on_epoch,
    )
    learner = EnsembleTrainer("teacher", fold, params, task, recipe, kept)
    objective = TeacherObjective(learner.preprocessor, params.teacher, params.optimisation.cox_loss_weight)
    return learner.train(lambda member: objective)


def distill_student(
    fold: Fold,
    params: config.Params,
    task: str,
    teacher: FoldModel | None,
    on_epoch: EpochCallback | None = None,
    exchanged: bool = False,
) -> TrainingResult:
    """Train the student of one fold.

    It learns the task from patients with slide and label, and what the teacher says from patients with slide and
    transcriptome; with `distillation.use_unpaired` off, only from those with all three. Member i of the student is
    distilled from member i of the teacher. Without a teacher this is the undistilled student: same patients with a
    target, task loss only. With `exchanged`, the control, each patient gets the lesson of another.
    """
    kept = [c for c in fold.learning.cases if c.has_slide and (c.has_target(task) or _teachable(c, teacher))]
    if not params.distillation.use_unpaired:
        kept = [c for c in kept if c.has_expression and c.has_target(task)]
    recipe = TrainConfig(params.optimisation, seed=0, token_dropout=params.model.token_dropout, on_epoch=on_epoch)
    if teacher is None:  # nobody whose genes could be generated
        params = params.model_copy(
            update={"distillation": params.distillation.model_copy(update={"architecture": "subspace_tokens"})}
        )
    learner = EnsembleTrainer("student", fold, params, task, recipe, kept, teacher)
    return learner.train(lambda member: learner.student_objective(member, exchanged))


def train_baseline(fold: Fold, params: config.Params, task: str, name: str) -> TrainingResult | None:
    """Train one deep baseline of one fold, for the task alone, on every patient with a target and what it needs.

    Returns
    -------
    TrainingResult or None
        None if no training or no validation patient with a target has what it needs.

    Raises
    ------
    ConfigError
        If there is no such baseline.
    """
    reads = registry.entry(name).accepts
    kept = [c for c in fold.learning.cases if reads(c) and c.has_target(task)]
    judged = {c.patient_id for c in kept} & set(fold.inner_fold_of)
    if not judged or (len(judged) == len(kept) and fold.n_inner_folds < 2):
        return None
    recipe = TrainConfig(params.optimisation, seed=0, token_dropout=params.model.token_dropout)
    learner = EnsembleTrainer(name, fold, params, task, recipe, kept)
    objective = TaskObjective(learner.preprocessor, params.optimisation.cox_loss_weight)
    return learner.train(lambda member: objective)


def _has_sources(case: Case, unpaired: bool) -> bool:
    found = (case.has_slide, case.has_expression)
    return any(found) if unpaired else all(found)


def _teachable(case: Case, teacher: FoldModel | None) -> bool:
    return teacher is not None and case.has_expression
