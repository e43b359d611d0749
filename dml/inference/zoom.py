"""Which fine tiles the networks of an ensemble read of one slide, from its coarse tiles alone."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool

from dml.core.device import torch_threads
from dml.core.types import Bag, Case, Cohort, GeneGroups, TileGrid
from dml.data.batches import collate
from dml.inference.ensemble import Ensemble
from dml.models.multi_scale import MultiScaleModel


class TileSelector:
    """Selects the tiles of finer grids that at least one network of an ensemble reads.

    Each network masks what it does not read by itself, so a prediction from the selected tiles alone is that from all.

    Parameters
    ----------
    ensemble : Ensemble
        Of students with ``distillation.zoom``.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble

    def __call__(self, coarser: Bag, grid: TileGrid) -> TileGrid:
        """Return the tiles of a grid to be read, given the tokens of the next coarser one; all if none would be."""
        is_read = self._mask(coarser, grid)
        if not is_read.any():
            return grid
        chosen = {name: getattr(grid, name)[is_read] for name in ("coords_px", "coords_um", "tissue")}
        return replace(grid, **chosen)

    def _mask(self, coarser: Bag, grid: TileGrid) -> Bool[np.ndarray, "n"]:
        count = len(grid.coords_px)
        unread = Bag(
            torch.zeros(count, coarser.tokens.shape[1], dtype=coarser.tokens.dtype),
            torch.from_numpy(grid.coords_um).float(),
            torch.zeros(count, dtype=torch.long),
            grid.mpp,
            grid.tile_um,
            coarser.encoder,
        )
        case = Case("request", "", {coarser.mpp: coarser, grid.mpp: unread})
        is_read = np.zeros(count, bool)
        with torch_threads(1), torch.inference_mode():
            for fold in self._ensemble.folds:
                prepared = fold.spec.preprocessor
                cohort = Cohort("request", (case,), (), prepared.unit, GeneGroups((), ()), {})
                batch = collate([fold.reader(cohort)(case)], prepared)
                level = prepared.mpps.index(float(grid.mpp))
                for member in fold.members:
                    if isinstance(member, MultiScaleModel):
                        is_read |= member.select_tokens(batch).levels[level].mask[0].numpy()
        return is_read
