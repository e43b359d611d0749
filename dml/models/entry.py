"""One model as the registry lists it: name, label, inputs, paper and how it is built."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import nn

from dml.config import params as config
from dml.core.types import Case, Source
from dml.data.dims import ModelDims

Family = Literal["ours", "deep", "linear"]


@runtime_checkable
class ModelSections(Protocol):
    """The sections of params.yaml that decide a model's architecture; `Params` and `ModelSpec` have them."""

    @property
    def model(self) -> config.Model:
        """Widths, heads and dropout."""

    @property
    def teacher(self) -> config.Teacher:
        """Switches of the teacher."""

    @property
    def distillation(self) -> config.Distillation:
        """Architecture of the student."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model of the registry, defined beside the model as ``MODEL`` (or ``MODELS``, a tuple of several).

    Attributes
    ----------
    name : str
        Key in params.yaml, folders and tables.
    label : str
        Short name for tables and figures.
    description : str
        One line for the report.
    family : str
        "ours" (teacher and student), "deep" or "linear".
    inputs : tuple of str
        What it reads: "slide", "genes", "clinical".
    requires : tuple of str
        What a patient must have to be predicted; an input that may be absent is not among them.
    paper : str
        Where it is described.
    build : callable or None
        (ModelDims, ModelSections) to an untrained module that maps a Batch to a ModelOutput; None for linear models.
    objective : callable or None
        (Preprocessor, Params) to a loss of its own (see `dml.training.objectives`); None: the task's.
    wants_gradient_coordination : bool
        Whether the gradients of its two subspaces are coordinated in training.
    """

    name: str
    label: str
    description: str
    family: Family
    inputs: tuple[Source, ...]
    requires: tuple[Source, ...]
    paper: str = ""
    build: Callable[[ModelDims, ModelSections], nn.Module] | None = None
    objective: Callable[[Any, Any], Any] | None = None
    wants_gradient_coordination: bool = False

    def accepts(self, case: Case) -> bool:
        """Whether a patient has all that the model requires."""
        return all(case.has(source) for source in self.requires)
