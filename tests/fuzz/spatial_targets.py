"""Spatial formats that are fuzzed: a valid small section, one of its files spoiled, and the stores made of it."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from hypothesis import strategies as st

from dml.cohorts.description import CohortDescription
from dml.cohorts.spot_store import read_spots, write_spots
from dml.cohorts.spots import build_spots
from dml.config.params import parse
from tests.fuzz.mutations import Draw, change_bytes, change_cells, change_hdf5, change_store
from tests.spatial_sections import MINIMAL, make_section, write_st, write_visium

SPACING = {"spacing_um": 200, "spot_diameter_um": 100}


def _describe(raw: Path, spatial: dict[str, object]) -> CohortDescription:
    content = {**MINIMAL, "raw": str(raw), "spatial": {**SPACING, **spatial}}
    description: CohortDescription = parse(CohortDescription, content, "small.yaml")
    return description


def st_tsv(draw: Draw, folder: Path) -> Callable[[], object]:
    write_st(folder, make_section())
    path = folder / draw(st.sampled_from(["A1_spots.tsv", "A1_counts.tsv.gz"]))
    if draw(st.booleans()):
        change_cells(draw, pd.read_csv(path, sep="\t", dtype=str)).to_csv(path, sep="\t", index=False, errors="replace")
    else:
        path.write_bytes(change_bytes(draw, path.read_bytes()))
    spatial = {"format": "st_tsv", "spots": "{slide}_spots.tsv", "counts": "{slide}_counts.tsv.gz"}
    return partial(build_spots, _describe(folder, spatial))


def visium(draw: Draw, folder: Path) -> Callable[[], object]:
    section, header = make_section(), draw(st.booleans())
    write_st(folder, section)
    outs = folder / "A1"
    write_visium(outs, section, header)
    positions = "tissue_positions.csv" if header else "tissue_positions_list.csv"
    names = ["filtered_feature_bc_matrix.h5", f"spatial/{positions}", "spatial/scalefactors_json.json"]
    path = outs / draw(st.sampled_from(names))
    change = change_hdf5 if path.suffix == ".h5" and draw(st.booleans()) else change_bytes
    path.write_bytes(change(draw, path.read_bytes()))
    image = draw(st.sampled_from(["full", "hires"]))
    return partial(build_spots, _describe(folder, {"format": "visium", "folder": "{slide}", "image": image}))


def spatial_anndata(draw: Draw, folder: Path) -> Callable[[], object]:
    from tests.dml.readers.spatial.test_anndata_file import squidpy_data

    section = make_section()
    write_st(folder, section)
    path = folder / "A1.h5ad"
    squidpy_data(section).write_h5ad(path)
    path.write_bytes((change_hdf5 if draw(st.booleans()) else change_bytes)(draw, path.read_bytes()))
    return partial(build_spots, _describe(folder, {"format": "anndata", "file": "{slide}.h5ad"}))


@cache
def _stored(work: Path) -> Path:
    folder = work / "spots"
    write_st(folder, make_section())
    write_spots(folder, build_spots(_describe(folder, dict(MINIMAL["spatial"]))))
    return folder


def spot_store(draw: Draw, folder: Path) -> Callable[[], object]:
    names = ["spots.parquet", "spot_counts.parquet"]
    for name in names:
        (folder / name).write_bytes((_stored(folder.parent) / name).read_bytes())
    path = folder / draw(st.sampled_from(names))
    if draw(st.booleans()):
        pq.write_table(change_store(draw, pq.read_table(path)), path)
    else:
        path.write_bytes(change_bytes(draw, path.read_bytes()))
    return partial(read_spots, folder)
