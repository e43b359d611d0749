"""Section of params.yaml about Optuna studies: objective, sampler, pruning, search spaces."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from dml.config.base import Section
from dml.config.renamed_keys import RENAMED

Scalar = bool | int | float | str


class Domain(Section):
    """Values that a parameter may take; with `when`, only while other parameters have one of the values named."""

    when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict, description="dotted name: values")


class Range(Domain):
    """Numbers, or whole numbers, between two bounds; both are included."""

    type: Literal["float", "int"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}, and above 0 if log")
        if self.type == "int" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"bounds {self.low:g} and {self.high:g} of an int must be whole")
        return self


class Choices(Domain):
    """A finite set of values."""

    type: Literal["categorical"]
    choices: tuple[Scalar, ...] = Field(min_length=1)


SearchSpace = dict[str, Annotated[Range | Choices, Field(discriminator="type")]]
"""Domains by dotted name of a parameter."""


class Tuning(Section):
    """Optuna studies: objective (inner validation only), sampler, pruning, search space of each kind of study."""

    objective: Literal["validation_loss", "c_index", "auc", "spearman"] = "validation_loss"
    second_objective: Literal["none", "gflops"] = Field(
        "none", description="a second objective; then nothing is pruned"
    )
    sampler: Literal["tpe", "gp", "nsga2", "random"] = "tpe"
    n_startup_trials: PositiveInt = Field(5, description="complete trials before one may be pruned")
    min_epochs_before_pruning: int = Field(
        5, ge=0, description="epochs of a fold before a trial may be pruned inside it"
    )
    folds: tuple[int, ...] = Field((), description="averaged over; empty = all")
    ensemble_size: int = Field(0, ge=0, description="models per fold of a trial; 0 = optimisation.ensemble_size")
    teacher: SearchSpace = Field(default_factory=dict, description="dotted name of a parameter: domain")
    student: SearchSpace = Field(default_factory=dict, description="dotted name of a parameter: domain")

    @model_validator(mode="after")
    def _renamed(self) -> "Tuning":
        for space in (self.teacher, self.student):
            for name in [*space, *(other for domain in space.values() for other in domain.when)]:
                if name in RENAMED:
                    raise ValueError(f"{name} was renamed to {RENAMED[name]}; `dml migrate` rewrites the file")
        return self
