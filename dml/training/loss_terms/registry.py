"""The only list of loss terms beside the task: every function under `@loss_term` in a module of this package.

To add one, write a module here with a function under `@loss_term`, and give it a weight in params.yaml: by its name in
``teacher.loss_weights`` or ``distillation.loss_weights``. Training, history and ablation then have it.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.types import Batch, Kind, ModelOutput
from dml.training.distillation import DistillationTargets

Model = Literal["teacher", "student"]
Section = Literal["teacher", "distillation"]
SECTION_OF: Mapping[Model, Section] = {"teacher": "teacher", "student": "distillation"}
"""Section of params.yaml with the weights of each model's terms."""


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What a term may read: batch, the model's output, parameters, the teacher's targets if any, name of the task."""

    batch: Batch
    output: ModelOutput
    params: config.Params
    kind: Kind
    targets: DistillationTargets | None = None
    task: str = ""


Compute = Callable[[LossInputs], Float[Tensor, ""] | None]
"""From the inputs to the unweighted term; None where it does not apply."""


@dataclass(frozen=True, slots=True)
class LossTerm:
    """One term of one model.

    Attributes
    ----------
    name : str
        In the training history: ``train_<name>``.
    model : str
        "teacher" or "student".
    compute : callable
        The unweighted term.
    key : str or None
        Field of the model's section with the weight; None: the entry of its ``loss_weights``.
    label : str
        As the ablation names it.
    ablation_weight : float or None
        Weight that the ablation tries where the term is off; None: only the term's removal is tried.
    min_magnifications : int
        Magnifications without which the term does not apply.
    """

    name: str
    model: Model
    compute: Compute
    key: str | None
    label: str
    ablation_weight: float | None = None
    min_magnifications: int = 1

    @property
    def section(self) -> Section:
        """Section of params.yaml with the weight."""
        return SECTION_OF[self.model]

    def weight(self, params: config.Params) -> float:
        """Return the weight in the parameters; 0 is off."""
        section = getattr(params, self.section)
        return float(section.loss_weights.get(self.name, 0.0) if self.key is None else getattr(section, self.key))

    def change(self, weight: float, params: config.Params) -> Mapping[str, Mapping[str, Any]]:
        """Return the section of the parameters with another weight of this term, as {section: {field: value}}."""
        if self.key is not None:
            return {self.section: {self.key: weight}}
        others = {name: w for name, w in getattr(params, self.section).loss_weights.items() if name != self.name}
        return {self.section: {"loss_weights": {**others, self.name: weight} if weight else others}}


TERMS: dict[tuple[Model, str], LossTerm] = {}
"""Registered terms by model and name; read them with `loss_terms`."""


def loss_term(
    name: str,
    *,
    model: Model,
    key: str | None = None,
    label: str = "",
    ablation_weight: float | None = None,
    min_magnifications: int = 1,
) -> Callable[[Compute], Compute]:
    """Register a function as a loss term of a model; the parameters are those of `LossTerm`.

    Examples
    --------
    A module with this function, and ``teacher: {loss_weights: {logit_penalty: 0.01}}`` in params.yaml, add a term:

    >>> @loss_term("logit_penalty", model="teacher")
    ... def logit_penalty(inputs):
    ...     return inputs.output.logits.square().mean()
    >>> _ = TERMS.pop(("teacher", "logit_penalty"))
    """

    def register(compute: Compute) -> Compute:
        text = label or name.replace("_", " ")
        TERMS[model, name] = LossTerm(name, model, compute, key, text, ablation_weight, min_magnifications)
        return compute

    return register


def loss_terms(model: Model) -> list[LossTerm]:
    """Return the terms of a model, in the order of modules and of functions in them."""
    import dml.training.loss_terms as package

    for name in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{name}")
    return sorted((t for t in TERMS.values() if t.model == model), key=lambda term: term.compute.__module__)


def check_loss_weights(params: config.Params) -> None:
    """Refuse weights of terms that do not exist.

    Raises
    ------
    ConfigError
        Naming the key and the terms there are.
    """
    for model, section in SECTION_OF.items():
        names = [term.name for term in loss_terms(model) if term.key is None]
        for name in getattr(params, section).loss_weights:
            if name not in names:
                there = ", ".join(names) or "none"
                raise ConfigError(f"{section}.loss_weights: no loss term {name!r}; terms with a weight there: {there}")
