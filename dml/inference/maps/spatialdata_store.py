"""A slide's map as SpatialData (.zarr) for LazySlide, napari and scverse tools: tiles as shapes, and their table.

Format: Marconato et al. 2024, SpatialData, doi 10.1038/s41592-024-02212-x.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from dml.core.errors import ConfigError, InputError
from dml.inference.maps.anndata_file import make_table
from dml.inference.maps.slide_map import SlideMap

TILES, TABLE = "tiles", "contributions"
PIXELS, MICRONS = "global", "microns"
"""Coordinate systems: pixels of the slide at full resolution, and microns from its corner."""


def write_spatialdata(path: Path, slide: SlideMap, mpp: float, slide_mpp: float) -> None:
    """Write the tiles of one resolution as squares in two coordinate systems, annotated by the table of `make_table`.

    Parameters
    ----------
    path : Path
        Ends with .zarr; a store that is there already is replaced.
    mpp, slide_mpp : float
        Microns per pixel of the tiles, and of the slide at full resolution.

    Raises
    ------
    ConfigError
        If spatialdata is not installed.
    InputError
        If there is something else under that name.
    """
    if find_spec("spatialdata") is None:
        raise ConfigError("SpatialData needs the package spatialdata: pip install 'dml[spatialdata]'")
    import geopandas
    import shapely
    from spatialdata import SpatialData
    from spatialdata.models import ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    if path.exists() and not (path / "zarr.json").exists():
        raise InputError(path, "it exists and is no zarr store", "Move it away, or choose another --out")
    table = make_table(slide, mpp, slide_mpp)
    half = table.obs["tile_um"].to_numpy() / slide_mpp / 2
    x, y = table.obsm["spatial"].T
    squares = geopandas.GeoDataFrame(geometry=shapely.box(x - half, y - half, x + half, y + half))
    systems = {PIXELS: Identity(), MICRONS: Scale([slide_mpp, slide_mpp], axes=("x", "y"))}
    shapes = ShapesModel.parse(squares, transformations=systems)
    table.obs["tile"] = np.arange(table.n_obs)
    table.obs["region"] = TILES
    table.obs["region"] = table.obs["region"].astype("category")
    annotation = TableModel.parse(table, region=TILES, region_key="region", instance_key="tile")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        made = Path(folder) / path.name
        SpatialData(shapes={TILES: shapes}, tables={TABLE: annotation}).write(made)
        if path.exists():
            shutil.rmtree(path)
        made.replace(path)
