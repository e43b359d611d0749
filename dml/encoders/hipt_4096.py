"""HIPT region features: one vector for 4096 x 4096 px at 20x, extracted elsewhere and imported.

Chen et al., Hierarchical Image Pyramid Transformer, CVPR 2022 (arXiv 2206.02647). Pretrained on TCGA without
labels: state that beside any result on TCGA.
"""

from dml.encoders.card import EncoderCard

CARD = EncoderCard(
    name="hipt_4096",
    width=192,
    mpp=0.5,
    input_px=4096,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    licence="Apache-2.0 with Commons Clause: non-commercial",
    paper="Chen et al. 2022, Hierarchical Image Pyramid Transformer, arXiv:2206.02647",
    gated=False,
)
