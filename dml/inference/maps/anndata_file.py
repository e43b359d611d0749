"""A slide's map as AnnData (.h5ad) for scverse tools: tiles as observations, contributions as values."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dml.core.errors import ConfigError
from dml.core.files import atomic
from dml.inference.maps.slide_map import SlideMap

if TYPE_CHECKING:
    from anndata import AnnData


def make_table(slide: SlideMap, mpp: float, slide_mpp: float) -> "AnnData":
    """Return the tiles of one resolution.

    ``X`` and the layers ``attention`` and ``deviation`` have a column per branch, ``obsm["spatial"]`` the centres in
    level-0 pixels (as squidpy wants them), ``obs`` x_um and y_um, ``uns`` what was attributed.

    Raises
    ------
    ConfigError
        If anndata is not installed.
    """
    try:
        import anndata
    except ImportError:
        raise ConfigError("AnnData needs the package anndata: pip install 'dml[h5ad]'") from None
    layers = {branch: slide.layer(branch, mpp) for branch in slide.branches}
    first = next(iter(layers.values()))
    observations = first[["x_um", "y_um", "tile_um", "mpp"]].copy()
    observations.index = pd.Index([f"{slide.slide_id}-{i}" for i in range(len(first))])

    def stacked(name: str) -> np.ndarray:
        return np.stack([layer[name].to_numpy() for layer in layers.values()], axis=1)

    return anndata.AnnData(
        X=stacked("contribution"),
        obs=observations,
        var=pd.DataFrame(index=pd.Index(list(layers))),
        obsm={"spatial": first[["x_um", "y_um"]].to_numpy() / slide_mpp},
        layers={name: stacked(name) for name in ("attention", "deviation")},
        uns={"slide": slide.slide_id, "patient": slide.patient_id, "model": slide.model, "output": slide.output},
    )


def write_anndata(path: Path, slide: SlideMap, mpp: float, slide_mpp: float) -> None:
    """Write the table of `make_table`.

    Raises
    ------
    ConfigError
        If anndata is not installed.
    """
    table = make_table(slide, mpp, slide_mpp)
    with atomic(path) as temporary:
        table.write_h5ad(temporary)
