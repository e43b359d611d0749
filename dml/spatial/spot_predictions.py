"""What a model predicts of each spot alone: a field of the tiles that the spot lies on, at every magnification.

The model was trained on units of many tiles; a field of one to four is a small one of the same kind. The transcriptome
is not given, so that the prediction is of the image only.

Shape legend: n spots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from dml.attribution.outputs import explained_outputs, output_names, output_scale
from dml.core.device import torch_threads
from dml.core.types import Bag, Case, Cohort, Mpp
from dml.data.batches import collate
from dml.spatial.spot_overlap import MIN_COVERAGE, overlap
from dml.spatial.tile_maps import SectionUnits, choose_output
from dml.training.checkpoint import FoldModel

BATCH = 64
"""Spots at a time."""


def predict_spots(
    folds: Sequence[FoldModel],
    units: SectionUnits,
    cohort: Cohort,
    spots_um: Float[np.ndarray, "n 2"],
    diameter_um: float,
    output: str | None,
) -> Float[np.ndarray, "n"]:
    """Return the output of each spot's field, mean over the members of all folds; NaN without tiles.

    Parameters
    ----------
    folds : sequence of FoldModel
        Trained on no unit of the section.
    output : str, optional
        Name of the output; by default the last.

    Returns
    -------
    array, n
        Risk in standard deviations of the training risk, the centred logit of a class, or a number in its own unit.
    """
    bags = _section_bags(units, folds[0].spec.preprocessor.mpps)
    fields = _fields(bags, spots_um, diameter_um)
    result = np.full(len(spots_um), np.nan)
    spots = sorted(spot for spot, field in fields.items() if len(field) == len(folds[0].spec.preprocessor.mpps))
    for start in range(0, len(spots), BATCH):
        chosen = spots[start : start + BATCH]
        cases = tuple(Case(f"spot {spot}", "", fields[spot]) for spot in chosen)
        alone = replace(cohort, cases=cases)
        result[chosen] = np.mean([_predict(fold, alone, output) for fold in folds], axis=0)
    return result


def _predict(fold: FoldModel, cohort: Cohort, output: str | None) -> Float[np.ndarray, "n"]:
    spec, read = fold.spec, fold.reader(cohort)
    kind = spec.preprocessor.task.kind
    chosen = choose_output(output_names(spec.preprocessor), output)
    with torch_threads(1), torch.inference_mode():
        batch = collate([read(case) for case in cohort.cases], spec.preprocessor)
        each = [explained_outputs(member(batch).logits, kind)[:, chosen].double() for member in fold.members]
        mean: np.ndarray = torch.stack(each).mean(0).numpy()
    scale, centre = output_scale(spec)
    return (mean - centre) / scale


def _section_bags(units: SectionUnits, mpps: Sequence[float]) -> dict[Mpp, Bag]:
    """Return all tiles of a section at each resolution, of whatever unit."""
    joined = {}
    for mpp in map(Mpp, mpps):
        parts = [case.bags[mpp] for case in units.cases if mpp in case.bags]
        parts = [part for part in parts if part.coords_um is not None]
        if parts:
            tokens = torch.cat([part.tokens for part in parts])
            coords = torch.cat([part.coords_um for part in parts if part.coords_um is not None])
            slide = torch.cat([part.slide for part in parts])
            joined[mpp] = replace(parts[0], tokens=tokens, coords_um=coords, slide=slide)
    return joined


def _fields(
    bags: Mapping[Mpp, Bag], spots_um: Float[np.ndarray, "n 2"], diameter_um: float
) -> dict[int, dict[Mpp, Bag]]:
    fields: dict[int, dict[Mpp, Bag]] = {spot: {} for spot in range(len(spots_um))}
    for mpp, bag in bags.items():
        assert bag.coords_um is not None
        weights = overlap(spots_um, bag.coords_um.double().numpy(), float(bag.tile_um), diameter_um)
        for spot in np.flatnonzero(weights.coverage >= MIN_COVERAGE):
            tiles = torch.from_numpy(weights.tiles_of(int(spot)).astype(np.int64))
            fields[int(spot)][mpp] = replace(
                bag, tokens=bag.tokens[tiles], coords_um=bag.coords_um[tiles], slide=bag.slide[tiles]
            )
    return fields
