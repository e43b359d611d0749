"""One model as the registry lists it: name, label, inputs, paper and how it is built."""

from collections.abc import Callable
from dataclasses import dataclass, replace
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


Build = Callable[[ModelDims, ModelSections], nn.Module]
"""Makes an untrained model."""


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
    backbone : str
        The registered model that is this one without its published idea, for the ablation; empty: there is none.
    is_variant : bool
        Whether it is another model with or without an idea, in that model's file: `dml benchmark` trains it, no stage.
    """

    name: str
    label: str
    description: str
    family: Family
    inputs: tuple[Source, ...]
    requires: tuple[Source, ...]
    paper: str = ""
    build: Build | None = None
    objective: Callable[[Any, Any], Any] | None = None
    wants_gradient_coordination: bool = False
    backbone: str = ""
    is_variant: bool = False

    def with_plain(self, build: Build, without: str) -> "tuple[ModelEntry, ModelEntry]":
        """Return this entry and that of its backbone: the same inputs, trained for the task alone.

        Parameters
        ----------
        build : callable
            As the field of that name.
        without : str
            What is left out, for the description.
        """
        plain = replace(
            self,
            name=f"{self.name}_plain",
            label=f"{self.label}, plain",
            description=f"{self.description}; without {without}",
            build=build,
            objective=None,
            is_variant=True,
        )
        return replace(self, backbone=plain.name), plain

    def accepts(self, case: Case) -> bool:
        """Whether a patient has all that the model requires."""
        return all(case.has(source) for source in self.requires)
