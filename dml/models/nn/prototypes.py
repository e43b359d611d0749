"""Prototypes of tissue: a bag of any size becomes a fixed number of tokens (Song et al. 2024, PANTHER and MMP).

    q_nk    = softmax_k(-|LN(x_n) - LN(c_k)|^2 / sqrt(d))
    token_k = W [share_k; mean_k; deviation_k]        of the tiles, weighted by q_nk

Differs from the papers, which fit the prototypes by k-means and a Gaussian mixture before the training: these are
learned with the task.

Shape legend: b patients, n tokens, k prototypes, d width.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Prototypes(nn.Module):
    """Summarises a bag by its tiles' share, mean and deviation at each prototype; memory is linear in the tiles."""

    def __init__(self, width: int, prototypes: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(prototypes, width))
        self.join = nn.Linear(2 * width + 1, width)

    def forward(
        self, tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "b n"]]:
        """Return the prototypes' tokens, and the mean over the prototypes of the weights of the tiles."""
        width = tokens.shape[-1:]
        tiles, centres = (nn.functional.layer_norm(x, width) for x in (tokens, self.centres))
        scores = (2 * tiles @ centres.T - centres.square().sum(-1)) / tokens.shape[-1] ** 0.5  # -|x|^2: same for all k
        assigned = torch.softmax(scores, dim=-1) * mask[..., None]  # b n k
        total = assigned.sum(1)  # b k
        weights = assigned / total[:, None].clamp_min(1e-12)
        mean = weights.transpose(1, 2) @ tokens  # b k d
        variance = weights.transpose(1, 2) @ tokens.square() - mean.square()
        share = total / mask.sum(1, keepdim=True).clamp_min(1)
        joined = torch.cat([share[..., None], mean, (variance.clamp_min(0.0) + 1e-6).sqrt()], dim=-1)
        return self.join(joined), weights.mean(-1)
