"""A painted spatial cohort with planted maps: sections of spots, regions as units, and a student trained on them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import gaussian_filter, map_coordinates

from dml.cohorts.spot_store import SpotTable, write_spots
from dml.cohorts.store_files import ExpressionMatrix, write_expression
from dml.config import params as config
from dml.core.files import write_json, write_parquet
from dml.data.cohort_store import CohortStore
from dml.data.feature_store import write_bag
from dml.features.manifest import manifest_row, write_manifest
from dml.training.checkpoint import FoldModel
from dml.training.folds import make_fold
from dml.training.model_store import ModelStore
from dml.training.train import distill_student, train_teacher
from tests.painted import GLASS, write_slide

COHORT, TASK, ENCODER = "sections", "burden", "planted"
SECTIONS, SIDE, SPACING_UM, DIAMETER_UM, SLIDE_MPP = ("S1", "S2", "S3"), 14, 200.0, 100.0, 2.0
TILE_UM = {0.5: 100.0, 1.0: 200.0}
BLOCK_UM = 700.0
TUMOR_GENES, TME_GENES = ("EPCAM", "KRT8", "KRT18", "ERBB2"), ("COL1A1", "COL3A1", "DCN", "PTPRC", "CD3E", "CD68")
OTHERS = tuple(f"G{i}" for i in range(20))
GENES = (*TUMOR_GENES, *TME_GENES, *OTHERS)
Array = NDArray[np.float64]
PARAMS = config.Params.model_validate(
    {
        "cohort": COHORT,
        "tasks": [TASK],
        "folds": [0, 1, 2],
        "tiles": {"mpps": sorted(TILE_UM)},
        "embed": {"encoder": ENCODER},
        "model": {"width": 16, "heads": 2, "n_queries": 4, "gene_width": 8, "linear_offset": {"components": 0}},
        "optimisation": {"epochs": 30, "batch_size": 8, "learning_rate": 3e-3, "device": "cpu", "ensemble_size": 1},
    }
)


@dataclass(frozen=True)
class Fields:
    """Tumor and microenvironment of one section as smooth functions of a position in microns, of variance one."""

    tumor: Array
    tme: Array

    @classmethod
    def draw(cls, seed: int) -> "Fields":
        random = np.random.default_rng(seed)
        smooth = [gaussian_filter(random.normal(size=(64, 64)), 6, mode="wrap") for _ in range(2)]
        return cls(*((field - field.mean()) / field.std() for field in smooth))

    def at(self, positions_um: Array) -> Array:
        """Tumor and microenvironment [n 2] at positions [n 2]."""
        grid = positions_um[:, ::-1].T / (SIDE * SPACING_UM) * 63
        return np.column_stack(
            [map_coordinates(field, grid, order=1, mode="nearest") for field in (self.tumor, self.tme)]
        )


def write_cohort(
    root: Path, name: str = COHORT, sections: tuple[str, ...] = SECTIONS, block_um: float = BLOCK_UM, seed: int = 0
) -> CohortStore:
    """Write data/<name> with all stores under `root`; units are square regions of each section."""
    store = CohortStore.of(name, root / "data")
    units, slides, manifest, spots = [], [], [], []
    for number, section in enumerate(sections, start=seed):
        fields, random = Fields.draw(number), np.random.default_rng(100 + number)
        path = _paint(root / "slides" / f"{section}.tif", fields)
        spots.append(_spots(section, fields, random))
        for unit, grids in _regions(section, block_um).items():
            slides.append({"slide_id": unit, "patient_id": unit, "path": str(path), "mpp": np.nan})
            for mpp, positions in grids.items():
                tokens = np.column_stack([fields.at(positions), random.normal(size=(len(positions), 4))])
                meta = {"encoder": ENCODER, "mpp": mpp, "tile_um": TILE_UM[mpp], "slide_id": unit, "patient_id": unit}
                write_bag(store.bag_path(ENCODER, mpp, unit), tokens, positions, meta)
                manifest.append(manifest_row(unit, unit, mpp, len(positions)))
            tumor, tme = fields.at(grids[0.5]).mean(0)
            units.append((unit, section, tumor, tme))
    write_manifest(store.manifest_path, manifest)
    write_parquet(store.slides_path, pa.Table.from_pandas(pd.DataFrame(slides), preserve_index=False))
    write_spots(store.folder, _stack(spots))
    _write_units(store, pd.DataFrame(units, columns=["unit", "section", "tumor", "tme"]))
    return store


def _regions(section: str, block_um: float) -> dict[str, dict[float, Array]]:
    """Tile centres of each region by magnification."""
    regions: dict[str, dict[float, Array]] = {}
    for mpp, side in TILE_UM.items():
        axis = np.arange(side / 2, SIDE * SPACING_UM, side)
        centres = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        for block in np.unique(centres // block_um, axis=0):
            name = f"{section}-r{int(block[0])}{int(block[1])}"
            regions.setdefault(name, {})[mpp] = centres[(centres // block_um == block).all(1)]
    return regions


def _paint(path: Path, fields: Fields) -> Path:
    pixels = round(SIDE * SPACING_UM / SLIDE_MPP)
    y, x = np.mgrid[:pixels:4, :pixels:4]
    tumor, tme = fields.at(np.column_stack([x.ravel(), y.ravel()]) * SLIDE_MPP).T.reshape(2, *x.shape)
    shade = np.stack([225 - 30 * np.clip(tumor, -1, 2), 150 + 25 * np.clip(tme, -1, 2), np.full(x.shape, 205.0)], -1)
    image = np.clip(shade, 0, 255).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    image[:20], image[-20:] = GLASS, GLASS
    return write_slide(path, image, SLIDE_MPP, levels=2)


def _spots(section: str, fields: Fields, random: np.random.Generator) -> SpotTable:
    y, x = (each.ravel() for each in np.mgrid[:SIDE, :SIDE])
    inside = np.hypot(x - SIDE / 2 + 0.5, y - SIDE / 2 + 0.5) < SIDE * 0.55
    positions = (np.column_stack([x, y])[inside] + 0.5) * SPACING_UM
    tumor, tme = fields.at(positions).T
    rates = np.concatenate([np.exp(tumor)[:, None].repeat(len(TUMOR_GENES), 1), np.exp(tme)[:, None].repeat(6, 1),
                            np.full((len(tumor), len(OTHERS)), 3.0)], axis=1)  # fmt: skip
    counts = random.poisson(5 * rates).astype(np.float32)
    region = np.where(tumor > 0.3, "invasive cancer", np.where(tme > 0, "connective tissue", "adipose tissue"))
    region[:3] = "undetermined"
    share = 1 / (1 + np.exp(-tme))
    spots = pd.DataFrame(
        {
            "section_id": section,
            "patient_id": section,
            "spot_id": [f"{a}x{b}" for a, b in np.column_stack([x, y])[inside]],
            "array_x": x[inside].astype(float),
            "array_y": y[inside].astype(float),
            "x_px": positions[:, 0] / SLIDE_MPP,
            "y_px": positions[:, 1] / SLIDE_MPP,
            "on_tissue": True,
            "n_counts": counts.sum(1).astype(float),
            "n_genes": (counts > 0).sum(1).astype(np.int64),
            "region": region,
            "proportion.T-cells": 0.4 * share,
            "proportion.CAFs": 0.5 * share,
            "proportion.Epithelial": 1 - 0.9 * share,
        }
    )
    return SpotTable(spots, sparse.csr_matrix(counts), GENES, SPACING_UM, DIAMETER_UM)


def _stack(parts: list[SpotTable]) -> SpotTable:
    spots = pd.concat([part.spots for part in parts], ignore_index=True)
    order = np.argsort(GENES)
    counts = sparse.vstack([part.counts for part in parts], format="csr")[:, order]
    return SpotTable(spots, counts, tuple(np.array(GENES)[order]), SPACING_UM, DIAMETER_UM)


def _write_units(store: CohortStore, units: pd.DataFrame) -> None:
    order, random = units.sort_values("unit", ignore_index=True), np.random.default_rng(5)
    label = np.where(order["tumor"] - order["tme"] > 0, "high", "low")
    patients = pd.DataFrame(
        {
            "patient_id": order["unit"],
            "site": "a",
            "survival_days": np.nan,
            "event": pd.Series([None] * len(order), dtype=object),
            TASK: label,
            "group": order["section"],
        }
    )
    metadata = {"classes": {TASK: ["low", "high"]}, "cohort": store.folder.name}
    write_parquet(store.patients_path, pa.Table.from_pandas(patients, preserve_index=False), metadata)
    means = np.concatenate([order[["tumor"]].to_numpy().repeat(len(TUMOR_GENES), 1),
                            order[["tme"]].to_numpy().repeat(len(TME_GENES), 1)], axis=1)  # fmt: skip
    names = [*TUMOR_GENES, *TME_GENES]
    columns = np.argsort(names)
    values = (5 + means + 0.2 * random.normal(size=means.shape))[:, columns].astype(np.float32)
    genes = tuple(np.array(names)[columns])
    write_expression(
        store.expression_path, ExpressionMatrix(tuple(order["unit"]), genes, values, "log2_tpm", "painted")
    )
    write_json(store.gene_groups_path, {"tumor": list(TUMOR_GENES), "tme": list(TME_GENES), "provenance": "planted"})
    write_parquet(store.splits_path, pa.Table.from_pandas(_splits(order), preserve_index=False))


def _splits(units: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for fold, section in enumerate(SECTIONS):
        held_out = SECTIONS[(fold + 1) % len(SECTIONS)]
        for unit, of in zip(units["unit"], units["section"], strict=True):
            role = "test" if of == section else "validation" if of == held_out else "train"
            rows.append((unit, fold, role, {"test": -1, "validation": 0, "train": 1}[role], "all"))
    return pd.DataFrame(rows, columns=["patient_id", "fold", "role", "inner_fold", "stratum"])


def train_folds(store: CohortStore, models: ModelStore, folds: tuple[int, ...] = (0, 1, 2)) -> list[FoldModel]:
    """Train teacher and student of some folds and save the students, and the teachers beside them."""
    cohort, splits, students = store.cohort(ENCODER, PARAMS.tiles.mpps), store.splits(), []
    for number in folds:
        fold = make_fold(cohort, splits, number)
        teacher = train_teacher(fold, PARAMS, TASK).model
        teacher.save(models.fold_folder("teacher", number))
        students.append(distill_student(fold, PARAMS, TASK, teacher).model)
        students[-1].save(models.fold_folder("student", number))
    return students
