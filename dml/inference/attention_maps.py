"""Attention of a registered model: the share that each tile gets, per subspace, mean over all members."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dml.core.types import SUBSPACES, Bag, Cohort, Mpp, Subspace
from dml.data.batches import make_batches
from dml.data.patient_reader import PatientReader
from dml.inference.ensemble import Ensemble
from dml.training.checkpoint import FoldModel

DECIMALS = 8


def attention_map(ensemble: Ensemble, patient: Cohort, slides: Sequence[str]) -> pd.DataFrame:
    """Return the attention of each subspace to every tile of one patient.

    Parameters
    ----------
    patient : Cohort
        Of one case.
    slides : sequence of str
        Names of the slides, in the order of `Bag.slide`.

    Returns
    -------
    DataFrame
        One row a tile: slide, mpp, x_um, y_um (centre, NaN without coordinates), tumor, tme; each of the two sums to 1
        over the tiles of one resolution.
    """
    (case,) = patient.cases
    shares = {s: _mean_shares(ensemble, patient, s) for s in SUBSPACES}
    parts = [
        _tiles(case.bags[Mpp(mpp)], slides).assign(**{s: shares[s][level] for s in SUBSPACES})
        for level, mpp in enumerate(ensemble.spec.preprocessor.mpps)
    ]
    return pd.concat(parts, ignore_index=True)


def _mean_shares(ensemble: Ensemble, patient: Cohort, subspace: Subspace) -> list[np.ndarray]:
    """Attention [tiles] at each resolution, mean over folds and members."""
    members = [each for fold in ensemble.folds for each in _shares(fold, patient, subspace)]
    return [torch.stack(level).double().mean(0).numpy().round(DECIMALS) for level in zip(*members, strict=True)]


def _shares(fold: FoldModel, patient: Cohort, subspace: Subspace) -> list[tuple[Tensor, ...]]:
    read = PatientReader(fold.spec.preprocessor, patient)
    batch = next(make_batches([read(patient.cases[0])], fold.spec.preprocessor, 1))
    with torch.inference_mode():
        return [tuple(level[0] for level in member(batch).attention[subspace]) for member in fold.members]


def _tiles(bag: Bag, slides: Sequence[str]) -> pd.DataFrame:
    coords = np.full((len(bag), 2), np.nan) if bag.coords_um is None else bag.coords_um.double().numpy()
    names = [slides[int(i)] for i in bag.slide]
    return pd.DataFrame({"slide": names, "mpp": float(bag.mpp), "x_um": coords[:, 0], "y_um": coords[:, 1]})
