"""What a model was given for one patient, in a few numbers without names: for the log of predictions and its reference.

Nothing here is fitted to the training patients, so a patient of the training cohort and a new one have numbers of the
same distribution where nothing drifts (a residual of something fitted would be smaller for those it was fitted to).
"""

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dml.core.errors import DmlError
from dml.core.files import metadata_of
from dml.core.types import Case, Cohort
from dml.data.cohort_store import CohortStore
from dml.inference.expression_inputs import in_unit
from dml.readers.slide_files import IMAGE_SUFFIXES, SLIDE_SUFFIXES
from dml.training.checkpoint import ModelSpec

TILES, TISSUE_MM2, TISSUE_SHARE, SLIDE_MPP, SCANNER = "tiles", "tissue_mm2", "tissue_share", "slide_mpp", "scanner"
TOKENS = "tokens_"
"""Prefix of a column with a patient's mean token; the resolution (microns per pixel) follows."""
GENES_MEASURED, GENES_MEAN, GENES_DEVIATION, GENES_SKETCH = (
    "genes_measured",
    "genes_mean",
    "genes_deviation",
    "genes_sketch",
)
N_SKETCH = 8
"""Sums of a transcriptome with random signs, which move when a batch of genes does."""
_MODEL_PROPERTIES = ("aperio.ScanScope ID", "hamamatsu.Product", "philips.DICOM_MANUFACTURERS_MODEL_NAME", "tiff.Model")
_SLIDES = (*SLIDE_SUFFIXES, *IMAGE_SUFFIXES, ".czi")


class SlideFacts(NamedTuple):
    """Of a slide's file: microns per level-0 pixel, vendor and model of the scanner, area of the image (mm²)."""

    mpp: float = np.nan
    scanner: str | None = None
    area_mm2: float = np.nan


def read_slide_facts(path: Path, mpp: float | None = None) -> SlideFacts:
    """Read what a slide or a feature file of the store says of its scan; nothing where it cannot be read.

    Parameters
    ----------
    mpp : float, optional
        Microns per pixel of slides whose file does not say.
    """
    if path.suffix == ".parquet":
        return _of_features(path)
    if path.suffix.lower() not in _SLIDES:
        return SlideFacts()
    from dml.slides.reader import open_slide

    try:
        with open_slide(path, mpp) as slide:
            width, height = slide.dimensions
            model = next((slide.properties[name] for name in _MODEL_PROPERTIES if name in slide.properties), "")
            return SlideFacts(slide.mpp, f"{slide.vendor} {model}".strip(), width * height * slide.mpp**2 / 1e6)
    except (DmlError, OSError):
        return SlideFacts()


def _of_features(path: Path) -> SlideFacts:
    try:
        metadata = metadata_of(path, pq.read_schema(path).empty_table())
        return SlideFacts(float(metadata.get("slide_mpp", np.nan)))
    except (DmlError, OSError, pa.ArrowException, TypeError, ValueError):
        return SlideFacts()


def summarise_inputs(case: Case, genes: Sequence[str], spec: ModelSpec, slides: Sequence[SlideFacts]) -> dict[str, Any]:
    """Summarise what a model reads of a patient.

    Parameters
    ----------
    case : Case
        Bags as read; the expression in the model's unit.
    genes : sequence of str
        Of the expression, in order.
    spec : ModelSpec
        The model.
    slides : sequence of SlideFacts
        One a file of the patient.

    Returns
    -------
    dict
        `TILES` and `TISSUE_MM2` at the coarsest resolution, `TISSUE_SHARE` of the image, `SLIDE_MPP`, `SCANNER`, a mean
        token a resolution (`TOKENS`), and `GENES_MEASURED` (share of the model's genes), `GENES_MEAN`,
        `GENES_DEVIATION` and `GENES_SKETCH` of their values; NaN or None where it is not known.
    """
    bags = {float(mpp): bag for mpp, bag in case.bags.items() if len(bag)}
    coarsest = bags.get(max(bags, default=0.0))
    tissue = np.nan if coarsest is None else len(coarsest) * float(coarsest.tile_um) ** 2 / 1e6
    area = float(np.sum([facts.area_mm2 for facts in slides])) if slides else np.nan
    scanners = sorted({facts.scanner for facts in slides if facts.scanner})
    mpps = [facts.mpp for facts in slides if np.isfinite(facts.mpp)]
    return {
        TILES: 0 if coarsest is None else len(coarsest),
        TISSUE_MM2: tissue,
        TISSUE_SHARE: tissue / area if area > 0 else np.nan,
        SLIDE_MPP: float(np.mean(mpps)) if mpps else np.nan,
        SCANNER: " and ".join(scanners) or None,
        **{f"{TOKENS}{mpp:g}": bag.tokens.double().mean(0).numpy().tolist() for mpp, bag in sorted(bags.items())},
        **_summarise_genes(case.expression, genes, spec),
    }


def _summarise_genes(expression: np.ndarray | None, genes: Sequence[str], spec: ModelSpec) -> dict[str, Any]:
    used = sorted({*spec.preprocessor.tumor_genes, *spec.preprocessor.tme_genes})
    if expression is None or "genes" not in spec.entry.inputs or not used:
        return {GENES_MEASURED: np.nan, GENES_MEAN: np.nan, GENES_DEVIATION: np.nan, GENES_SKETCH: None}
    at = {gene: i for i, gene in enumerate(genes)}
    measured = [gene for gene in used if gene in at and np.isfinite(expression[at[gene]])]
    values = np.array([expression[at[gene]] for gene in measured], float)
    signs = np.array([_signs(gene) for gene in measured]).reshape(len(measured), N_SKETCH)
    return {
        GENES_MEASURED: len(measured) / len(used),
        GENES_MEAN: float(values.mean()) if measured else np.nan,
        GENES_DEVIATION: float(values.std()) if measured else np.nan,
        GENES_SKETCH: (values @ signs / np.sqrt(max(len(measured), 1))).tolist(),
    }


def _signs(gene: str) -> list[float]:
    """Signs of a gene in the sums of a sketch: the same everywhere."""
    (byte,) = hashlib.blake2b(gene.encode(), digest_size=1).digest()
    return [1.0 if byte >> i & 1 else -1.0 for i in range(N_SKETCH)]


def summarise_cohort(store: CohortStore, spec: ModelSpec) -> pd.DataFrame:
    """Summarise the inputs of a cohort's patients that a model accepts: the reference of its drift, without ids.

    Patients are in an order that says nothing of them, so that a split by position is one by chance.
    """
    prepared = spec.preprocessor
    cohort = store.cohort(prepared.encoder, prepared.mpps)
    rows = list(_summaries(cohort, store, spec))
    order = np.random.default_rng(spec.seed).permutation(len(rows))
    return pd.DataFrame([rows[i] for i in order])


def _summaries(cohort: Cohort, store: CohortStore, spec: ModelSpec) -> Iterator[dict[str, Any]]:
    manifest = store.manifest()
    slides = store.slides().set_index("slide_id").to_dict("index") if store.slides_path.exists() else {}
    coarsest = max(spec.preprocessor.mpps)
    usable = manifest[(manifest["status"] == "ok") & (manifest["mpp"] == coarsest) & manifest["patient_id"].notna()]
    of_patient = {str(patient): rows["slide_id"].tolist() for patient, rows in usable.groupby("patient_id")}
    convertible = "genes" in spec.entry.inputs and cohort.unit != "absent"
    for case in (case for case in cohort.cases if spec.accepts(case) and case.has_slide):
        facts = [
            _stored_facts(store, spec, slide_id, slides.get(slide_id, {}))
            for slide_id in of_patient.get(case.patient_id, [])
        ]
        summary = summarise_inputs(case, cohort.genes, spec, facts)
        if convertible and case.expression is not None and cohort.unit != spec.preprocessor.unit:
            values = in_unit(case.expression[None].astype(float), cohort.unit, spec.preprocessor.unit, store.folder)[0]
            summary |= _summarise_genes(values, cohort.genes, spec)
        yield summary


def _stored_facts(store: CohortStore, spec: ModelSpec, slide_id: str, row: Mapping[Hashable, Any]) -> SlideFacts:
    """Facts of a slide of a cohort: of its file if it is there, else of its features."""
    path, stated = row.get("path"), row.get("mpp")
    if isinstance(path, str) and Path(path).exists():
        return read_slide_facts(Path(path), None if stated is None or pd.isna(stated) else float(stated))
    return _of_features(store.bag_path(spec.preprocessor.encoder, max(spec.preprocessor.mpps), slide_id))
