"""Encoders that are vision transformers of the package transformers; the class token of the last layer is the token.

Shape legend: b tiles, n tokens, d width of a token.
"""

import os

from jaxtyping import Float
from torch import Tensor, nn

from dml.core.errors import InputError
from dml.features.encoders.backends.tile_encoder import TileEncoderRunner
from dml.features.encoders.backends.weights import Weights, install_hint
from dml.features.encoders.card import IMAGENET_MEAN, IMAGENET_STD, EncoderCard, TileEncoder


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
        try:
            from transformers import AutoModel
        except ImportError as error:
            raise install_hint(weights.encoder, "transformers", "transformers", error) from None
        folder = weights.find().parent
        try:
            network = AutoModel.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            found = f"not a model of transformers ({str(error).splitlines()[0]})"
            raise InputError(folder, found, f"Fetch all files of {weights.repository}") from None
        return TileEncoderRunner(ClassToken(network), IMAGENET_MEAN, IMAGENET_STD, input_px, device, precision)

    return EncoderCard(
        weights.encoder, width, mpp, input_px, IMAGENET_MEAN, IMAGENET_STD, licence, paper, weights.gated, load,
        weights.fingerprint, ("transformers", "safetensors"), aliases,
    )  # fmt: skip
