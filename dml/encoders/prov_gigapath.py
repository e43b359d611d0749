"""The tile encoder of Prov-GigaPath: a ViT-g/16 by DINOv2 on 171,000 slides.

Xu et al. 2024, Nature 630:181.
"""

from dml.encoders.backends.timm_network import TimmNetwork, timm_card
from dml.encoders.backends.weights import Weights

_SHAPE = {"img_size": 224, "patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_ratio": 5.33334}

CARD = timm_card(
    Weights("prov_gigapath", "prov-gigapath/prov-gigapath", files=("pytorch_model.bin",), gated=True),
    TimmNetwork("vit_giant_patch14_dinov2", {**_SHAPE, "init_values": 1e-5, "num_classes": 0, "global_pool": "token"}),
    width=1536,
    licence="Apache-2.0 (research use as its authors ask); access on request",
    paper="Xu et al. 2024, Prov-GigaPath, Nature 630:181, doi 10.1038/s41586-024-07441-w",
    aliases=("gigapath",),
)
