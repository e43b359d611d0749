"""Train one model of one fold: the teacher, the student (distilled or not), or a deep baseline."""

from dataclasses import replace

from torch import nn

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.types import Case
from dml.data.patient_reader import PatientReader
from dml.linear_models.patient_weights import fit_patient_weights
from dml.models import registry
from dml.models.completed_genes import CompletedGenesStudent
from dml.models.frozen_teacher import FrozenTeacherStudent
from dml.models.initial_weights import InitialWeights, load_matching
from dml.models.teacher import Teacher
from dml.training.checkpoint import FoldModel
from dml.training.distillation import shuffle_expression
from dml.training.distillation import shuffle_targets as shuffle
from dml.training.distillation_targets import member_targets
from dml.training.ensemble_trainer import EnsembleTrainer, SharedState, fit_shared
from dml.training.folds import Fold
from dml.training.model_objective import ModelTermsObjective
from dml.training.objectives import Objective, TaskObjective
from dml.training.trainer import EpochCallback, TrainConfig
from dml.training.training_result import TrainingResult


def train_teacher(
    fold: Fold,
    params: config.Params,
    task: str,
    on_epoch: EpochCallback | None = None,
    initial: InitialWeights | None = None,
) -> TrainingResult:
    """Train the teacher of one fold on every patient with a target and a slide or a transcriptome.

    With `teacher.use_unpaired` off, only on those who have both.

    Parameters
    ----------
    fold : Fold
        Training patients and inner folds.
    params : Params
        The parameters.
    task : str
        "survival", or a label.
    on_epoch : callable, optional
        Called after each epoch of each member.
    initial : InitialWeights, optional
        Weights that every member starts from (`dml.pretraining`).

    Examples
    --------
    >>> from dml.data.example_cohort import example_cohort, example_splits
    >>> from dml.training.folds import make_fold
    >>> cohort = example_cohort(20)
    >>> fold = make_fold(cohort, example_splits(cohort), 0)
    >>> optimisation = config.Optimisation(epochs=1, device="cpu")
    >>> params = config.Params(cohort="synthetic", tasks=("survival",), folds=(0, 1), optimisation=optimisation)
    >>> result = train_teacher(fold, params, "survival")
    >>> result.model.predict(cohort).columns.tolist()
    ['patient_id', 'risk', 'survival_365', 'survival_730', 'survival_1096', 'survival_1826']
    """
    has_sources = any if params.teacher.use_unpaired else all
    cases = [c for c in fold.learning.cases if c.has_target(task) and has_sources((c.has_slide, c.has_expression))]
    shared = fit_shared("teacher", fold, params, task, cases, initial.patient_hashes if initial else ())
    objective = TaskObjective(shared.spec.preprocessor, params, "teacher")
    settings = TrainConfig(
        params.optimisation,
        gradient_coordination=shared.spec.entry.wants_gradient_coordination
        and params.teacher.use_gradient_coordination,
        token_dropout=params.model.token_dropout,
        modality_dropout=params.teacher.modality_dropout,
        on_epoch=on_epoch,
    )

    def initialise(index: int, member: nn.Module) -> None:
        if initial is not None:
            load_matching(member, initial.weights)

    return EnsembleTrainer(shared, settings, lambda member: objective, initialise).train()


def distill_student(
    fold: Fold,
    params: config.Params,
    task: str,
    teacher: FoldModel | None,
    on_epoch: EpochCallback | None = None,
    shuffle_targets: bool = False,
    initial: InitialWeights | None = None,
) -> TrainingResult:
    """Train the student of one fold.

    It is trained for the task on patients with slide and label, and towards the teacher on patients with slide and
    transcriptome; with `distillation.use_unpaired` off, only on those with all three. Member i of the student is
    distilled from member i of the teacher, unless ``distillation.teacher_members`` says otherwise.

    Parameters
    ----------
    fold, params, task, on_epoch, initial
        As for `train_teacher`.
    teacher : FoldModel or None
        The teacher of the same fold; None trains the undistilled student: task loss only.
    shuffle_targets : bool
        The control: each patient has the teacher's targets of another patient, or its genes to be completed.

    Examples
    --------
    >>> from dml.data.example_cohort import example_cohort, example_splits
    >>> from dml.training.folds import make_fold
    >>> cohort = example_cohort(20)
    >>> fold = make_fold(cohort, example_splits(cohort), 0)
    >>> optimisation = config.Optimisation(epochs=1, device="cpu")
    >>> params = config.Params(cohort="synthetic", tasks=("grade",), folds=(0, 1), optimisation=optimisation)
    >>> teacher = train_teacher(fold, params, "grade").model
    >>> student = distill_student(fold, params, "grade", teacher).model
    >>> len(student.predict(cohort))
    20
    """
    cases = _student_cases(fold, task, params.distillation.use_unpaired, is_distilled=teacher is not None)
    learned_from = {
        *(initial.patient_hashes if initial else ()),
        *(teacher.spec.training_patient_hashes if teacher else ()),
    }
    name = "student_undistilled" if teacher is None else "student"
    shared = fit_shared(name, fold, params, task, cases, learned_from)

    weights: dict[str, float] = {}
    if teacher is not None and params.distillation.patient_weights == "predictability":
        weights = fit_patient_weights(fold.learning, shared.spec.preprocessor, shared.inner_fold_of)
    measured = None
    if teacher is not None and params.distillation.architecture == "completed_genes":
        shared = _with_teacher_offset(shared, teacher)
        if shuffle_targets:
            shared = replace(shared, cases=shuffle_expression(shared.cases, params.seed))
        measured = PatientReader(shared.spec.preprocessor, shared.cases).measured(cases)

    def objective(member: int) -> Objective:
        preprocessor = shared.spec.preprocessor
        if teacher is None:
            return TaskObjective(preprocessor, params, "student")
        targets = member_targets(teacher, shared, member, params.distillation, weights)
        make = TaskObjective if measured is None else ModelTermsObjective
        return make(preprocessor, params, "student", shuffle(targets, params.seed) if shuffle_targets else targets)

    def initialise(index: int, member: nn.Module) -> None:
        if teacher is not None and isinstance(member, FrozenTeacherStudent):
            member.load_teacher(_teacher_member(teacher, index))
        elif initial is not None:
            load_matching(member, initial.weights)
        if measured is not None and isinstance(member, CompletedGenesStudent):
            member.fit_scale(measured)

    settings = TrainConfig(params.optimisation, token_dropout=params.model.token_dropout, on_epoch=on_epoch)
    return EnsembleTrainer(shared, settings, objective, initialise).train()


def _student_cases(fold: Fold, task: str, use_unpaired: bool, is_distilled: bool) -> list[Case]:
    """Return the learning patients with a slide, and a target or, to be distilled from, a transcriptome."""
    cases = [c for c in fold.learning.cases if c.has_slide]
    if not use_unpaired:
        return [c for c in cases if c.has_expression and c.has_target(task)]
    return [c for c in cases if c.has_target(task) or (is_distilled and c.has_expression)]


def train_baseline(fold: Fold, params: config.Params, task: str, name: str) -> TrainingResult | None:
    """Train one deep baseline of one fold on every patient with a target and all that the model requires.

    It is trained for the task alone, unless its registry entry has an objective of its own.

    Returns
    -------
    TrainingResult or None
        None if no training or no validation patient with a target has what it requires.

    Raises
    ------
    ConfigError
        If there is no such baseline.
    """
    entry = registry.entry(name)
    if entry.family != "deep":
        raise ConfigError(f"{name} is no deep baseline; there are: {', '.join(registry.deep_names())}")
    cases = [c for c in fold.learning.cases if entry.accepts(c) and c.has_target(task)]
    validated = {c.patient_id for c in cases} & set(fold.inner_fold_of)
    if not validated or (len(validated) == len(cases) and fold.n_inner_folds < 2):
        return None
    shared = fit_shared(name, fold, params, task, cases)
    objective = (entry.objective or TaskObjective)(shared.spec.preprocessor, params)
    settings = TrainConfig(
        params.optimisation,
        gradient_coordination=entry.wants_gradient_coordination,
        token_dropout=params.model.token_dropout,
    )
    return EnsembleTrainer(shared, settings, lambda member: objective).train()


def _teacher_member(teacher: FoldModel, index: int) -> Teacher:
    member = teacher.members[index % len(teacher.members)]
    if not isinstance(member, Teacher):
        raise ConfigError(f"distillation.architecture: a frozen teacher is needed, not a {teacher.spec.name}")
    return member


def _with_teacher_offset(shared: SharedState, teacher: FoldModel) -> SharedState:
    """Add the part of the frozen teacher's linear offset that reads slides alone."""
    offset = None if teacher.spec.linear_offset is None else teacher.spec.linear_offset.of_sources("slide")
    return replace(shared, spec=shared.spec.model_copy(update={"linear_offset": offset}))
