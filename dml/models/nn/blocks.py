"""Small parts shared by the models: token projection, self-normalising gene network, masked pooling.

Shape legend: b patients, n tokens, g genes, d width.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dml.models.nn.dropout import Dropout


class TokenProjection(nn.Module):
    """Patch features to tokens of the model: P = GELU(W X + b + e_m), with an embedding e_m of the magnification.

    One projection serves every magnification, because one encoder made the features of all of them.
    """

    def __init__(self, token_width: int, width: int, levels: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(token_width, width)
        self.level = nn.Parameter(torch.zeros(levels, width))
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "b n t"], level: int) -> Float[Tensor, "b n d"]:
        """Project the tokens of one magnification."""
        projected: Tensor = self.dropout(nn.functional.gelu(self.project(tokens) + self.level[level]))
        return projected


class GeneNetwork(nn.Module):
    """Self-normalising network: genes -> ELU, AlphaDropout -> width (Klambauer et al. 2017).

    Weights start from N(0, 1 / fan_in), which the self-normalising property assumes.
    """

    def __init__(self, genes: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(genes, hidden), nn.Linear(hidden, width)
        self.dropout = nn.AlphaDropout(dropout)
        for layer in (self.inner, self.outer):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(max(layer.in_features, 1)))
            nn.init.zeros_(layer.bias)

    def forward(self, genes: Float[Tensor, "b g"]) -> Float[Tensor, "b d"]:
        """Embed one subspace's genes."""
        hidden = self.dropout(nn.functional.elu(self.inner(genes)))
        embedded: Tensor = nn.functional.elu(self.outer(hidden))
        return embedded


def masked_mean(tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b d"]:
    """Mean over real tokens; zero for a bag with none."""
    weights = mask.to(tokens.dtype)[..., None]
    return (tokens * weights).sum(1) / weights.sum(1).clamp_min(1.0)
