"""Phikon: a ViT-B/16 by iBOT on TCGA: state that beside any result on TCGA.

Filiot et al. 2023, medRxiv 2023.07.21.23292757.
"""

from dml.encoders.backends.transformer import transformer_card
from dml.encoders.backends.weights import Weights

CARD = transformer_card(
    Weights("phikon", "owkin/phikon"),
    width=768,
    licence="Owkin non-commercial licence",
    paper="Filiot et al. 2023, Phikon, medRxiv 2023.07.21.23292757",
    aliases=("phikon_v1",),
)
