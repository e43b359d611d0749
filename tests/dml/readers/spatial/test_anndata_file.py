"""Files that anndata writes, in squidpy's layout."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from dml.core.errors import InputError
from dml.readers.spatial.anndata_file import SpatialAnnData
from dml.readers.spatial.visium import Visium
from tests.dml.readers.spatial.test_visium import SPATIAL as VISIUM
from tests.spatial_sections import Section, make_section, write_visium

anndata = pytest.importorskip("anndata", reason="anndata writes the files (extra h5ad)")
SPATIAL: dict[str, Any] = {"format": "anndata", "file": "{slide}.h5ad", "spacing_um": 100, "spot_diameter_um": 55}


def squidpy_data(section: Section, library: str = "A1") -> Any:
    """An AnnData as squidpy.read.visium makes it."""
    obs = pd.DataFrame(
        {"in_tissue": 1, "array_row": section.spots["y"].to_numpy(), "array_col": section.spots["x"].to_numpy()},
        index=[f"AACG{i:06d}-1" for i in range(len(section.spots))],
    )
    var = pd.DataFrame({"gene_ids": [f"ENSG{i:011d}" for i in range(len(section.genes))]}, index=list(section.genes))
    data = anndata.AnnData(sparse.csr_matrix(section.counts.astype(np.float32)), obs=obs, var=var)
    data.obsm["spatial"] = section.spots[["pixel_x", "pixel_y"]].to_numpy()
    factors = {"tissue_hires_scalef": 0.5, "tissue_lowres_scalef": 0.1, "spot_diameter_fullres": 20.0}
    image = np.zeros((4, 4, 3), np.float32)
    data.uns["spatial"] = {library: {"images": {"hires": image}, "scalefactors": factors, "metadata": {"x": "y"}}}
    return data


def read(folder: Path, data: Any, **changes: Any) -> Any:
    data.write_h5ad(folder / "A1.h5ad")
    return SpatialAnnData(**{**SPATIAL, **changes}).read_tables(folder, "A1")


def test_the_same_section_as_visium_and_as_anndata_is_the_same(tmp_path: Path) -> None:
    section = make_section()
    write_visium(tmp_path / "A1/outs", section)
    first = Visium(**VISIUM).read_tables(tmp_path, "A1")
    second = read(tmp_path, squidpy_data(section))
    pd.testing.assert_frame_equal(first.spots.reset_index(drop=True), second.spots)
    assert first.genes == second.genes
    assert first.spot_ids == second.spot_ids
    assert (first.counts != second.counts).nnz == 0


@pytest.mark.parametrize("kind", [sparse.csc_matrix, lambda counts: counts.toarray(), sparse.csr_matrix])
def test_counts_of_any_kind_and_layer_are_sparse(tmp_path: Path, kind: Any) -> None:
    section = make_section()
    data = squidpy_data(section)
    data.layers["counts"] = kind(data.X)
    data.X = data.X.log1p()
    result = read(tmp_path, data, layer="counts")
    assert sparse.issparse(result.counts)
    assert (result.counts.toarray() == section.counts).all()


def test_one_file_with_several_sections_is_divided_by_a_column(tmp_path: Path) -> None:
    parts = {name: make_section(seed) for seed, name in enumerate(("A1", "B1"))}
    both = anndata.concat(
        {name: squidpy_data(each, name) for name, each in parts.items()}, label="slide", index_unique="-"
    )
    both.uns["spatial"] = squidpy_data(parts["A1"]).uns["spatial"]
    result = read(tmp_path, both, section="slide")
    assert (result.counts.toarray() == parts["A1"].counts).all()
    both.obs["slide"] = "Z"
    with pytest.raises(InputError, match=r"obs\.slide has no A1; it has Z"):
        read(tmp_path, both, section="slide")


def test_ensembl_ids_are_symbols_where_the_file_has_both(tmp_path: Path) -> None:
    data = squidpy_data(make_section())
    symbols = list(data.var_names)
    data.var["gene_symbols"] = symbols
    data.var_names = data.var["gene_ids"].to_numpy()
    assert list(read(tmp_path, data).genes) == symbols
    assert read(tmp_path, data, gene="gene_ids").genes[0] == "ENSG00000000000"
    del data.var["gene_symbols"]
    assert read(tmp_path, data).genes[0] == "ENSG00000000000", "and are refused by `check_symbols`"


def test_without_array_places_they_follow_from_the_pixels(tmp_path: Path) -> None:
    section = make_section()
    data = squidpy_data(section)
    data.obs = data.obs.drop(columns=["array_row", "array_col"])
    result = read(tmp_path, data)
    np.testing.assert_allclose(result.spots["array_x"], section.spots["pixel_x"] / 40)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.uns.pop("spatial"), "no scale factors: the image that the positions are in is unknown"),
        (lambda data: data.uns["spatial"]["A1"].pop("scalefactors"), "no scale factors"),
        (lambda data: data.obsm.pop("spatial"), r"no positions: obsm\['spatial'\] is missing"),
        (lambda data: data.uns["spatial"].update(B=data.uns["spatial"]["A1"], C=data.uns["spatial"].pop("A1")),
         r"uns\['spatial'\] has the libraries B, C, not 'A1'. Name one with `library`"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(tmp_path: Path, change: Any, message: str) -> None:
    data = squidpy_data(make_section())
    change(data)
    with pytest.raises(InputError, match=message):
        read(tmp_path, data)


def test_a_scale_of_the_cohort_stands_in_for_missing_factors(tmp_path: Path) -> None:
    data = squidpy_data(make_section())
    del data.uns["spatial"]
    assert read(tmp_path, data, scale=2.0).spots["x_px"].iloc[0] == 2 * data.obsm["spatial"][0, 0]
