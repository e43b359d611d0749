"""Write a slide's map in the formats that are asked for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dml.core.errors import InputError
from dml.inference.maps.anndata_file import write_anndata
from dml.inference.maps.geojson import write_geojson
from dml.inference.maps.overlay import save_overlay
from dml.inference.maps.slide_map import SlideMap
from dml.inference.maps.spatialdata_store import write_spatialdata
from dml.slides.reader import open_slide


def export_map(slide: SlideMap, folder: Path, formats: Sequence[str], mpp: float, share: float) -> list[Path]:
    """Write ``<slide>.<format>`` files into a folder and return them.

    Parameters
    ----------
    formats : sequence of str
        Of png, pdf, geojson, h5ad, zarr.
    mpp : float
        Resolution of the tiles.
    share : float
        See `dml.inference.maps.geojson.write_geojson`.

    Raises
    ------
    InputError
        If the slide has no tiles at that resolution, or cannot be opened.
    ConfigError
        If a format needs a package that is not installed.
    """
    known = sorted(set(slide.tiles["mpp"]))
    if not any(np.isclose(mpp, level) for level in known):
        at = ", ".join(f"{level:g}" for level in known)
        raise InputError(slide.slide_id, f"no tiles at {mpp:g} microns per pixel", f"There are tiles at {at}")
    with open_slide(slide.path, slide.stated_mpp) as opened:
        slide_mpp = opened.mpp
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for name in formats:
        path = folder / f"{slide.slide_id}.{name}"
        if name == "geojson":
            files += write_geojson(folder, slide, mpp, slide_mpp, share)
        elif name == "h5ad":
            write_anndata(path, slide, mpp, slide_mpp)
            files.append(path)
        elif name == "zarr":
            write_spatialdata(path, slide, mpp, slide_mpp)
            files.append(path)
        else:
            save_overlay(slide, mpp, path)
            files.append(path)
    return files
