"""Zoom: finer tiles are read only inside of the coarse tiles that a network attends to most.

    keep_b   = the ceil(share * n_b) coarse tiles of largest attention, mean over the subspaces
    mask_b,i = mask_b,i and parent_b,i in keep_b          for the tiles i of the next finer level

The choice depends on coarse tiles alone, so that the others need not be cut or encoded at the finer resolution: what a
slide costs falls to the coarse tiles plus a share of the fine ones. A bag without coordinates is read as a whole.

Shape legend: b patients, n coarse tiles, m fine tiles.
"""

import torch
from jaxtyping import Bool, Float

from dml.core.types import MagnificationTokens


def attended_children(
    fine: MagnificationTokens, coarse: MagnificationTokens, attention: Float[torch.Tensor, "b n"], share: float
) -> Bool[torch.Tensor, "b m"]:
    """Return the mask of the fine tiles that lie in the most attended coarse tiles.

    Parameters
    ----------
    fine, coarse : MagnificationTokens
        Two neighbouring levels; `fine.parent` links them.
    attention : Tensor, b n
        Of the coarse tiles, 0 on padding.
    share : float
        Of the coarse tiles of each patient whose children are read, in (0, 1].
    """
    if fine.parent is None:
        return fine.mask
    count = torch.ceil(share * coarse.mask.sum(1, keepdim=True) - 1e-6)
    order = attention.masked_fill(~coarse.mask, -1.0).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    chosen = (rank < count) & coarse.mask  # b n
    child = chosen.gather(1, fine.parent.clamp_min(0)) & (fine.parent >= 0)
    linked = (fine.has_coords & coarse.has_coords)[:, None]
    return fine.mask & (child | ~linked)
