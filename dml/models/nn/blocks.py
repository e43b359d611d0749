"""Parts shared by the models: dropout, token projection, pooling.

Shape legend: b patients, n tokens, d width.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

_STEPS = 1 << 16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with random numbers that are cheap on a CPU: two random bytes an element.

    PyTorch's CPU dropout spends 8 to 18 ns an element on Bernoulli draws, more than the matrix products it follows;
    this takes a fifth. The share that is dropped is rounded to 1/65,536, and the rest is scaled by exactly that.
    """

    def forward(self, input: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Set a share `p` of the elements to zero and scale the others, in training only."""
        if not self.training or not self.p or input.device.type != "cpu":
            return super().forward(input)
        dropped = min(round(self.p * _STEPS), _STEPS - 1)
        drawn = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        keep = drawn.view(torch.int16)[: input.numel()].view(input.shape) >= dropped - _STEPS // 2
        return input * (keep.to(input.dtype) * (_STEPS / (_STEPS - dropped)))


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


def masked_mean(tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b d"]:
    """Mean over real tokens; zero for a bag with none."""
    weights = mask.to(tokens.dtype)[..., None]
    return (tokens * weights).sum(1) / weights.sum(1).clamp_min(1.0)


def uniform_attention(mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return equal weights of all real tokens; zero for a bag with none."""
    return mask / mask.sum(1, keepdim=True).clamp_min(1)
