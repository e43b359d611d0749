"""Full retraining on the new patients and, where they may be kept, the old ones: the last step of the ladder."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dml.config import params as config
from dml.core.errors import InputError
from dml.core.types import Cohort, GeneGroups
from dml.training.checkpoint import FoldModel, ModelSpec
from dml.training.folds import Fold
from dml.training.train import distill_student, train_teacher


def retrain(
    champion: FoldModel, new: Cohort, replay: Fold | None, params: config.Params, index: int, seed: int
) -> FoldModel:
    """Train a fold's model anew, as the champion was: a student after a teacher of the same patients.

    Parameters
    ----------
    champion : FoldModel
        Whose architecture and inputs it has.
    new : Cohort
        New patients to learn from.
    replay : Fold, optional
        Learning patients of the champion's fold.
    index : int
        Number of the fold.

    Raises
    ------
    InputError
        If the champion is neither teacher nor student, or there is no transcriptome to teach from.
    """
    spec, task = champion.spec, champion.spec.preprocessor.task.name
    if spec.name not in ("teacher", "student"):
        raise InputError(
            "update", f"{spec.name} is not trained again here", "Teacher and student are: --until adapters"
        )
    number = max(replay.n_inner_folds if replay else 0, 3)
    inner = _inner_folds(new, number, seed)
    learning = new
    if replay is not None:
        inner = {**replay.inner_fold_of, **inner}
        learning = pool_cohorts(replay.learning, new)
    if not any(case.has_expression for case in learning.cases):
        raise InputError(new.name, "no patient has a transcriptome to teach from", "Use --until adapters")
    fold, settings = Fold(index, learning, inner), as_champion(params, spec)
    teacher = train_teacher(fold, settings, task).model
    return teacher if spec.name == "teacher" else distill_student(fold, settings, task, teacher).model


def as_champion(params: config.Params, spec: ModelSpec) -> config.Params:
    """Return parameters with the architecture and inputs of a model."""
    embed = params.embed.model_copy(update={"encoder": spec.preprocessor.encoder})
    evaluation = params.evaluation.model_copy(update={"years": spec.years})
    sections = {"model": spec.model, "teacher": spec.teacher, "distillation": spec.distillation, "tiles": spec.tiles}
    clinical = () if spec.preprocessor.clinical is None else spec.preprocessor.clinical.names
    inputs = params.inputs.model_copy(update={"clinical": clinical})
    return params.model_copy(update={**sections, "embed": embed, "evaluation": evaluation, "inputs": inputs})


def pool_cohorts(old: Cohort, new: Cohort) -> Cohort:
    """Return the patients of both, with the genes that both measure in the order of the first.

    Raises
    ------
    InputError
        If they share a patient, measure in different units, or order classes differently.
    """
    shared = {case.patient_id for case in old.cases} & {case.patient_id for case in new.cases}
    if shared:
        raise InputError(new.name, f"{len(shared)} patients are in {old.name}, too", "Leave them out")
    classes = {name: labels for name, labels in old.classes.items() if new.classes.get(name) == labels}
    measured = [c for c in (old, new) if any(case.has_expression for case in c.cases)]
    if len({c.unit for c in measured}) > 1:
        raise InputError(new.name, f"expression in {new.unit}, {old.name} in {old.unit}", "Convert one of them")
    genes = tuple(gene for gene in old.genes if gene in set(new.genes)) if len(measured) == 2 else measured[0].genes
    cases = tuple(case for cohort in (old, new) for case in _select_genes(cohort, genes).cases)
    tumor, tme = (tuple(g for g in part if g in set(genes)) for part in (old.groups.tumor, old.groups.tme))
    groups = GeneGroups(tumor, tme)
    return Cohort(old.name, cases, genes, measured[0].unit if measured else old.unit, groups, classes)


def _select_genes(cohort: Cohort, genes: tuple[str, ...]) -> Cohort:
    at = {gene: i for i, gene in enumerate(cohort.genes)}
    if not set(genes) <= set(at):
        return replace(cohort, cases=tuple(replace(case, expression=None) for case in cohort.cases))
    order = np.array([at[gene] for gene in genes], int)
    cases = [c if c.expression is None else replace(c, expression=c.expression[order]) for c in cohort.cases]
    return replace(cohort, cases=tuple(cases), genes=genes)


def _inner_folds(cohort: Cohort, number: int, seed: int) -> Mapping[str, int]:
    order = np.random.default_rng([seed, 5]).permutation(len(cohort.cases))
    return {cohort.cases[i].patient_id: rank % number for rank, i in enumerate(order)}
