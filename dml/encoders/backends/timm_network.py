"""Encoders that are networks of timm (Wightman 2019, doi 10.5281/zenodo.4414861) with published weights.

Shape legend: b tiles, n tokens of a vision transformer, d width of a token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dml.core.errors import InputError
from dml.encoders.backends.tile_encoder import TileEncoderRunner
from dml.encoders.backends.torchvision_operators import declare_operators
from dml.encoders.backends.weights import Weights, install_hint
from dml.encoders.card import IMAGENET_MEAN, IMAGENET_STD, EncoderCard, TileEncoder

GATED = "CC-BY-NC-ND-4.0: non-commercial, no derivatives; access on request"


@dataclass(frozen=True, slots=True)
class TimmNetwork:
    """A network of timm and what of its output is the token of a tile.

    Attributes
    ----------
    name : str
        Architecture, as `timm.create_model` calls it.
    options : mapping
        Arguments of `create_model`; `mlp_layer` and `act_layer` by their names.
    output : token, map or class_and_mean
        token: the output is the token. map: the last feature map, averaged over its area. class_and_mean: the class
        token beside the mean of the patch tokens (those behind the `registers`).
    registers : int
        Tokens between the class token and the patch tokens.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    output: Literal["token", "map", "class_and_mean"] = "token"
    registers: int = 0

    def build(self, encoder: str) -> nn.Module:
        """Create the network without weights.

        Raises
        ------
        InputError
            If timm is not installed, or does not work with the installed torch.
        """
        declare_operators()
        try:
            import timm
            import timm.layers
        except (ImportError, RuntimeError) as error:
            raise install_hint(encoder, "timm", "timm", error) from None
        options = dict(self.options)
        if "mlp_layer" in options:
            options["mlp_layer"] = getattr(timm.layers, options["mlp_layer"])
        if "act_layer" in options:
            options["act_layer"] = getattr(nn, options["act_layer"])
        network: nn.Module = timm.create_model(self.name, pretrained=False, **options)
        return network


class TokenOf(nn.Module):
    """A network [b 3 t t] whose output is made one token a tile [b d]."""

    def __init__(self, network: nn.Module, output: str, registers: int = 0) -> None:
        super().__init__()
        self.network, self.output, self.registers = network, output, registers

    def forward(self, pixels: Float[Tensor, "b 3 t t"]) -> Float[Tensor, "b d"]:
        """Encode a batch."""
        output = self.network(pixels)
        if self.output == "map":
            last: Tensor = output[-1] if isinstance(output, list | tuple) else output
            return last.mean(dim=(2, 3))
        if self.output == "class_and_mean":
            return torch.cat([output[:, 0], output[:, 1 + self.registers :].mean(dim=1)], dim=-1)
        token: Tensor = output
        return token


def timm_card(
    weights: Weights, network: TimmNetwork, *, width: int, licence: str, paper: str,
    mean: tuple[float, float, float] = IMAGENET_MEAN, std: tuple[float, float, float] = IMAGENET_STD,
    mpp: float = 0.5, input_px: int = 224, aliases: tuple[str, ...] = (), exportable: bool = False,
) -> EncoderCard:  # fmt: skip
    """Make the card of an encoder that is a network of timm; an export holds at most 2 GB of weights."""

    def load(device: str, precision: str) -> TileEncoder:
        built = network.build(weights.encoder)
        _fill(built, weights)
        return TileEncoderRunner(
            TokenOf(built, network.output, network.registers), mean, std, input_px, device, precision
        )

    return EncoderCard(
        weights.encoder, width, mpp, input_px, mean, std, licence, paper, weights.gated, load, weights.fingerprint,
        exportable, ("timm", "safetensors"), aliases,
    )  # fmt: skip


def _fill(network: nn.Module, weights: Weights) -> None:
    wanted = set(network.state_dict())
    state = {name: tensor for name, tensor in weights.state().items() if name in wanted}
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}  # of training only
    if absent := sorted(wanted - set(state) - counters):
        problem = f"not the weights of this network: {len(absent)} tensors are missing ({absent[0]}, ...)"
        raise InputError(weights.find(), problem, f"Fetch {weights.repository} again")
    try:
        network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        problem = f"not the weights of this network ({reason[:200]})"
        raise InputError(weights.find(), problem, f"Fetch {weights.repository} again") from None
