"""Encoders that are vision transformers of the package transformers; the class token of the last layer is the token.

Shape legend: b tiles, n tokens, d width of a token.
"""

import os

from jaxtyping import Float
from torch import Tensor, nn

from dml.core.errors import InputError, first_line
from dml.encoders.backends.tile_encoder import TileEncoderRunner
from dml.encoders.backends.torchvision_operators import declare_operators
from dml.encoders.backends.weights import Weights, install_hint
from dml.encoders.card import IMAGENET_MEAN, IMAGENET_STD, EncoderCard, TileEncoder


class ClassToken(nn.Module):
    """The class token of a vision transformer [b 3 t t] -> [b d]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Float[Tensor, "b 3 t t"]) -> Float[Tensor, "b d"]:
        """Encode a batch."""
        token: Tensor = self.network(pixel_values=pixels).last_hidden_state[:, 0]
        return token


def transformer_card(
    weights: Weights, *, width: int, licence: str, paper: str, mpp: float = 0.5, input_px: int = 224,
    aliases: tuple[str, ...] = (),
) -> EncoderCard:  # fmt: skip
    """Make the card of an encoder whose folder holds config.json and weights as transformers writes them."""

    def load(device: str, precision: str) -> TileEncoder:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        declare_operators()
        try:
            from transformers import AutoModel
        except (ImportError, RuntimeError) as error:
            raise install_hint(weights.encoder, "transformers", "transformers", error) from None
        path = weights.find()
        weights.check(path)
        try:
            network = AutoModel.from_pretrained(path.parent, local_files_only=True)
        except Exception as error:
            problem = f"not a model of transformers ({first_line(error)})"
            raise InputError(path.parent, problem, f"Fetch all files of {weights.repository} again") from error
        return TileEncoderRunner(ClassToken(network), IMAGENET_MEAN, IMAGENET_STD, input_px, device, precision)

    return EncoderCard(
        weights.encoder, width, mpp, input_px, IMAGENET_MEAN, IMAGENET_STD, licence, paper, weights.gated, load,
        weights.fingerprint, True, ("transformers", "safetensors"), aliases,
    )  # fmt: skip
