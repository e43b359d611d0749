"""Low-rank changes of a network's weights: trained beside frozen weights, stored as a small file, added when loaded.

A changed layer has the weight W + B A with A [r i] and B [o r] (Hu et al. 2022, LoRA, arXiv 2106.09685); a convolution
of one pixel is the matrix of its channels. After `merge` the network is as fast as before and can be exported.

Shape legend: i inputs, o outputs, r rank of a layer.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dml.core.errors import InputError

Changes = Mapping[str, Float[Tensor, "..."]]
"""``<layer>.a`` and ``<layer>.b`` of each changed layer, by its name in the network."""


class LowRankSum(nn.Module):
    """A parametrisation of a weight: W + B A, of which only A and B are trained; B begins at 0."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs = weight.shape[:2]
        self.a = nn.Parameter(torch.randn(rank, inputs) / math.sqrt(inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Add the change to a weight [o i] or [o i 1 1]."""
        return weight + (self.b @ self.a).view_as(weight)


def changeable_layers(network: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    """Return the layers that are a matrix: linear ones, and convolutions of one pixel without groups."""
    for name, module in network.named_modules():
        pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
        if isinstance(module, nn.Linear) or pointwise:
            yield name, module


def attach(network: nn.Module, names: list[str], rank: int) -> list[nn.Parameter]:
    """Freeze a network and add a trainable change to some layers; return the trainable parameters."""
    network.requires_grad_(False)
    layers = dict(changeable_layers(network))
    trainable: list[nn.Parameter] = []
    for name in names:
        change = LowRankSum(layers[name].weight, rank)
        parametrize.register_parametrization(layers[name], "weight", change)
        trainable += [change.a, change.b]
    return trainable


def changes_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the changes that `attach` added, by the name of their layer."""
    changes: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            change = module.parametrizations.weight[0]
            changes |= {f"{name}.a": change.a.detach().clone(), f"{name}.b": change.b.detach().clone()}
    return changes


@torch.no_grad()
def merge(network: nn.Module, changes: Changes, where: Path | str) -> None:
    """Add changes to the weights of a network in place.

    Raises
    ------
    InputError
        If they are not of this network.
    """
    layers = dict(changeable_layers(network))
    for name in sorted({key.rsplit(".", 1)[0] for key in changes}):
        a, b = changes.get(f"{name}.a"), changes.get(f"{name}.b")
        layer = layers.get(name)
        if layer is None or a is None or b is None or (len(b), a.shape[1]) != tuple(layer.weight.shape[:2]):
            problem = f"its change of {name!r} does not fit the network"
            raise InputError(where, problem, "Use the encoder that it was made for")
        layer.weight += (b @ a).to(layer.weight.dtype).view_as(layer.weight)
