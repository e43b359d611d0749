"""Initial weights of a network from another one: copied where names and shapes are the same."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dml.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """Weights that a network starts from.

    Attributes
    ----------
    weights : mapping
        Tensors, by the names of that network.
    patient_hashes : tuple of str
        Digests of the ids of the patients that they were learned from.
    """

    weights: Mapping[str, Tensor]
    patient_hashes: tuple[str, ...] = ()


@torch.no_grad()
def load_matching(network: nn.Module, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Copy the weights that a network has by the same name and shape; return their names, in its order.

    Raises
    ------
    ConfigError
        If there is none.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    >>> load_matching(network, {"0.bias": torch.ones(3), "1.bias": torch.ones(2), "2.bias": torch.ones(1)})
    ('0.bias',)
    >>> network[0].bias.tolist()
    [1.0, 1.0, 1.0]
    """
    state = network.state_dict()
    names = tuple(name for name, value in state.items() if name in weights and weights[name].shape == value.shape)
    if not names:
        kind, remedy = type(network).__name__, "take it out of pretraining.start, or pretrain again with these sections"
        raise ConfigError(f"no pretrained weight has the name and shape of one of {kind}: {remedy}")
    for name in names:
        state[name].copy_(weights[name])
    return names
