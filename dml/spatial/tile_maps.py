"""What the tiles of one section contributed to a model's output, by models that were not trained on the section.

A unit is what the model predicts: a patient, or a region of a section. Attention sums to one over the tiles of a unit
and contributions to its output, so that both are multiplied by the unit's number of tiles: 1 is an equal share, and
units of any size are on one scale.

Shape legend: t tiles, d width of a token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from dml.attribution.attribute import LINEAR, Attribution, attribute
from dml.cohorts.store_files import section_ids
from dml.core.errors import InputError, listed
from dml.core.files import digest
from dml.core.types import Bag, Case, Cohort, Mpp
from dml.spatial.spot_overlap import SpotOverlap, overlap
from dml.training.checkpoint import FoldModel

WHATS = ("attention", "contribution", "deviation")
TOTAL = "total"
"""Branch of the sum over all branches."""


@dataclass(frozen=True, slots=True)
class SectionUnits:
    """The units with tiles on one section, in order.

    Attributes
    ----------
    section_id : str
        The section.
    cases : tuple of Case
        Units with tiles at any resolution, restricted to the tiles of this section for `bags`.
    whole : tuple of Case
        The same units with all of their tiles, which are what the model reads.
    slides : mapping
        Unit to the numbers (`Bag.slide`) of its slides on the section.
    """

    section_id: str
    cases: tuple[Case, ...]
    whole: tuple[Case, ...]
    slides: Mapping[str, frozenset[int]]


@dataclass(frozen=True, slots=True)
class TileMap:
    """Values of the tiles of one section (t) at one resolution: ``(branch, what)`` to values, and where they are."""

    mpp: float
    tile_um: float
    coords_um: np.ndarray
    values: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def at(self, spots_um: np.ndarray, diameter_um: float) -> SpotOverlap:
        """Return the weights of the tiles at spots."""
        return overlap(spots_um, self.coords_um, self.tile_um, diameter_um)


def section_units(
    section_id: str, slides: pd.DataFrame, manifest: pd.DataFrame, groups: Mapping[str, str], cohort: Cohort
) -> SectionUnits:
    """Select the units that have tiles on a section.

    Parameters
    ----------
    slides, manifest : DataFrame
        Of the cohort. A slide is of the section if it has its id, or (regions as units) its column `section_id` has.
    groups : mapping
        Unit to its value of the column `group` of patients.parquet: the section, where regions are units.
    """
    patients = slides["patient_id"].map(groups)
    chosen = set(slides.loc[(section_ids(slides) == section_id) | (patients == section_id), "slide_id"])
    complete = manifest[manifest["status"] == "ok"]
    numbers: dict[str, frozenset[int]] = {}
    for patient, rows in complete.groupby("patient_id"):
        ids = sorted(set(rows["slide_id"]))
        if here := frozenset(i for i, slide in enumerate(ids) if slide in chosen):
            numbers[str(patient)] = here
    whole = tuple(case for case in cohort.cases if case.patient_id in numbers and case.has_slide)
    cases = tuple(_restrict(case, numbers[case.patient_id]) for case in whole)
    return SectionUnits(section_id, cases, whole, numbers)


def folds_not_trained_on(folds: Sequence[FoldModel], units: SectionUnits) -> list[FoldModel]:
    """Return the folds that were trained on no unit of a section.

    Raises
    ------
    InputError
        If a fold does not say what it was trained on.
    """
    unknown = [i for i, fold in enumerate(folds) if not fold.spec.training_patient_hashes]
    if unknown:
        raise InputError("model", f"folds {listed(unknown)} do not name their training patients", "Train them again")
    ids = {digest(case.patient_id) for case in units.cases}
    return [fold for fold in folds if ids.isdisjoint(fold.spec.training_patient_hashes)]


def choose_output(outputs: Sequence[str], output: str | None) -> int:
    """Return the number of the output that is mapped: by default the last class, which is the highest of an order.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if output is None:
        return len(outputs) - 1
    if output not in outputs:
        raise InputError("--output", f"no output {output!r}", f"The model has: {', '.join(outputs)}")
    return list(outputs).index(output)


def map_tiles(folds: Sequence[FoldModel], units: SectionUnits, cohort: Cohort, output: str | None) -> list[TileMap]:
    """Attribute the output of every unit of a section and return its tiles, a map per resolution.

    Raises
    ------
    InputError
        If features have no coordinates, or a unit lacks what the model requires.
    """
    results = []
    for case in units.whole:
        if folds[0].spec.accepts(case):
            patient = cohort.subset({case.patient_id})
            results.append((attribute(folds, patient), case, units.slides[case.patient_id]))
    if not results:
        raise InputError(units.section_id, "no unit has what the model requires", "See dml cohort show")
    return [
        _join(mpp, [_unit_map(*parts, mpp, output) for parts in results]) for mpp in folds[0].spec.preprocessor.mpps
    ]


def _unit_map(
    result: Attribution, case: Case, slides: frozenset[int], mpp: float, output: str | None
) -> TileMap | None:
    parts = [part for part in result.tiles if abs(part.mpp - mpp) < 1e-6]
    if not parts:
        return None
    if np.isnan(parts[0].coords_um).any():
        raise InputError(
            case.patient_id, "features without coordinates", "Spatial validation needs them: dvc repro tile"
        )
    chosen, here = choose_output(result.outputs, output), np.isin(parts[0].slide, list(slides))
    n = len(here)
    values: dict[tuple[str, str], np.ndarray] = {}
    for part in parts:
        each = part.attention, part.contribution[:, chosen], part.deviation[:, chosen]
        values |= {(part.branch, what): n * value[here] for what, value in zip(WHATS, each, strict=True)}
    values |= {(TOTAL, what): value for what, value in _total(values).items()}
    return TileMap(float(mpp), parts[0].tile_um, parts[0].coords_um[here], values)


def _total(values: Mapping[tuple[str, str], np.ndarray]) -> dict[str, np.ndarray]:
    """Sum of contributions over branches, mean of their attention without that of the linear offset."""
    parts = {what: [v for (branch, w), v in values.items() if w == what] for what in WHATS}
    attended = [v for (branch, what), v in values.items() if what == "attention" and branch != LINEAR]
    deviation = np.sqrt(np.sum(np.square(parts["deviation"]), axis=0))
    return {
        "attention": np.mean(attended, axis=0),
        "contribution": np.sum(parts["contribution"], axis=0),
        "deviation": deviation,
    }


def _join(mpp: float, parts: Sequence[TileMap | None]) -> TileMap:
    present = [part for part in parts if part is not None]
    if not present:
        return TileMap(float(mpp), 1.0, np.zeros((0, 2)))
    coords = np.concatenate([part.coords_um for part in present])
    values = {key: np.concatenate([part.values[key] for part in present]) for key in present[0].values}
    return TileMap(float(mpp), present[0].tile_um, coords, values)


def _restrict(case: Case, slides: frozenset[int]) -> Case:
    bags: dict[Mpp, Bag] = {}
    for mpp, bag in case.bags.items():
        here = torch.from_numpy(np.flatnonzero(np.isin(bag.slide.numpy(), list(slides))))
        if len(here):
            coords = None if bag.coords_um is None else bag.coords_um[here]
            bags[mpp] = replace(bag, tokens=bag.tokens[here], coords_um=coords, slide=torch.zeros_like(bag.slide[here]))
    return replace(case, bags=bags)
