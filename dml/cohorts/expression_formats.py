"""Where a cohort's expression is and in which format: one class a format, told apart by `format`.

What all have in common (`Measured`): a unit, how several samples of a patient are merged, what becomes of missing
values, and whether Ensembl ids, Entrez ids and former symbols are turned into approved ones.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, PositiveFloat, Tag, model_validator

from dml.cohorts.columns import Key, Pattern, columned
from dml.config.params import Section

Unit = Literal[
    "counts", "tpm", "fpkm", "fpkm_uq", "rsem", "log2_counts", "log2_cpm", "log2_tpm", "log2_fpkm", "log2_fpkm_uq",
    "log2_rsem", "zscore",
]  # fmt: skip
"""Scale of an expression matrix; log2_x means log2(x + 1). rsem: normalised counts as TCGA and cBioPortal have them."""

TCGA_PRIMARY = r"^(TCGA-..-....)-0[135]"
"""TCGA sample barcodes of primary tumors (01 solid, 03 blood, 05 additional); the part that is kept is the patient."""


class Measured(Section):
    """What every source of expression says."""

    unit: Unit = Field(description="what the file holds")
    convert: Unit | None = Field(default=None, description="what is stored; default: log2(x + 1) of what is linear")
    log_offset: PositiveFloat = Field(
        default=1.0, description="the c of log2(x + c) in the file (UCSC Toil: 0.001); stored is always log2(x + 1)"
    )
    repeats: Literal["identical", "mean", "first"] = Field(
        default="identical", description="several samples of a patient: must agree, are averaged, or the first counts"
    )
    missing: Literal["fail", "drop_genes"] = Field(
        default="fail", description="cells without a number: refused, or genes that have one are left out"
    )
    symbols: Literal["as_written", "approved"] = Field(
        default="as_written", description="approved: Ensembl ids, Entrez ids, former symbols become HGNC symbols"
    )
    source: str = ""

    @model_validator(mode="after")
    def _offset_of_a_logarithm(self) -> "Measured":
        if self.log_offset != 1.0 and not self.unit.startswith("log2_"):
            raise ValueError(f"log_offset is for units log2_..., not for {self.unit}")
        return self


class AxisNames(Section):
    """Names along one side of a matrix: a column, or (no column) the headers; `pattern` marks the part that counts."""

    column: str | None = None
    pattern: Pattern | None = Field(default=None, description="headers that do not match are left out")


Axis = Annotated[AxisNames, BeforeValidator(columned)]


class ExpressionTable(Measured):
    """One matrix. Of `id` and `gene` one is a column, the other the headers of the remaining columns."""

    format: Literal["matrix"] = "matrix"
    file: str
    orientation: Literal["patients_as_rows", "genes_as_rows"]
    id: Axis = Field(default=AxisNames(), description="patients; a pattern shortens sample barcodes")
    gene: Axis = Field(default=AxisNames(), description="gene symbols, e.g. {pattern: '(.+)_rnaseq'}")

    @model_validator(mode="after")
    def _key_column(self) -> "ExpressionTable":
        field, other = ("id", "gene") if self.orientation == "patients_as_rows" else ("gene", "id")
        if getattr(self, field).column is None or getattr(self, other).column is not None:
            raise ValueError(
                f"{self.orientation}: `{field}` must name a column, `{other}` only a pattern of the headers"
            )
        return self


class Downloaded(Measured):
    """Of a public portal: samples of one patient in order of their names, genes under approved symbols."""

    repeats: Literal["identical", "mean", "first"] = "first"
    missing: Literal["fail", "drop_genes"] = "drop_genes"
    symbols: Literal["as_written", "approved"] = "approved"


GDC_UNITS: Mapping[str, Unit] = {
    "unstranded": "counts",
    "tpm_unstranded": "tpm",
    "fpkm_unstranded": "fpkm",
    "fpkm_uq_unstranded": "fpkm_uq",
}


class GdcFolder(Downloaded):
    """A folder of GDC's STAR counts, ``*.rna_seq.augmented_star_gene_counts.tsv``, and its sample sheet."""

    format: Literal["gdc_star_counts"]
    folder: str = Field(description="searched recursively, as gdc-client or the portal's archive lays the files out")
    sample_sheet: str = Field(description="gdc_sample_sheet.<date>.tsv: File Name -> Case ID")
    measure: Literal["unstranded", "tpm_unstranded", "fpkm_unstranded", "fpkm_uq_unstranded"] = "tpm_unstranded"
    sample_types: tuple[str, ...] = Field(default=("Primary Tumor",), min_length=1, description="others are left out")
    gene_types: tuple[str, ...] = Field(
        default=("protein_coding",), description="GENCODE types that are stored (after the conversion); empty = all"
    )

    @model_validator(mode="before")
    @classmethod
    def _unit_of_the_measure(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        unit = GDC_UNITS.get(str(content.get("measure", "tpm_unstranded")))
        if content.get("unit", unit) != unit:
            raise ValueError(f"unit: {content.get('measure', 'tpm_unstranded')} is {unit}; leave `unit` out")
        return {**content, "unit": unit} if unit else content


class CBioPortal(Downloaded):
    """A matrix of a cBioPortal study (data_mrna_seq_*.txt): Hugo_Symbol, Entrez_Gene_Id, then one column a sample."""

    format: Literal["cbioportal"]
    file: str
    samples: str = Field(default="data_clinical_sample.txt", description="SAMPLE_ID -> PATIENT_ID")
    sample_types: tuple[str, ...] = Field(
        default=(), description="values of SAMPLE_TYPE that are kept, e.g. [Primary]; empty = all"
    )


class Xena(Downloaded):
    """A matrix of UCSC Xena: genes by samples, tab-separated (.gz); the first column holds the genes."""

    format: Literal["xena"]
    file: str
    id: Pattern = Field(default=TCGA_PRIMARY, description="sample -> patient; samples that do not match are left out")


class AnnDataFile(Downloaded):
    """An AnnData file (.h5ad): samples by genes, dense or sparse."""

    format: Literal["h5ad"]
    file: str
    layer: str = Field(default="X", description="X, or the name of a layer")
    id: Key | None = Field(default=None, description="column of obs with the patient; default: the index of obs")
    gene: str | None = Field(default=None, description="column of var with the gene; default: the index of var")


def _format(value: Any) -> str:
    given = value.get("format", "matrix") if isinstance(value, Mapping) else getattr(value, "format", "")
    return given if isinstance(given, str) else ""


FORMATS = ("matrix", "gdc_star_counts", "cbioportal", "xena", "h5ad")


Expression = Annotated[
    Annotated[ExpressionTable, Tag("matrix")]
    | Annotated[GdcFolder, Tag("gdc_star_counts")]
    | Annotated[CBioPortal, Tag("cbioportal")]
    | Annotated[Xena, Tag("xena")]
    | Annotated[AnnDataFile, Tag("h5ad")],
    Discriminator(
        _format,
        custom_error_type="format",
        custom_error_message=f"`format` must be one of {', '.join(FORMATS)}",
    ),
]
"""Any of the formats; without `format` it is a plain matrix."""
