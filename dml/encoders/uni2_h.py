"""UNI 2: a ViT-H/14 with registers by DINOv2 on 350,000 slides.

Chen et al. 2024, Nature Medicine 30:850; model of 2025.
"""

from dml.encoders.backends.timm_network import GATED, TimmNetwork, timm_card
from dml.encoders.backends.weights import Weights

_SHAPE = {"img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24, "embed_dim": 1536, "mlp_ratio": 2.66667 * 2}
_PARTS = {"init_values": 1e-5, "num_classes": 0, "no_embed_class": True, "reg_tokens": 8, "dynamic_img_size": True}

CARD = timm_card(
    Weights("uni2_h", "MahmoodLab/UNI2-h", gated=True),
    TimmNetwork("vit_giant_patch14_224", {**_SHAPE, **_PARTS, "mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}),
    width=1536,
    licence=GATED,
    paper="Chen et al. 2024, UNI, Nature Medicine 30:850, doi 10.1038/s41591-024-02857-3 (UNI2-h, 2025)",
    aliases=("uni_v2", "uni2"),
)
