"""What stands on a patient's page: prediction, uncertainty, maps, contributions, similar patients, and warnings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.attribution.attribute import Attribution, attribute
from dml.case_bank.bank import THUMBNAIL, CaseBank
from dml.case_bank.novelty import Novelty, measure_novelty
from dml.case_bank.outcomes import describe_outcomes
from dml.case_bank.similar_cases import SimilarCases
from dml.core.errors import DmlError, InputError
from dml.core.files import digest
from dml.core.tasks import horizon_columns
from dml.core.types import SUBSPACES, Cohort
from dml.inference.ensemble import Ensemble, select_folds
from dml.inference.maps.slide_map import SlideMap, choose_output, tile_table
from dml.inference.predictor import ReadPatient
from dml.inference.similar_patients import find_similar_patients, missing_bank_remedy, site_in_bank
from dml.patient_report.figures import bar_figure, jpeg_address, map_figure, survival_figure
from dml.patient_report.gene_figures import gene_figure, gene_reason, set_figures
from dml.patient_report.uncertainty import Uncertainty, describe_uncertainty
from dml.slides.reader import open_slide

NEIGHBOURS, SHOWN = 20, 6
"""Similar patients whose outcomes are summarised, and those shown one by one."""
MIN_TISSUE_TILES = 20
"""Tiles at the finest resolution below which the page warns."""
BRANCH_NAMES = {"tumor": "tumor tissue", "tme": "microenvironment tissue", "linear": "linear part, tissue"}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a page is made of.

    Attributes
    ----------
    model : str
        As the user named it.
    patient : ReadPatient
        Tokens and transcriptome.
    files : mapping
        Slide to its file, where it has pixels.
    calibration : DataFrame or None
        Out-of-fold predictions.
    gene_sets : mapping
        Name to genes.
    """

    model: str
    ensemble: Ensemble
    patient: ReadPatient
    files: Mapping[str, tuple[Path, float | None]] = field(default_factory=dict)
    bank: CaseBank | None = None
    calibration: pd.DataFrame | None = None
    same_site: bool = False
    gene_sets: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def patient_id(self) -> str:
        """The patient."""
        return self.patient.cohort.cases[0].patient_id


def make_content(inputs: Inputs) -> dict[str, Any]:
    """Return the values of the template."""
    folds, in_training = _folds(inputs)
    part, cohort = Ensemble(folds), inputs.patient.cohort
    task = part.spec.preprocessor.task
    prediction = {str(name): value for name, value in part.predict(cohort).iloc[0].items()}
    attribution = attribute(folds, cohort)
    output = choose_output(attribution, None)
    similar = _similar(inputs)
    novelty = None if similar is None else measure_novelty(similar)
    neighbours = None if similar is None else similar.nearest(next(iter(similar.distances)), NEIGHBOURS)
    outcomes = None if neighbours is None else describe_outcomes(neighbours, task, part.spec.years)
    uncertainty = describe_uncertainty(part, inputs.calibration, prediction)
    maps, map_reason = _maps(inputs, attribution, output)
    unit = {"survival": "SD of training risk", "classification": "logit", "regression": task.name}[task.kind]
    return {
        "patient": inputs.patient_id,
        "model": inputs.model,
        "task": task,
        "role": part.spec.name,
        "output": attribution.outputs[output],
        "folds": len(folds),
        "members": sum(len(fold.members) for fold in folds),
        "warnings": _warnings(inputs, novelty, in_training, uncertainty),
        "prediction": prediction,
        "horizons": horizon_columns(part.spec.years) if task.kind == "survival" else {},
        "ranges": _ranges(part, cohort),
        "uncertainty": uncertainty,
        "maps": maps,
        "map_reason": map_reason,
        "curve": _curve(part, cohort, prediction, outcomes),
        "contributions": bar_figure(_branch_rows(attribution, output), unit, 1.9),
        "genes": gene_figure(attribution, output, unit),
        "gene_reason": gene_reason("genes" in part.spec.entry.inputs, cohort),
        "gene_sets": set_figures(attribution, output, unit, cohort, inputs.gene_sets) if inputs.gene_sets else {},
        "sets_given": bool(inputs.gene_sets),
        "unit": unit,
        "reference": float(attribution.reference[output]),
        "neighbours": [] if neighbours is None else _neighbour_rows(neighbours.head(SHOWN), similar),
        "labels": [] if inputs.bank is None else inputs.bank.labels,
        "outcomes": outcomes,
        "similar": similar,
        "bank_remedy": "" if inputs.bank is not None else missing_bank_remedy(part.spec),
        "quality": _quality(inputs, novelty),
    }


def _folds(inputs: Inputs) -> tuple[tuple[Any, ...], bool]:
    """Fold models that did not see the patient; all, and True, if each of them did."""
    known = digest(inputs.patient_id)
    seen = any(known in fold.spec.training_patient_hashes for fold in inputs.ensemble.folds)
    try:
        return select_folds(inputs.ensemble, inputs.patient_id), seen
    except InputError:
        return inputs.ensemble.folds, True


def _similar(inputs: Inputs) -> SimilarCases | None:
    if inputs.bank is None:
        return None
    site = inputs.patient.site or site_in_bank(inputs.bank, inputs.patient_id)
    return find_similar_patients(inputs.ensemble, inputs.bank, inputs.patient.cohort, site, inputs.same_site)


def _warnings(inputs: Inputs, novelty: Novelty | None, in_training: bool, uncertainty: Uncertainty | None) -> list[str]:
    warnings = []
    if novelty is not None and novelty.is_far:
        warnings.append(
            f"Far outside of the training patients: its distance to the nearest of them is larger than that of "
            f"{novelty.percentile:.0%} of the training patients. Nothing is known of how well the model predicts here."
        )
    everybody = all(digest(inputs.patient_id) in f.spec.training_patient_hashes for f in inputs.ensemble.folds)
    if everybody:
        warnings.append("Every fold was trained with this patient: the prediction is of the past, not of the future.")
    elif in_training:
        warnings.append("A learning patient of this model: only the folds that were not trained with it are shown.")
    finest = min(inputs.patient.cohort.cases[0].bags.values(), key=lambda bag: float(bag.mpp))
    if len(finest) < MIN_TISSUE_TILES:
        warnings.append(f"Little tissue: {len(finest)} tiles at {float(finest.mpp):g} microns per pixel.")
    if inputs.patient.reason:
        warnings.append(f"Left out: {inputs.patient.reason}.")
    if uncertainty is None:
        warnings.append("No conformal set: there are too few out-of-fold predictions of this model.")
    return warnings


def _ranges(ensemble: Ensemble, cohort: Cohort) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each output over the folds."""
    if len(ensemble.folds) < 2:
        return {}
    each = [Ensemble((fold,)).predict(cohort).iloc[0] for fold in ensemble.folds]
    names = [name for name in ensemble.outputs if name != "spread"]
    return {name: (min(float(row[name]) for row in each), max(float(row[name]) for row in each)) for name in names}


def _curve(
    ensemble: Ensemble, cohort: Cohort, prediction: Mapping[str, Any], outcomes: Mapping[str, Any] | None
) -> str:
    if ensemble.spec.preprocessor.task.kind != "survival":
        return ""
    columns = list(horizon_columns(ensemble.spec.years))
    folds = np.array([fold.predict(cohort)[columns].to_numpy(float)[0] for fold in ensemble.folds])
    mean = np.array([float(prediction[name]) for name in columns])
    return survival_figure(ensemble.spec.years, folds, mean, outcomes)


def _maps(inputs: Inputs, attribution: Attribution, output: int) -> tuple[str, str]:
    """Return the picture of the slide with most tiles that has a file, or why there is none."""
    tiles = tile_table(attribution, output)
    task = inputs.ensemble.spec.preprocessor.task
    counts = [int((tiles["slide"] == number).sum()) for number in range(len(inputs.patient.slides))]
    for number in np.argsort(counts)[::-1]:
        slide = inputs.patient.slides[number]
        rows = tiles[tiles["slide"] == number].drop(columns="slide").reset_index(drop=True)
        if slide not in inputs.files or rows.empty:
            continue
        if rows["x_um"].isna().any():
            return "", "the features have no coordinates"
        path, mpp = inputs.files[slide]
        named = (slide, inputs.patient_id, inputs.model, task.name, path, mpp, attribution.outputs[output])
        try:
            return map_figure(SlideMap(*named, rows, task.kind), float(rows["mpp"].min())), ""
        except (DmlError, OSError) as error:
            return "", str(error)
    return "", "the features were given without a slide file"


def _branch_rows(attribution: Attribution, output: int) -> list[tuple[str, float, float, str]]:
    sums: dict[str, tuple[float, float]] = {}
    for part in attribution.tiles:
        name = BRANCH_NAMES.get(part.branch, part.branch)
        value, variance = sums.get(name, (0.0, 0.0))
        total, squares = part.contribution[:, output].sum(), np.square(part.deviation[:, output]).sum()
        sums[name] = value + float(total), variance + float(squares)
    rows = [(name, value, math.sqrt(variance), _colour(name)) for name, (value, variance) in sums.items()]
    for group in attribution.genes:
        deviation = float(np.sqrt(np.square(group.deviation[:, output]).sum()))
        name = {"tumor": "tumor genes", "tme": "microenvironment genes"}[group.group]
        rows.append((name, float(group.contribution[:, output].sum()), deviation, group.group))
    return rows


def _colour(name: str) -> str:
    return next((s for s in SUBSPACES if BRANCH_NAMES[s] == name), "")


def _neighbour_rows(neighbours: pd.DataFrame, similar: SimilarCases | None) -> list[dict[str, Any]]:
    rows = []
    for row in neighbours.to_dict("records"):
        picture = row[THUMBNAIL] if isinstance(row[THUMBNAIL], bytes) else None
        known = {str(name): None if pd.isna(value) else value for name, value in row.items() if name != THUMBNAIL}
        rows.append({**known, "picture": jpeg_address(picture)})
    return rows


def _quality(inputs: Inputs, novelty: Novelty | None) -> list[tuple[str, str]]:
    """Name and value of what is known of the input."""
    case = inputs.patient.cohort.cases[0]
    rows = [("slides read", ", ".join(inputs.patient.slides))]
    for bag in sorted(case.bags.values(), key=lambda bag: float(bag.mpp)):
        area = len(bag) * (float(bag.tile_um) / 1000) ** 2
        rows.append((f"tissue tiles at {float(bag.mpp):g} microns per pixel", f"{len(bag)} ({area:.3g} mm²)"))
    for slide in inputs.patient.slides:
        if slide in inputs.files:
            rows += _file_rows(slide, *inputs.files[slide], inputs)
    if novelty is not None and not math.isnan(novelty.percentile):
        text = f"{novelty.distance:.2f}; {novelty.percentile:.0%} of the training patients are nearer to others"
        rows.append(("distance to the training patients", text))
    rows.append(("transcriptome", "given" if case.has_expression else "none"))
    return rows


def _file_rows(slide: str, path: Path, mpp: float | None, inputs: Inputs) -> Sequence[tuple[str, str]]:
    try:
        with open_slide(path, mpp, None if mpp is None else "slide_list") as opened:
            width, height = opened.dimensions
            whole = width * height * (opened.mpp / 1000) ** 2
            finest = min(inputs.patient.cohort.cases[0].bags.values(), key=lambda bag: float(bag.mpp))
            number = inputs.patient.slides.index(slide)
            tissue = int((finest.slide == number).sum()) * (float(finest.tile_um) / 1000) ** 2
            resolution = f"{opened.mpp:.3g} microns per pixel, {width} x {height} px"
            return [(slide, f"{resolution}; tissue {tissue / whole:.0%} of its area")]
    except (DmlError, OSError) as error:
        return [(slide, str(error))]
