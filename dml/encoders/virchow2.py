"""Virchow2: a ViT-H/14 with registers by DINOv2 on 3.1 million slides; class token beside the mean patch token.

Zimmermann et al. 2024, arXiv 2408.00738.
"""

from dml.encoders.backends.timm_network import GATED, TimmNetwork, timm_card
from dml.encoders.backends.weights import Weights

_OPTIONS = {"img_size": 224, "init_values": 1e-5, "num_classes": 0, "mlp_ratio": 5.3375, "global_pool": ""}
_PARTS = {"reg_tokens": 4, "dynamic_img_size": True, "mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}

CARD = timm_card(
    Weights("virchow2", "paige-ai/Virchow2", gated=True),
    TimmNetwork("vit_huge_patch14_224", {**_OPTIONS, **_PARTS}, output="class_and_mean", registers=4),
    width=2560,
    licence=GATED,
    paper="Zimmermann et al. 2024, Virchow2, arXiv:2408.00738",
)
