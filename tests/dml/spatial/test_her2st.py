"""On real tissue: epithelial genes and colours against regions that a pathologist drew."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

from dml.cohorts.spot_store import SpotTable
from dml.core.types import GeneGroups
from dml.spatial.comparison import Comparison, Settings, SpotComparer, SpotSection
from dml.spatial.measurements import TUMOR_REGIONS, Terms, measure_spots
from dml.spatial.spot_grid import SpotGrid

SECTIONS = ("C2", "C3", "C4", "C5", "C6")


def read_section(folder: Path, name: str) -> tuple[SpotTable, pd.DataFrame]:
    """Spots with counts and region, and the mean colour of the image at each."""
    spots = pd.read_csv(folder / f"spots/{name}_selection.tsv", sep="\t")
    counts = pd.read_csv(folder / f"counts/{name}.tsv.gz", sep="\t", index_col=0)
    regions = pd.read_csv(folder / "regions.tsv", sep="\t")
    region = regions[regions["section"] == name].set_index("spot")["region"]
    ids = spots["x"].astype(str) + "x" + spots["y"].astype(str)
    chosen = ids.isin(counts.index).to_numpy()
    spots, ids = spots[chosen].reset_index(drop=True), ids[chosen].reset_index(drop=True)
    table = pd.DataFrame({"region": region.reindex(ids).to_numpy(), "n_counts": counts.loc[ids].sum(1).to_numpy()})
    section = SpotTable(table, sparse.csr_matrix(counts.loc[ids].to_numpy(np.float32)), tuple(counts), 200.0, 100.0)
    Image.MAX_IMAGE_PIXELS, limit = None, Image.MAX_IMAGE_PIXELS
    try:
        with Image.open(folder / f"images/{name}.jpg") as image:
            image.draft("RGB", (image.width // 8, image.height // 8))
            scale = image.width / 9270 if image.width < 5000 else 1.0
            pixels = np.asarray(image, float)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    half = max(2, round(80 * scale))
    places = (spots[["pixel_y", "pixel_x"]].to_numpy() * scale).astype(int)
    colour = [pixels[y - half : y + half, x - half : x + half].reshape(-1, 3).mean(0) for y, x in places]
    colours = pd.DataFrame(colour, columns=["red", "green", "blue"])
    return section, pd.concat([colours, spots[["x", "y"]]], axis=1)


@pytest.mark.data
def test_epithelial_genes_and_colours_know_the_invasive_regions(shared_data: Path) -> None:
    folder = shared_data / "her2st"
    if not folder.exists():
        pytest.skip(f"no {folder}")
    sections = []
    for name in SECTIONS:
        section, colours = read_section(folder, name)
        measured = measure_spots(section, Terms.read(), GeneGroups((), ()))
        grid = SpotGrid.of(colours["x"].to_numpy(float), colours["y"].to_numpy(float))
        sections.append(SpotSection(name, "C", grid, pd.concat([measured, colours[["red"]]], axis=1)))
    comparer = SpotComparer(sections, Settings(resamples=200))
    red, epcam = comparer.table(
        [Comparison("red", TUMOR_REGIONS, "auc"), Comparison("signature.tumor", TUMOR_REGIONS, "auc")]
    )
    assert comparer.draws == 999
    assert red.value < 0.35, "invasive tissue is darker"
    assert red.shown
    assert 0.6 < epcam.value < 0.8
    assert epcam.p < 0.1, "cuts of one block are one pattern"
