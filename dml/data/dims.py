"""Input and output widths of a model; all that it must know of its data to be built."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from dml.core.types import Kind


class ModelDims(BaseModel):
    """Widths of everything that goes in and out of a model; saved with every model.

    Attributes
    ----------
    kind : str
        "survival", "classification" or "regression".
    token_width, levels : int
        Width of a patch token, number of magnifications.
    tumor_genes, tme_genes : int
        Genes of each subspace.
    gene_names : tuple of str
        Symbols of the genes of the tumor, then of the TME; empty where nothing depends on them.
    covariates : int
        Clinical columns, each followed by a column that marks missing values.
    outputs : int
        Time bins, classes, or parameters of a distribution of numbers.
    auxiliary : mapping
        Auxiliary label to its number of classes.
    programs : mapping
        Subspace to the number of gene programs that are predicted from its token.
    clinical : int
        Columns of optional clinical inputs, after those of the covariates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    token_width: int
    levels: int
    tumor_genes: int
    tme_genes: int
    gene_names: tuple[str, ...] = ()
    covariates: int
    outputs: int
    auxiliary: Mapping[str, int] = {}
    programs: Mapping[str, int] = {}
    clinical: int = 0
