"""H-optimus-0: a ViT-g/14 with registers by DINOv2 on 500,000 slides.

Saillard et al. 2024, Bioptimus.
"""

from dml.encoders.backends.timm_network import TimmNetwork, timm_card
from dml.encoders.backends.weights import Weights

CARD = timm_card(
    Weights("h_optimus_0", "bioptimus/H-optimus-0", gated=True),
    TimmNetwork(
        "vit_giant_patch14_reg4_dinov2",
        {"img_size": 224, "init_values": 1e-5, "num_classes": 0, "dynamic_img_size": False, "global_pool": "token"},
    ),
    width=1536,
    mean=(0.707223, 0.578729, 0.703617),
    std=(0.211883, 0.230117, 0.177517),
    licence="Apache-2.0; access on request",
    paper="Saillard et al. 2024, H-optimus-0, github.com/bioptimus/releases",
)
