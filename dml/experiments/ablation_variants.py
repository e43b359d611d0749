"""Rows of the ablation: what is switched off or exchanged, one thing at a time, in the teacher or the student."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dml.config import params as config
from dml.pretraining.pretrained import read_initial
from dml.training.checkpoint import FoldModel
from dml.training.folds import Fold
from dml.training.loss_terms.registry import LossTerm, loss_terms
from dml.training.train import distill_student, train_teacher
from dml.training.training_result import TrainingResult

Kind = Literal["teacher", "student"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table.

    Attributes
    ----------
    name : str
        As it is printed.
    kind : str
        Which model it changes: "teacher" or "student".
    changes : mapping
        Section of params.yaml to the values that differ.
    targets : str
        Which distillation targets a student gets: those of the "same" patient, of "another" patient (the control),
        or "none".
    min_magnifications : int
        Number of resolutions below which the row is the full model.
    """

    name: str
    kind: Kind
    changes: Mapping[str, Mapping[str, Any]]
    targets: Literal["same", "another", "none"] = "same"
    min_magnifications: int = 1

    def apply(self, params: config.Params) -> config.Params:
        """Return the parameters of this row."""
        sections = {
            section: getattr(params, section).model_copy(update=dict(values))
            for section, values in self.changes.items()
        }
        return params.model_copy(update=sections)

    def differs(self, params: config.Params) -> bool:
        """Whether this row is another model than the full one with these parameters, magnifications and members."""
        changed = self.apply(params)
        enough = len(params.tiles.mpps) >= self.min_magnifications
        if changed.distillation.is_cross_fitted:
            enough &= changed.optimisation.ensemble_size >= changed.split.inner_folds
        return enough and (changed != params or self.targets != "same")


_FIXED = (
    Variant("teacher", "teacher", {}),
    Variant("no disentangled fusion", "teacher", {"teacher": {"use_fusion": False}}),
    Variant("no gradient coordination", "teacher", {"teacher": {"use_gradient_coordination": False}}),
    Variant("consistency of expression", "teacher", {"teacher": {"consistency_target": "expression"}}),
    Variant("no linear model", "teacher", {"model": {"linear_offset": config.LinearOffset(components=0)}}),
    Variant("no shrinkage", "teacher", {"optimisation": {"shrinkage": None}}),
    Variant("no unpaired patients", "teacher", {"teacher": {"use_unpaired": False}}),
    Variant("no modality dropout", "teacher", {"teacher": {"modality_dropout": 0.0}}),
    Variant("Cox loss, half", "teacher", {"optimisation": {"cox_loss_weight": 0.5}}),
    Variant("Cox loss", "teacher", {"optimisation": {"cox_loss_weight": 1.0}}),
    Variant("student", "student", {}),
    Variant("no distillation", "student", {}, targets="none"),
    Variant("targets of another patient", "student", {}, targets="another"),
    Variant("student: no linear offset", "student", {"distillation": {"use_linear_offset": False}}),
    Variant("student: no shrinkage", "student", {"optimisation": {"shrinkage": None}}),
    Variant("student: linear offset", "student", {"distillation": {"use_linear_offset": True}}),
    Variant("targets of genes alone", "student", {"distillation": {"targets": "genes"}}),
    Variant("targets beyond the linear model", "student", {"distillation": {"targets": "residual"}}),
    Variant("cross-fitted targets", "student", {"distillation": {"teacher_members": "mean"}}),
    Variant("patients weighted", "student", {"distillation": {"patient_weights": "predictability"}}),
    Variant("student: no clinical inputs", "student", {"inputs": {"clinical": ()}}),
    Variant("student: no unpaired patients", "student", {"distillation": {"use_unpaired": False}}),
    Variant("generated genes", "student", {"distillation": {"architecture": "gene_imputation"}}),
    Variant("completed genes", "student", {"distillation": {"architecture": "completed_genes"}}),
    Variant("density-peak clustering", "student", {"distillation": {"aggregation": "density_peaks"}}),
    Variant("student: zoom to a fifth", "student", {"distillation": {"zoom": 0.2}}, min_magnifications=2),
    Variant("no aggregation", "student", {"distillation": {"aggregation": "none"}}),
)
"""Rows beside those of the loss terms."""
FULL = {variant.kind: variant for variant in reversed(_FIXED) if not variant.changes and variant.targets == "same"}
"""The full model that the others of its kind are compared with."""


def list_variants(params: config.Params) -> tuple[Variant, ...]:
    """Return all rows, the full models first: the fixed ones, and one or two for each loss term of a model."""
    terms = {kind: [row for term in loss_terms(kind) for row in _vary(term, params)] for kind in KINDS}
    fixed = {kind: [variant for variant in _FIXED if variant.kind == kind] for kind in KINDS}
    start = {kind: [_vary_start(kind, params)] if params.other_cohorts else [] for kind in KINDS}
    return tuple(variant for kind in KINDS for variant in (*fixed[kind], *terms[kind], *start[kind]))


def _vary_start(kind: Kind, params: config.Params) -> Variant:
    """Return the row whose model starts from pretrained weights where the full one does not, and the other way."""
    start, prefix = params.pretraining.start, "student: " if kind == "student" else ""
    if kind in start:
        others = tuple(name for name in start if name != kind)
        return Variant(f"{prefix}no pretraining", kind, {"pretraining": {"start": others}})
    return Variant(f"{prefix}with pretraining", kind, {"pretraining": {"start": (*start, kind)}})


def _vary(term: LossTerm, params: config.Params) -> Iterator[Variant]:
    """Yield the row without a loss term and, of a term that is off by default, the row with it."""
    prefix = "student: " if any(term.name == other.name for other in loss_terms("teacher")) else ""
    prefix = prefix if term.model == "student" else ""
    least = term.min_magnifications
    yield Variant(f"{prefix}no {term.label}", term.model, term.change(0.0, params), min_magnifications=least)
    if term.ablation_weight is not None:
        change = term.change(term.ablation_weight, params)
        yield Variant(f"{prefix}with {term.label}", term.model, change, min_magnifications=least)


def train(variant: Variant, fold: Fold, params: config.Params, task: str, teacher: FoldModel | None) -> TrainingResult:
    """Train one row on one fold.

    Parameters
    ----------
    teacher : FoldModel or None
        The full teacher of this fold and seed, from which every student is distilled.
    """
    changed = variant.apply(params)
    initial = read_initial(changed, variant.kind, fold.index)
    if variant.kind == "teacher":
        return train_teacher(fold, changed, task, initial=initial)
    return distill_student(
        fold,
        changed,
        task,
        None if variant.targets == "none" else teacher,
        shuffle_targets=variant.targets == "another",
        initial=initial,
    )
