"""UNI: a ViT-L/16 by DINOv2 on 100,000 slides.

Chen et al. 2024, Nature Medicine 30:850.
"""

from dml.encoders.backends.timm_network import GATED, TimmNetwork, timm_card
from dml.encoders.backends.weights import Weights

CARD = timm_card(
    Weights("uni", "MahmoodLab/UNI", gated=True),
    TimmNetwork(
        "vit_large_patch16_224", {"img_size": 224, "init_values": 1e-5, "num_classes": 0, "dynamic_img_size": True}
    ),
    width=1024,
    licence=GATED,
    paper="Chen et al. 2024, UNI, Nature Medicine 30:850, doi 10.1038/s41591-024-02857-3",
    aliases=("uni_v1",),
    exportable=True,
)
