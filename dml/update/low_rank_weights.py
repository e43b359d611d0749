"""Low-rank changes of a network's linear maps, which are merged into the maps when training has ended.

W = W_champion + B A,   rank r, B = 0 at the start          (Hu et al., LoRA, ICLR 2022)
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

RANK = 4


class LowRankChange(nn.Module):
    """The change of one weight matrix."""

    def __init__(self, weight: Tensor, rank: int = RANK) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed weight."""
        return weight + self.up @ self.down


def add_low_rank(network: nn.Module) -> None:
    """Give every linear map of a network a low-rank change; nothing else of them is trained any more."""
    for layer in [module for module in network.modules() if isinstance(module, nn.Linear)]:
        layer.weight.requires_grad_(False)
        parametrize.register_parametrization(layer, "weight", LowRankChange(layer.weight))


def merge_low_rank(network: nn.Module) -> None:
    """Merge the changes into the maps: the network has its former parameters again."""
    for layer in [module for module in network.modules() if parametrize.is_parametrized(module, "weight")]:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
