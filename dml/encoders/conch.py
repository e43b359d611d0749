"""CONCH: the image half of a vision-language model, if its authors' package `conch` is installed.

Lu et al. 2024, Nature Medicine 30:863.
"""

from jaxtyping import Float
from torch import Tensor, nn

from dml.core.errors import InputError
from dml.encoders.backends.tile_encoder import TileEncoderRunner
from dml.encoders.backends.timm_network import GATED
from dml.encoders.backends.weights import Weights
from dml.encoders.card import EncoderCard, TileEncoder

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
WEIGHTS = Weights("conch", "MahmoodLab/CONCH", files=("pytorch_model.bin",), gated=True)


class _Image(nn.Module):
    """The image embedding before its projection into the space shared with text."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Float[Tensor, "b 3 t t"]) -> Float[Tensor, "b d"]:
        token: Tensor = self.network.encode_image(pixels, proj_contrast=False, normalize=False)  # type: ignore[operator]
        return token


def _load(device: str, precision: str) -> TileEncoder:
    try:
        from conch.open_clip_custom import create_model_from_pretrained
    except (ImportError, RuntimeError) as error:
        problem = f"it needs its authors' package conch, which cannot be imported ({str(error).splitlines()[0]})"
        raise InputError("encoder conch", problem, "Install it from github.com/mahmoodlab/CONCH") from None
    network, _ = create_model_from_pretrained("conch_ViT-B-16", str(WEIGHTS.find()))
    return TileEncoderRunner(_Image(network), MEAN, STD, 448, device, precision)


CARD = EncoderCard(
    "conch", 512, 0.5, 448, MEAN, STD, GATED, "Lu et al. 2024, CONCH, Nature Medicine 30:863", True, _load,
    WEIGHTS.fingerprint, False, ("conch @ git+https://github.com/mahmoodlab/CONCH.git",), ("conch_v1",),
)  # fmt: skip
