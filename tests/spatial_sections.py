"""A painted section with spots on it, as files of each spatial format, to be broken by tests one piece at a time."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse

STEP_PX, SPACING_UM, DIAMETER_UM = 40, 200.0, 100.0
MPP = SPACING_UM / STEP_PX
WIDTH, HEIGHT = 760, 600
GENES = ("EPCAM", "CD3E", "COL1A1", *(f"GENE{i}" for i in range(40)))
GLASS, PALE, DENSE = (244, 243, 245), (226, 160, 200), (150, 90, 160)
MINIMAL: dict[str, Any] = {
    "name": "small",
    "slides": {"folder": {"folder": "images", "patient_id": "P1", "mpp": {"from": "spots"}}},
    "spatial": {
        "format": "st_tsv", "spots": "{slide}_spots.tsv", "counts": "{slide}_counts.tsv.gz",
        "spacing_um": SPACING_UM, "spot_diameter_um": DIAMETER_UM,
    },
}  # fmt: skip
"""The smallest description: a folder of images, a table of spots and one of counts."""


def _arms(x: Any, y: Any) -> tuple[Any, Any]:
    """An L that none of the symmetries of a square maps onto itself: a pale arm and a dense one."""
    return (x >= 120) & (x < 300) & (y >= 80) & (y < 520), (x >= 300) & (x < 560) & (y >= 360) & (y < 520)


@dataclass
class Section:
    """Spots (x, y, pixel_x, pixel_y), counts [n, g] and the picture of one section."""

    spots: pd.DataFrame
    counts: NDArray[np.int64]
    genes: tuple[str, ...] = GENES
    pixels: NDArray[np.uint8] = field(default_factory=lambda: paint())

    @property
    def ids(self) -> list[str]:
        return [f"{x}x{y}" for x, y in zip(self.spots["x"], self.spots["y"], strict=True)]


def paint(seed: int = 0) -> NDArray[np.uint8]:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.full((HEIGHT, WIDTH, 3), GLASS, np.int16)
    for arm, colour in zip(_arms(x, y), (PALE, DENSE), strict=True):
        pixels[arm] = colour
    pixels += np.random.default_rng(seed).integers(-6, 7, size=(HEIGHT, WIDTH, 1), dtype=np.int16)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def make_section(seed: int = 0, full: bool = False) -> Section:
    """Spots where the centre is tissue (`full`: everywhere); dense tissue has four times the counts."""
    rng = np.random.default_rng(seed)
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(1, 18), np.arange(1, 14)))
    spots = pd.DataFrame({"x": x, "y": y, "pixel_x": x * STEP_PX + 20.0, "pixel_y": y * STEP_PX + 10.0})
    pale, dense = _arms(spots["pixel_x"], spots["pixel_y"])
    spots = spots.assign(dense=dense)[(pale | dense) | full].reset_index(drop=True)
    rates = np.where(spots["dense"], 8.0, 2.0)[:, None] * rng.uniform(0.2, 2.0, len(GENES))
    return Section(spots.drop(columns="dense"), rng.poisson(rates), pixels=paint(seed))


def write_st(raw: Path, section: Section, slide: str = "A1") -> None:
    """As almaan/her2st has it: an image, a table of spots, a table of counts."""
    (raw / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray(section.pixels).save(raw / "images" / f"{slide}.jpg", quality=92)
    section.spots.assign(selected=1).to_csv(raw / f"{slide}_spots.tsv", sep="\t", index=False)
    counts = pd.DataFrame(section.counts, index=section.ids, columns=list(section.genes))
    counts.to_csv(raw / f"{slide}_counts.tsv.gz", sep="\t")


def write_visium(outs: Path, section: Section, header: bool = True, factors: bool = True) -> list[str]:
    """As Space Ranger has it: counts of features by barcodes in CSC, genes by id and name; return the barcodes."""
    (outs / "spatial").mkdir(parents=True)
    barcodes = [f"AACG{i:06d}-1" for i in range(len(section.spots))]
    names = [*section.genes, "CD8A"]
    counts = sparse.csr_matrix(np.column_stack([section.counts, np.full(len(section.counts), 9)]))
    with h5py.File(outs / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        for name, values in (("data", counts.data), ("indices", counts.indices), ("indptr", counts.indptr)):
            group[name] = values
        group["shape"] = np.array(counts.shape[::-1], np.int32)
        group["barcodes"] = np.array(barcodes, "S")
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(len(names))], "S")
        features["name"] = np.array(names, "S")
        features["feature_type"] = np.array(["Gene Expression"] * len(section.genes) + ["Antibody Capture"], "S")
    positions = pd.DataFrame(
        {
            "barcode": barcodes, "in_tissue": 1, "array_row": section.spots["y"], "array_col": section.spots["x"],
            "pxl_row_in_fullres": section.spots["pixel_y"], "pxl_col_in_fullres": section.spots["pixel_x"],
        }
    )  # fmt: skip
    off = positions.iloc[:1].assign(barcode="TTTT-1", in_tissue=0, array_row=0, array_col=0)
    name = "tissue_positions.csv" if header else "tissue_positions_list.csv"
    pd.concat([positions, off]).to_csv(outs / "spatial" / name, index=False, header=header)
    if factors:
        scales = {"tissue_hires_scalef": 0.5, "tissue_lowres_scalef": 0.1, "spot_diameter_fullres": 20.0}
        (outs / "spatial" / "scalefactors_json.json").write_text(json.dumps(scales))
    return barcodes
