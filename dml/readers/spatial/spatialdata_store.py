"""SpatialData stores (.zarr), read with the library spatialdata (extra `spatialdata`).

A table annotates the shapes of its spots; the positions are the centres of the shapes in a coordinate system that is
that of the slide's pixels. Format: Marconato et al. 2024, SpatialData, doi 10.1038/s41592-024-02212-x.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy import sparse

from dml.core.errors import InputError, listed, refuse_unreadable
from dml.readers.spatial.image_scale import array_places, make_spots, places_of_pixels
from dml.readers.spatial.spatial_format import SpatialFormat, SpatialSection, fill_slide

ATTRIBUTES = "spatialdata_attrs"
"""Entry of a table's `uns` that says which shapes its rows annotate."""


class SpatialDataStore(SpatialFormat):
    """A SpatialData store a slide, or one with all slides as shapes of their own."""

    format: Literal["spatialdata"]
    store: str = Field(description="the .zarr folder, relative to `raw`; {slide} is the slide id")
    table: str = Field(default="table", description="name of the table with the counts")
    region: str | None = Field(default=None, description="name of the shapes of the slide; default: the only one")
    coordinate_system: str = Field(default="global", description="the one that is pixels of the slide")
    layer: str = Field(default="X", description="raw counts: X, or the name of a layer")
    gene: str | None = Field(default=None, description="column of var with the symbol; default: the index of var")

    def read_tables(self, raw: Path, slide_id: str) -> SpatialSection:
        """Read the table and the shapes that it annotates.

        Raises
        ------
        InputError
            If spatialdata is not installed, the store is missing, or it has no such table, shapes or coordinate system.
        """
        path = raw / fill_slide(self.store, slide_id)
        if not path.is_dir():
            raise InputError(path, "there is no such store", "Put the .zarr folder there or correct `store`")
        if find_spec("spatialdata") is None:
            remedy = "Install the library in an environment with it: pip install -e '.[spatialdata]'"
            raise InputError(path, "a SpatialData store needs the library spatialdata", remedy)
        import spatialdata

        with refuse_unreadable(path, "Is it a SpatialData store? Write it again"):
            data = spatialdata.read_zarr(path)
            table = _member(path, data.tables, self.table, "table")
            region = None if self.region is None else fill_slide(self.region, slide_id)
            rows, shapes = _annotated(path, data, table, region)
            positions = _centres(path, shapes, self.coordinate_system)
        chosen = table[rows.to_numpy()]
        keys = chosen.obs[table.uns[ATTRIBUTES]["instance_key"]]
        missing = [key for key in keys if key not in positions.index]
        if missing:
            raise InputError(path, f"rows of {self.table} without a shape: {listed(missing)}", "Write the store again")
        pixels = positions.loc[list(keys)].to_numpy(np.float64)
        names = [str(name) for name in chosen.obs_names]
        spots = make_spots(names, _places(chosen.obs, pixels), pixels, _in_tissue(chosen.obs))
        values = chosen.X if self.layer == "X" else _member(path, chosen.layers, self.layer, "layer")
        genes = chosen.var_names if self.gene is None else _member(path, chosen.var, self.gene, "column of var")
        counts = sparse.csr_matrix(values)
        return SpatialSection(spots, tuple(names), counts, tuple(str(gene) for gene in genes), path, path)


def _annotated(path: Path, data: Any, table: Any, region: str | None) -> tuple[Any, Any]:
    """Return which rows of the table are of the slide, and their shapes."""
    attributes = table.uns.get(ATTRIBUTES)
    if not attributes:
        raise InputError(path, "the table annotates no shapes", "Write it with region, region_key and instance_key")
    regions = attributes["region"]
    regions = [regions] if isinstance(regions, str) else list(regions)
    if region is None and len(regions) > 1:
        raise InputError(path, f"the table annotates {listed(regions)}", "Name one with `region` under `spatial`")
    name = regions[0] if region is None else region
    return table.obs[attributes["region_key"]] == name, _member(path, data.shapes, name, "shapes")


def _centres(path: Path, shapes: Any, system: str) -> Any:
    """Return x and y of the shapes' centres in a coordinate system, by their index."""
    import spatialdata
    from spatialdata.transformations import get_transformation

    systems = get_transformation(shapes, get_all=True)
    if system not in systems:
        problem = f"the spots have no transformation to {system!r}, only to {listed(sorted(systems))}"
        raise InputError(path, problem, "Name the one of the slide's pixels with `coordinate_system` under `spatial`")
    centres = spatialdata.transform(shapes, to_coordinate_system=system).geometry.centroid
    return centres.to_frame("geometry").assign(x=centres.x, y=centres.y)[["x", "y"]]


def _places(obs: Any, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if "array_row" in obs and "array_col" in obs:
        return array_places(obs["array_row"].to_numpy(np.float64), obs["array_col"].to_numpy(np.float64))
    places = places_of_pixels(pixels)
    return places[:, 0], places[:, 1]


def _in_tissue(obs: Any) -> np.ndarray:
    return obs["in_tissue"].to_numpy(np.float64) > 0 if "in_tissue" in obs else np.ones(len(obs), bool)


def _member(path: Path, members: Any, name: str, what: str) -> Any:
    if name not in members:
        there = listed(sorted(str(key) for key in members)) or "none"
        raise InputError(path, f"no {what} {name!r}; there is {there}", "Correct the name under `spatial`")
    return members[name]
