"""ResNet-50 up to its third stage, ImageNet weights: the 1024-d features of CLAM, MCAT, and the paper followed here.

He et al. 2016, arXiv 1512.03385; use in pathology: Lu et al. 2021, arXiv 2004.09666.
"""

from dml.encoders.backends.timm_network import TimmNetwork, timm_card
from dml.encoders.backends.weights import Weights

CARD = timm_card(
    Weights("resnet50", "timm/resnet50.tv_in1k"),
    TimmNetwork("resnet50", {"features_only": True, "out_indices": (3,)}, output="map"),
    width=1024,
    input_px=256,
    licence="BSD-3-Clause (torchvision weights)",
    paper="He et al. 2016, Deep residual learning, arXiv:1512.03385; third stage as in CLAM, arXiv:2004.09666",
    aliases=("resnet50_trunc",),
    exportable=True,
)
