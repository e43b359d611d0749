"""Attention of a registered model: the share that each tile gets, per branch, mean over all members."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dml.core.types import Bag, Cohort, Mpp
from dml.data.batches import make_batches
from dml.data.patient_reader import PatientReader
from dml.inference.ensemble import Ensemble
from dml.training.checkpoint import FoldModel

DECIMALS = 8


def attention_map(ensemble: Ensemble, patient: Cohort, slides: Sequence[str]) -> pd.DataFrame:
    """Return the attention of each branch of the model to every tile of one patient.

    Parameters
    ----------
    patient : Cohort
        Of one case.
    slides : sequence of str
        Names of the slides, in the order of `Bag.slide`.

    Returns
    -------
    DataFrame
        One row a tile: slide, mpp, x_um, y_um (centre, NaN without coordinates), and a column a branch (tumor and tme
        of teacher and student), which sums to 1 over the tiles of one resolution.
    """
    (case,) = patient.cases
    members = [attention for fold in ensemble.folds for attention in _attention(fold, patient)]
    shares = {branch: _mean_shares([member[branch] for member in members]) for branch in members[0]}
    parts = [
        _tiles(case.bags[Mpp(mpp)], slides).assign(**{branch: levels[i] for branch, levels in shares.items()})
        for i, mpp in enumerate(ensemble.spec.preprocessor.mpps)
    ]
    return pd.concat(parts, ignore_index=True)


def _mean_shares(members: Sequence[Sequence[Tensor]]) -> list[np.ndarray]:
    """Attention [tiles] at each resolution, mean over members."""
    return [torch.stack(level).double().mean(0).numpy().round(DECIMALS) for level in zip(*members, strict=True)]


def _attention(fold: FoldModel, patient: Cohort) -> list[dict[str, tuple[Tensor, ...]]]:
    """Return the attention of each branch of each member, one tensor [tiles] per resolution."""
    read = PatientReader(fold.spec.preprocessor, patient)
    batch = next(make_batches([read(patient.cases[0])], fold.spec.preprocessor, 1))
    with torch.inference_mode():
        outputs = [member(batch).attention for member in fold.members]
    return [{branch: tuple(level[0] for level in levels) for branch, levels in each.items()} for each in outputs]


def _tiles(bag: Bag, slides: Sequence[str]) -> pd.DataFrame:
    coords = np.full((len(bag), 2), np.nan) if bag.coords_um is None else bag.coords_um.double().numpy()
    names = [slides[int(i)] for i in bag.slide]
    return pd.DataFrame({"slide": names, "mpp": float(bag.mpp), "x_um": coords[:, 0], "y_um": coords[:, 1]})
