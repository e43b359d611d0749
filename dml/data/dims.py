"""What a model must know about its data to be built; saved with every model."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from dml.core.types import Kind


class ModelDims(BaseModel):
    """Widths of everything that goes in and out of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    token_width: int
    levels: int
    tumor_genes: int
    tme_genes: int
    covariates: int
    outputs: int
    auxiliary: Mapping[str, int] = {}
    """Classes of each label that is learnt beside the task."""
