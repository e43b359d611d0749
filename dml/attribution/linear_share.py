"""Shares of tiles and genes in the linear offset, which is linear in a patient's mean tokens and genes.

    offset - reference = slope * mean_j sum_c W_j,c (clip(x_c) - clip(r_c))       x: mean of the tiles' tokens
    share of tile n    = slope * mean_j sum_c W_j,c q_c (x_n,c - r_c) / N,        q_c = (clip(x) - clip(r)) / (x - r)

The reference r is the training-mean token, and the mean of every gene, with the patient's own clinical inputs. Where a
mean token is within the limits of the offset, q is 1 and the share exact; a clipped dimension is divided among tiles in
proportion to what each adds to it.

Shape legend: n tiles, c columns, g genes, k outputs of the offset.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dml.core.types import Case, Cohort, Mpp, Source
from dml.data.linear_offset import LinearMap, LinearOffset
from dml.data.patient_reader import PatientReader
from dml.data.preprocessing import Preprocessor


@dataclass(frozen=True, slots=True)
class OffsetShares:
    """What tiles and genes add to the linear offset of one patient, beyond the reference's.

    `tiles` has one array (n k) per magnification, `genes` one per group (g k); `reference` is the offset (k) of a
    patient of mean tokens and genes.
    """

    tiles: tuple[np.ndarray, ...]
    genes: Mapping[str, np.ndarray]
    reference: np.ndarray


def offset_shares(offset: LinearOffset, preprocessor: Preprocessor, patient: Cohort) -> OffsetShares:
    """Divide the linear offset of one patient among its tiles and genes.

    Parameters
    ----------
    patient : Cohort
        Of one case, which is none of the training patients.
    """
    (case,) = patient.cases
    rows = PatientReader(preprocessor, patient).source_rows([case])
    reference = _reference_rows(preprocessor, rows)
    name = str(offset.choose(rows)[0])
    width = len(preprocessor.tokens.mean)
    shares: dict[Source, np.ndarray] = {
        source: np.zeros((values.shape[1], offset.outputs)) for source, values in rows.items()
    }
    start = np.zeros(offset.outputs)
    if name:
        models = offset.models[name]
        start = offset.mean_slope(name) * np.mean([model(reference)[0] for model in models], axis=0)
        for source in models[0].maps:
            each = [_column_shares(model.maps[source], rows[source][0], reference[source][0]) for model in models]
            shares[source] = offset.mean_slope(name) * np.mean(each, axis=0)
    pooled = [
        _divide(case, Mpp(mpp), shares["slide"][i * width : (i + 1) * width], rows["slide"][0], i, preprocessor)
        for i, mpp in enumerate(preprocessor.linear_mpps)
    ]
    by_mpp = dict(zip(preprocessor.linear_mpps, pooled, strict=True))
    tiles = tuple(
        by_mpp[mpp] if mpp in by_mpp else np.zeros((len(case.bags.get(Mpp(mpp), ())), offset.outputs))
        for mpp in preprocessor.mpps
    )
    groups = np.split(shares["genes"], [len(preprocessor.tumor_genes)])
    return OffsetShares(tiles, dict(zip(("tumor", "tme"), groups, strict=True)), start)


def _reference_rows(preprocessor: Preprocessor, rows: Mapping[Source, np.ndarray]) -> dict[Source, np.ndarray]:
    """Mean tokens and genes, clinical inputs as they are; what the patient lacks is missing, and adds nothing."""
    means: dict[Source, np.ndarray] = {
        "slide": np.tile(preprocessor.tokens.mean.astype(float), len(preprocessor.linear_mpps)),
        "genes": np.concatenate([preprocessor.tumor.mean, preprocessor.tme.mean]).astype(float),
    }
    return {s: np.where(np.isfinite(row), means.get(s, row), np.nan) for s, row in rows.items()}


def _column_shares(part: LinearMap, row: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return what each column adds to a linear predictor beyond the reference's (c k)."""
    change = np.clip(row, part.low, part.high) - np.clip(reference, part.low, part.high)
    shares: np.ndarray = np.where(np.isfinite(change), change, 0.0)[:, None] * np.asarray(part.weight, float)
    return shares


def _divide(
    case: Case, mpp: Mpp, shares: np.ndarray, mean_tokens: np.ndarray, level: int, preprocessor: Preprocessor
) -> np.ndarray:
    """Divide the columns' shares (c k) of one magnification among its tiles (n k)."""
    bag = case.bags.get(mpp)
    if bag is None or not len(bag):
        return np.zeros((0, shares.shape[1]))
    reference = preprocessor.tokens.mean.astype(float)
    width = len(reference)
    change = mean_tokens[level * width : (level + 1) * width] - reference
    moved = np.abs(change) > 1e-12
    per_unit = np.where(moved[:, None], shares / np.where(moved, change, 1.0)[:, None], 0.0)
    divided: np.ndarray = (bag.tokens.double().numpy() - reference) @ per_unit / len(bag)
    return divided
