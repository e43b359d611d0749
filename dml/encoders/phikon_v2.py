"""Phikon-v2: a ViT-L/16 by DINOv2 on 58,000 public slides, TCGA among them.

Filiot et al. 2024, arXiv 2409.09173.
"""

from dml.encoders.backends.transformer import transformer_card
from dml.encoders.backends.weights import Weights

CARD = transformer_card(
    Weights("phikon_v2", "owkin/phikon-v2"),
    width=1024,
    licence="CC-BY-NC-ND-4.0: non-commercial, no derivatives",
    paper="Filiot et al. 2024, Phikon-v2, arXiv:2409.09173",
)
