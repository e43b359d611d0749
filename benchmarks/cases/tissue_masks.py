"""Overlap of tissue masks with the truth of painted phantoms, beside two methods of scikit-image."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hsv
from skimage.filters import threshold_otsu, threshold_triangle

from benchmarks.measurement import time_repeats
from benchmarks.phantoms import Mask, overlap, tissue_phantoms
from benchmarks.registry import Benchmark, Measurement, register
from dml.slides.tissue import find_tissue

Method = Callable[[NDArray[np.uint8]], Mask]


def _above(threshold: Callable[[NDArray[np.float64]], float]) -> Method:
    def mask(pixels: NDArray[np.uint8]) -> Mask:
        saturation = rgb2hsv(ndimage.gaussian_filter(pixels / 255.0, (1, 1, 0)))[..., 1]
        return np.asarray(saturation > threshold(saturation))

    return mask


METHODS: dict[str, Method] = {
    "find_tissue": lambda pixels: find_tissue(pixels).mask,
    "Otsu of saturation": _above(threshold_otsu),
    "triangle of saturation": _above(threshold_triangle),
}


def _score(method: Method) -> Measurement:
    phantoms = tissue_phantoms().values()
    result = time_repeats(lambda: [method(phantom.pixels) for phantom in phantoms], repeats=2, warm=0)
    scores = [overlap(method(phantom.pixels), phantom.tissue) for phantom in phantoms]
    figures = {"IoU, mean": float(np.mean(scores)), "IoU, worst": min(scores)}
    return Measurement(result.wall_s, result.cpu_s, figures)


for name, method in METHODS.items():
    register(Benchmark(f"tissue mask, {name}", "5 slides", lambda m=method: _score(m)))
