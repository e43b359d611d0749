"""The ablation: what is switched off or exchanged, one thing at a time, against the full teacher or student."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dml.config import params as config
from dml.training.checkpoint import FoldModel
from dml.training.ensemble_trainer import TrainingResult
from dml.training.folds import Fold
from dml.training.train import distill_student, train_teacher

Kind = Literal["teacher", "student"]


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
    lesson : str
        Whose lessons a student gets: its "own" teacher's, those of "another" patient (the control), or "none".
    magnifications : int
        Fewest resolutions for which it means anything.
    """

    name: str
    kind: Kind
    changes: Mapping[str, Mapping[str, Any]]
    lesson: Literal["own", "another", "none"] = "own"
    magnifications: int = 1

    def applied(self, params: config.Params) -> config.Params:
        """Return the parameters of this row."""
        sections = {
            section: getattr(params, section).model_copy(update=dict(values))
            for section, values in self.changes.items()
        }
        return params.model_copy(update=sections)

    def differs(self, params: config.Params) -> bool:
        """Whether this row is another model than the full one with these parameters and magnifications."""
        enough = len(params.tiles.mpps) >= self.magnifications
        return enough and (self.applied(params) != params or self.lesson != "own")


VARIANTS = (
    Variant("teacher", "teacher", {}),
    Variant("no disentangled fusion", "teacher", {"teacher": {"use_fusion": False}}),
    Variant("no gradient coordination", "teacher", {"teacher": {"use_gradient_coordination": False}}),
    Variant("no consistency", "teacher", {"teacher": {"consistency_weight": 0.0}}, magnifications=2),
    Variant("consistency of expression", "teacher", {"teacher": {"consistency_target": "expression"}}),
    Variant("with disentangling loss", "teacher", {"teacher": {"disentanglement_weight": 0.3}}),
    Variant("no auxiliary labels", "teacher", {"teacher": {"auxiliary_weight": 0.0}}),
    Variant("no linear start", "teacher", {"model": {"linear_offset": config.LinearOffset()}}),
    Variant("no unpaired patients", "teacher", {"teacher": {"use_unpaired": False}}),
    Variant("no modality dropout", "teacher", {"teacher": {"modality_dropout": 0.0}}),
    Variant("Cox loss, half", "teacher", {"optimisation": {"cox_loss_weight": 0.5}}),
    Variant("Cox loss", "teacher", {"optimisation": {"cox_loss_weight": 1.0}}),
    Variant("student", "student", {}),
    Variant("no distillation", "student", {}, lesson="none"),
    Variant("lessons of another patient", "student", {}, lesson="another"),
    Variant("no feature distillation", "student", {"distillation": {"feature_weight": 0.0}}),
    Variant("no prediction distillation", "student", {"distillation": {"prediction_weight": 0.0}}),
    Variant("student: no auxiliary labels", "student", {"distillation": {"auxiliary_weight": 0.0}}),
    Variant("student: no linear start", "student", {"distillation": {"use_linear_offset": False}}),
    Variant("student: linear start", "student", {"distillation": {"use_linear_offset": True}}),
    Variant("student: no unpaired patients", "student", {"distillation": {"use_unpaired": False}}),
    Variant("generated genes", "student", {"distillation": {"architecture": "gene_imputation"}}),
    Variant("density-peak clustering", "student", {"distillation": {"aggregation": "density_peaks"}}),
    Variant("no aggregation", "student", {"distillation": {"aggregation": "none"}}),
)
"""The first of each kind is the full model that the others of its kind are compared with."""
FULL = {variant.kind: variant for variant in reversed(VARIANTS) if not variant.changes and variant.lesson == "own"}


def train(variant: Variant, fold: Fold, params: config.Params, task: str, teacher: FoldModel | None) -> TrainingResult:
    """Train one row on one fold.

    Parameters
    ----------
    teacher : FoldModel or None
        The full teacher of this fold and seed, of whom every student learns.
    """
    changed = variant.applied(params)
    if variant.kind == "teacher":
        return train_teacher(fold, changed, task)
    return distill_student(
        fold, changed, task, None if variant.lesson == "none" else teacher, exchanged=variant.lesson == "another"
    )
