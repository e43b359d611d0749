"""Folders of Space Ranger: positions, counts and scale factors, never dense."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from dml.core.errors import InputError
from dml.readers.spatial.image_scale import array_places, places_of_pixels
from dml.readers.spatial.visium import Visium
from tests.spatial_sections import make_section, write_visium

SPATIAL: dict[str, Any] = {"format": "visium", "folder": "{slide}/outs", "spacing_um": 100, "spot_diameter_um": 55}


@pytest.mark.parametrize("header", [True, False])
def test_both_layouts_of_positions_give_the_spots_of_the_matrix(tmp_path: Path, header: bool) -> None:
    section = make_section()
    barcodes = write_visium(tmp_path / "A1/outs", section, header)
    read = Visium(**SPATIAL).read_tables(tmp_path, "A1")
    assert list(read.spots["spot_id"]) == barcodes == list(read.spot_ids)
    assert read.genes == section.genes, "antibodies are no genes"
    assert sparse.issparse(read.counts)
    assert (read.counts.toarray() == section.counts).all()
    np.testing.assert_array_equal(read.spots[["x_px", "y_px"]], section.spots[["pixel_x", "pixel_y"]])


def test_positions_are_scaled_to_the_image_that_the_slide_is(tmp_path: Path) -> None:
    section = make_section()
    write_visium(tmp_path / "A1/outs", section)
    for image, factor in (("hires", 0.5), ("lowres", 0.1)):
        read = Visium(**SPATIAL, image=image).read_tables(tmp_path, "A1")
        np.testing.assert_allclose(read.spots["x_px"], section.spots["pixel_x"] * factor)


def test_missing_scale_factors_are_refused_unless_the_scale_is_given(tmp_path: Path) -> None:
    section = make_section()
    write_visium(tmp_path / "A1/outs", section, factors=False)
    with pytest.raises(InputError) as error:
        Visium(**SPATIAL).read_tables(tmp_path, "A1")
    assert str(error.value) == (
        f"{tmp_path}/A1/outs/spatial/scalefactors_json.json: no scale factors: the image that the positions are in is "
        "unknown. Copy scalefactors_json.json of Space Ranger, or say `scale` under `spatial` (1: full resolution)"
    )
    read = Visium(**SPATIAL, scale=0.25).read_tables(tmp_path, "A1")
    np.testing.assert_allclose(read.spots["y_px"], section.spots["pixel_y"] * 0.25)


def test_a_scale_factor_that_is_not_there_or_none_is_refused(tmp_path: Path) -> None:
    write_visium(tmp_path / "A1/outs", make_section())
    path = tmp_path / "A1/outs/spatial/scalefactors_json.json"
    path.write_text(json.dumps({"tissue_lowres_scalef": 0.1}))
    with pytest.raises(
        InputError, match="tissue_hires_scalef is None, not above 0 and at most 1; there are tissue_lowres"
    ):
        Visium(**SPATIAL, image="hires").read_tables(tmp_path, "A1")
    path.write_text('{"tissue_hires_scalef": ')
    with pytest.raises(InputError, match=r"scalefactors_json\.json: cannot be read .*Copy the file of Space Ranger"):
        Visium(**SPATIAL).read_tables(tmp_path, "A1")
    path.write_text("[1]")
    with pytest.raises(InputError, match="no scale factors, but a list"):
        Visium(**SPATIAL).read_tables(tmp_path, "A1")


def test_missing_and_wrong_files_are_refused_by_name(tmp_path: Path) -> None:
    outs = tmp_path / "A1/outs"
    write_visium(outs, make_section())
    positions = outs / "spatial/tissue_positions.csv"
    content = positions.read_text()
    positions.unlink()
    with pytest.raises(InputError, match=r"spatial: no tissue_positions.csv or .*Copy the folder `spatial`"):
        Visium(**SPATIAL).read_tables(tmp_path, "A1")
    positions.write_text(content.replace("barcode", "spot"))
    with pytest.raises(InputError, match="no column 'barcode'"):
        Visium(**SPATIAL).read_tables(tmp_path, "A1")
    positions.write_text(content)
    with h5py.File(outs / "filtered_feature_bc_matrix.h5", "w") as file:
        file.create_group("mm10")
    with pytest.raises(InputError, match="no group `matrix`; it has mm10"):
        Visium(**SPATIAL).read_tables(tmp_path, "A1")
    with pytest.raises(InputError, match=r"B1/outs/filtered_feature_bc_matrix\.h5: the file does not exist"):
        Visium(**SPATIAL).read_tables(tmp_path, "B1")


def test_a_matrix_of_visium_size_is_never_dense(tmp_path: Path) -> None:
    """5,000 spots by 33,000 genes would be 1.3 GB dense; the process that reads it has less."""
    section = make_section()
    outs = tmp_path / "A1/outs"
    write_visium(outs, section)
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 5000, 800_000), rng.integers(0, 33000, 800_000)
    counts = sparse.csr_matrix((np.ones(800_000), cells), (5000, 33000))
    with h5py.File(outs / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(counts, name)
        group["shape"] = np.array(counts.shape[::-1], np.int32)
        group["barcodes"] = np.array([f"B{i}" for i in range(5000)], "S")
        features = group.create_group("features")
        features["name"] = np.array([f"G{i}" for i in range(33000)], "S")
        features["feature_type"] = np.array(["Gene Expression"] * 33000, "S")
    columns = {"barcode": [f"B{i}" for i in range(5000)], "in_tissue": 1}
    row, col = np.divmod(np.arange(5000), 64)
    places = {"array_row": row, "array_col": 2 * col + row % 2}
    pixels = {"pxl_row_in_fullres": row * 173.2, "pxl_col_in_fullres": places["array_col"] * 100.0}
    pd.DataFrame(columns | places | pixels).to_csv(outs / "spatial/tissue_positions.csv", index=False)
    read = Visium(**SPATIAL).read_tables(tmp_path, "A1")
    assert read.counts.shape == (5000, 33000)
    assert (read.counts != counts).nnz == 0
    steps = np.diff(np.unique(read.spots["x_px"])), np.diff(np.unique(read.spots["array_x"]))
    assert steps[0][0] / steps[1][0] == pytest.approx(200), "array places count spacings: two columns apart"


def test_places_of_a_hexagonal_and_of_a_square_array() -> None:
    x, y = array_places(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 3]))
    np.testing.assert_allclose(np.hypot(x[2] - x[0], y[2] - y[0]), 1), "all six neighbours are one spacing away"
    np.testing.assert_allclose((x, y), ([0, 1, 0.5, 1.5], [0, 0, 3**0.5 / 2, 3**0.5 / 2]))
    x, y = array_places(np.array([0, 0, 1]), np.array([0, 1, 0]))
    np.testing.assert_array_equal((x, y), ([0, 1, 0], [0, 0, 1]))
    np.testing.assert_allclose(places_of_pixels(np.array([[0, 0], [30, 0], [0, 30.0]])), [[0, 0], [1, 0], [0, 1]])
