"""Compatibility of a cohort with a registered model: refused with the reason, or a report of what is covered."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dml.core.errors import InputError, listed
from dml.core.files import read_parquet
from dml.core.types import Bag, Case, Cohort
from dml.data.patient_reader import PatientReader
from dml.evaluation.intervals import rounded
from dml.inference.expression_inputs import MIN_COVERAGE, coverage
from dml.inference.slide_inputs import check_stains
from dml.training.checkpoint import ModelSpec

TILE_TOLERANCE = 0.02
"""How far the side of a tile may be from that in training, as a share."""


def check_features(features: Path, spec: ModelSpec) -> None:
    """Raise InputError unless a cohort has features of the model's encoder, resolutions and stain normalisation."""
    encoder, mpps = spec.preprocessor.encoder, [f"{mpp:g}" for mpp in spec.preprocessor.mpps]
    encoders = sorted(path.name for path in features.iterdir() if path.is_dir()) if features.exists() else []
    if encoder not in encoders:
        raise InputError(features, f"features of {listed(encoders) or 'no encoder'}", f"The model needs {encoder}")
    stored = sorted(path.name for path in (features / encoder).iterdir() if path.is_dir())
    missing = [mpp for mpp in mpps if mpp not in stored]
    if missing:
        remedy = f"The model needs {listed(mpps)}: extract them, or train on what there is"
        raise InputError(features / encoder, f"features at {listed(stored)} microns per pixel", remedy)
    for path in sorted((features / encoder / mpps[0]).glob("*.parquet")):
        check_stains(path, read_parquet(path, columns=[])[1], spec)


def check_cohort(cohort: Cohort, folder: Path, spec: ModelSpec) -> None:
    """Raise InputError unless tokens, labels and genes of a cohort are what the model was trained on."""
    _check_tokens(cohort, folder, spec)
    prepared = spec.preprocessor
    if prepared.task.kind != "survival":
        _check_label(cohort, folder, prepared.task.name, prepared.task.classes)
    share = coverage(cohort.genes, prepared)
    if "genes" in spec.entry.inputs and share < MIN_COVERAGE:
        problem = f"{share:.0%} of the model's genes are measured"
        raise InputError(folder / "expression.parquet", problem, f"At least {MIN_COVERAGE:.0%} are needed")


def _check_tokens(cohort: Cohort, folder: Path, spec: ModelSpec) -> None:
    prepared = spec.preprocessor
    width, sides = len(prepared.tokens.mean), dict(zip(prepared.mpps, prepared.tile_um, strict=True))
    bags = [(case.patient_id, bag) for case in cohort.cases for bag in case.bags.values() if len(bag)]
    wide = {patient: bag.tokens.shape[1] for patient, bag in bags if bag.tokens.shape[1] != width}
    if wide:
        problem = f"features of width {listed(sorted(set(wide.values())))} ({listed(list(wide))})"
        raise InputError(folder / "features", problem, f"The model needs {width}")
    other = {patient: float(bag.tile_um) for patient, bag in bags if not _same_side(bag, sides)}
    if other:
        stored = listed([f"{side:g}" for side in sorted(set(other.values()))])
        problem = f"tiles of {stored} microns ({listed(list(other))})"
        trained = listed([f"{side:g} at {mpp:g}" for mpp, side in sides.items()])
        raise InputError(folder / "features", problem, f"The model was trained on tiles of {trained} microns per pixel")


def _same_side(bag: Bag, sides: dict[float, float]) -> bool:
    trained = sides.get(float(bag.mpp))
    return trained is None or abs(float(bag.tile_um) - trained) <= TILE_TOLERANCE * trained


def _check_label(cohort: Cohort, folder: Path, task: str, classes: Sequence[str]) -> None:
    if task not in cohort.classes:
        raise InputError(folder, f"no label {task}", f"Known: {listed(sorted(cohort.classes), 20)}")
    here, trained = (listed(names, 20) or "numbers" for names in (cohort.classes[task], classes))
    if not set(cohort.classes[task]) <= set(classes) or bool(cohort.classes[task]) != bool(classes):
        raise InputError(folder, f"{task} has {here}", f"The model was trained on {trained}")


def has_all_magnifications(case: Case, spec: ModelSpec) -> bool:
    """Whether a patient has tokens at every resolution of the model."""
    return {float(mpp) for mpp, bag in case.bags.items() if len(bag)} >= {float(m) for m in spec.preprocessor.mpps}


def coverage_report(cohort: Cohort, usable: Cohort, spec: ModelSpec, excluded: Sequence[str]) -> dict[str, Any]:
    """Content of coverage.json: which patients, tokens and genes could be used, and how far they are from training.

    Parameters
    ----------
    cohort, usable : Cohort
        All patients, and those evaluated (transcriptomes in the model's unit).
    excluded : sequence of str
        Patients left out because the model was trained or tested on them.
    """
    prepared = spec.preprocessor
    genes = {*prepared.tumor_genes, *prepared.tme_genes}
    with_genes = "genes" in spec.entry.inputs
    return {
        "patients": len(cohort.cases),
        "patients_with_features": sum(has_all_magnifications(case, spec) for case in cohort.cases),
        "patients_seen_in_training": len(excluded),
        "patients_evaluated": len(usable.cases),
        "patients_with_expression": sum(case.has_expression for case in usable.cases),
        "expression_used": with_genes,
        "genes": len(genes),
        "genes_missing": sorted(genes - set(cohort.genes)) if with_genes else [],
        "genes_covered": rounded(coverage(cohort.genes, prepared)) if with_genes else None,
        "tiles_per_patient": {f"{m:g}": _median_tiles(usable, m) for m in prepared.mpps},
        "feature_shift": _feature_shift(usable, spec),
        "gene_shift": _gene_shift(usable, spec) if with_genes else None,
    }


def _median_tiles(cohort: Cohort, mpp: float) -> float:
    counts = [len(bag) for case in cohort.cases for m, bag in case.bags.items() if float(m) == mpp]
    return float(np.median(counts)) if counts else 0.0


def _feature_shift(cohort: Cohort, spec: ModelSpec) -> float | None:
    """Distance of the cohort's mean token from that of training, in training deviations, root mean square."""
    scaling = spec.preprocessor.tokens
    bags = [bag for case in cohort.cases for bag in case.bags.values() if len(bag)]
    mean = np.mean([bag.tokens.double().mean(0).numpy() for bag in bags], axis=0)
    return _root_mean_square((mean - scaling.mean) / scaling.deviation)


def _gene_shift(cohort: Cohort, spec: ModelSpec) -> float | None:
    """Return the same for the genes, as scaled for the model; None without a transcriptome."""
    reader = PatientReader(spec.preprocessor, cohort)
    patients = [reader(case) for case in cohort.cases if case.has_expression]
    if not patients:
        return None
    return _root_mean_square(np.mean([np.concatenate([p.tumor, p.tme]) for p in patients], axis=0))


def _root_mean_square(values: np.ndarray) -> float | None:
    return rounded(float(np.sqrt(np.mean(np.square(values.astype(float))))))
