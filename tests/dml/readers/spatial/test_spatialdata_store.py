"""Stores that spatialdata writes; without the library the extra is named."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dml.core.errors import InputError
from dml.readers.spatial import spatialdata_store
from dml.readers.spatial.spatialdata_store import SpatialDataStore
from tests.spatial_sections import make_section

SPATIAL: dict[str, Any] = {"format": "spatialdata", "store": "{slide}.zarr", "spacing_um": 100, "spot_diameter_um": 55}
pytestmark = [  # of libraries that spatialdata imports
    pytest.mark.filterwarnings("ignore:Call to deprecated class Scaler:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning"),
]
needs_library = pytest.mark.skipif(
    importlib.util.find_spec("spatialdata") is None,
    reason="needs spatialdata (extra `spatialdata`), which cannot be installed beside the pinned botocore",
)


def write_store(path: Path) -> Any:
    """A store as spatialdata-io makes one of Visium: circles in full-resolution pixels, and their table."""
    import spatialdata as sd
    from spatialdata.models import ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    from tests.dml.readers.spatial.test_anndata_file import squidpy_data

    section = make_section()
    systems = {"global": Identity(), "hires": Scale([0.5, 0.5], axes=("x", "y"))}
    centres = section.spots[["pixel_x", "pixel_y"]].to_numpy()
    index = np.arange(len(centres)) + 7
    circles = ShapesModel.parse(centres, geometry=0, radius=10.0, index=index, transformations=systems)
    data = squidpy_data(section)
    del data.uns["spatial"], data.obsm["spatial"]
    data.obs["region"] = "spots"
    data.obs["region"] = data.obs["region"].astype("category")
    data.obs["spot"] = index
    table = TableModel.parse(data, region="spots", region_key="region", instance_key="spot")
    sd.SpatialData(shapes={"spots": circles}, tables={"table": table}).write(path)
    return section


@needs_library
def test_the_table_and_its_shapes_become_spots_in_a_coordinate_system(tmp_path: Path) -> None:
    section = write_store(tmp_path / "A1.zarr")
    for system, factor in (("global", 1.0), ("hires", 0.5)):
        read = SpatialDataStore(**SPATIAL, coordinate_system=system).read_tables(tmp_path, "A1")
        np.testing.assert_allclose(read.spots[["x_px", "y_px"]], section.spots[["pixel_x", "pixel_y"]] * factor)
        assert (read.counts.toarray() == section.counts).all()
        assert read.genes == section.genes
        np.testing.assert_array_equal(read.spots["array_x"], section.spots["x"])


@needs_library
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coordinate_system": "pixels"}, "the spots have no transformation to 'pixels', only to global, hires"),
        ({"table": "counts"}, "no table 'counts'; there is table"),
        ({"region": "{slide}_spots"}, "no shapes 'A1_spots'; there is spots"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    write_store(tmp_path / "A1.zarr")
    with pytest.raises(InputError, match=message):
        SpatialDataStore(**SPATIAL, **changes).read_tables(tmp_path, "A1")


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "A1.zarr").mkdir()
    monkeypatch.setattr(spatialdata_store, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the library spatialdata.*pip install -e '.\[spatialdata\]'"):
        SpatialDataStore(**SPATIAL).read_tables(tmp_path, "A1")
    with pytest.raises(InputError, match=r"B1\.zarr: there is no such store"):
        SpatialDataStore(**SPATIAL).read_tables(tmp_path, "B1")
