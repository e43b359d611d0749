"""What is fuzzed: for each reader a valid small file, the ways to spoil it, and the call that reads it."""

import io
import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
import yaml
from hypothesis import strategies as st

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import build_expression
from dml.cohorts.provenance import read_provenance
from dml.cohorts.published_splits import load_published
from dml.cohorts.splits import make_splits, write_splits
from dml.cohorts.store_files import read_expression, read_gene_groups, read_patients, read_slides, read_splits
from dml.cohorts.stores import build_cohort, write_cohort
from dml.config import params as config
from dml.config.migrate import migrate
from dml.config.params import Split, Tiles, parse
from dml.core.predictions import read_predictions
from dml.core.types import Mpp, TileGrid
from dml.data.feature_store import read_features, write_bag
from dml.features.foreign_formats import FileLayout, read_features_file
from dml.features.manifest import read_manifest, write_manifest
from dml.readers.columns import Column
from dml.readers.gene_sets import read_gene_sets
from dml.readers.raw_files import GeneSets
from dml.readers.table_files import identifiers, numbers, read_table
from dml.slides.grid_store import read_grid, write_grid
from dml.slides.reader import open_slide
from dml.slides.tile_slide import tile_slide
from tests import portals
from tests.cohort_tables import GENES, content, plain
from tests.fuzz.mutations import (
    Draw,
    change_bytes,
    change_cells,
    change_hdf5,
    change_store,
    change_tree,
    pack,
    to_yaml,
    write_table,
)
from tests.fuzz.spatial_targets import spatial_anndata, spot_store, st_tsv, visium
from tests.painted import tissue_pixels, write_image, write_slide

ROOT = Path(__file__).resolve().parents[2]
Case = Callable[[Draw, Path], Callable[[], object]]
"""Writes spoiled files into an empty folder; returns the call that reads them."""
TIMES = pd.DataFrame({"patient": [f"P{i:02d}" for i in range(12)], "days": range(1, 13), "note": "some, text"})
TILES = Tiles(mpps=(0.5,), tile_px=64, workers=1)


def read_as_table(path: Path, numeric: bool) -> None:
    frame = read_table(path, numeric=numeric, text=["patient"])
    identifiers(frame, path, Column(column="patient", pattern="^(P.*)"))
    numbers(frame.get("days", pd.Series(dtype=object)).rename("days"), path)


def table(suffix: str, draw: Draw, folder: Path) -> Callable[[], object]:
    path, inner = folder / f"table{suffix}", draw(st.booleans())
    write_table(draw, change_cells(draw, TIMES) if draw(st.booleans()) else TIMES, path)
    if inner and path.suffix in (".gz", ".xz", ".bz2"):
        path.write_bytes(pack(change_bytes(draw, TIMES.to_csv(index=False).encode()), path.suffix))
    elif draw(st.booleans()):
        path.write_bytes(change_bytes(draw, path.read_bytes()))
    return partial(read_as_table, path, draw(st.booleans()))


def gene_sets(kind: str, draw: Draw, folder: Path) -> Callable[[], object]:
    path = folder / ("sets.xlsx" if kind == "estimate" else "sets.csv")
    sets = pd.DataFrame({"A": GENES[:12], "B": GENES[12:24]})
    rows = pd.DataFrame([["Set", "about", "genes", ""], ["A", "of a", "TP53", "EGFR"], ["B", "of b", "CD3E", "PTPRC"]])
    frames = {"long": sets.melt(var_name="group", value_name="gene"), "estimate": rows}
    if kind in ("gmt", "lines"):
        path.write_text("A\tof a\tTP53\tEGFR\nB\t\tCD3E\n" if kind == "gmt" else "TP53\nEGFR # a comment\n")
    else:
        frame = frames.get(kind, sets)
        write_table(draw, change_cells(draw, frame) if draw(st.booleans()) else frame, path)
    if kind in ("gmt", "lines") or draw(st.booleans()):
        path.write_bytes(change_bytes(draw, path.read_bytes()))
    select = ("A",) if draw(st.booleans()) and kind != "lines" else ()
    return partial(read_gene_sets, path, GeneSets(file=path.name, kind=kind, select=select))  # type: ignore[arg-type]


@cache
def portal_files(kind: str, work: Path) -> tuple[Path, dict[str, Any]]:
    """Write one small matrix as a portal does; return its folder and the `expression` that describes it."""
    folder = work / "portals" / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    patients = portals.tcga(6)
    truth = portals.expression_of(patients, ["TP53", "EGFR", "CD3E", "PTPRC", "HLA-DRA", "MARCHF1"])
    days, dead = pd.Series(range(1, 7), index=patients), pd.Series([True, False] * 3, index=patients)
    match kind:
        case "gdc":
            portals.write_gdc(folder, truth)
            sheet = "gdc_sample_sheet.2026-01-15.tsv"
            return folder, {"format": "gdc_star_counts", "folder": "gdc", "sample_sheet": sheet}
        case "cbioportal":
            portals.write_cbioportal(folder / "study", truth, days, dead)
            described = {"file": "study/data_mrna_seq_v2_rsem.txt", "samples": "study/data_clinical_sample.txt"}
            return folder, {"format": "cbioportal", "unit": "rsem", **described}
        case "xena":
            portals.write_xena(folder, truth, days, dead)
            return folder, {"format": "xena", "file": "TCGA-GBM.star_tpm.tsv.gz", "unit": "log2_tpm"}
        case "matrix":
            truth.rename_axis("patient").reset_index().to_csv(folder / "e.csv", index=False)
            described = {"file": "e.csv", "orientation": "patients_as_rows", "id": "patient", "unit": "tpm"}
            return folder, described
    with h5py.File(folder / "e.h5ad", "w") as file:
        file["X"] = truth.to_numpy()
        sparse = file.create_group("layers").create_group("counts")
        sparse.attrs.update({"encoding-type": "csr_matrix", "shape": truth.shape})
        sparse["data"], sparse["indices"] = truth.to_numpy().ravel(), np.tile(np.arange(6), 6)
        sparse["indptr"] = np.arange(7) * 6
        for side, names in (("obs", patients), ("var", list(truth.columns))):
            group = file.create_group(side)
            group.attrs["_index"] = "_index"
            group["_index"] = names
            column = group.create_group("name")
            column["categories"], column["codes"] = names, np.arange(6)
    return folder, {"format": "h5ad", "file": "e.h5ad", "unit": "tpm"}


def expression(kind: str, draw: Draw, folder: Path) -> Callable[[], object]:
    source, described = portal_files(kind, folder.parent)
    shutil.copytree(source, folder, dirs_exist_ok=True)
    used = [p for p in sorted(folder.rglob("*")) if p.is_file() and not {"MANIFEST.txt"} & {p.name}]
    path = draw(st.sampled_from([p for p in used if not p.name.startswith(("meta", "data_clinical_patient"))]))
    if kind == "h5ad":
        described = described | {"layer": draw(st.sampled_from(["X", "counts"]))}
        described |= draw(st.sampled_from([{}, {"id": "name", "gene": "name"}]))
        path.write_bytes((change_hdf5 if draw(st.booleans()) else change_bytes)(draw, path.read_bytes()))
    elif path.suffix not in (".gz",) and draw(st.booleans()):
        comment = "#" if path.read_text().startswith("#") else None
        frame = pd.read_csv(path, sep=None, engine="python", comment=comment, dtype=str, keep_default_na=False)
        separator = "," if path.suffix == ".csv" else "\t"
        path.write_text(change_cells(draw, frame).to_csv(index=False, sep=separator, errors="replace"))
    else:
        path.write_bytes(change_bytes(draw, path.read_bytes()))
    patients = [{"file": "p.csv", "id": "id"}]
    whole = {"name": "fuzzed", "raw": str(folder), "patients": patients, "expression": described}
    return partial(build_expression, parse(CohortDescription, whole, "fuzzed.yaml"))


def write_plain(folder: Path) -> dict[str, Any]:
    """Write the raw files of a small cohort; return its description."""
    (folder / "raw/slides").mkdir(parents=True)
    for name, frame in plain().items():
        frame.to_csv(folder / f"raw/{name}.csv", index=False)
    pd.DataFrame({"tumor": GENES[:15], "tme": GENES[12:27]}).to_csv(folder / "raw/sets.csv", index=False)
    return content(folder / "raw")


def cohort(draw: Draw, folder: Path) -> Callable[[], object]:
    description = parse(CohortDescription, write_plain(folder), "plain.yaml")
    path = folder / "raw" / draw(st.sampled_from(["patients.csv", "slides.csv", "expression.csv", "sets.csv"]))
    path.write_text(change_cells(draw, pd.read_csv(path, dtype=str)).to_csv(index=False, errors="replace"))
    return lambda: write_cohort(folder / "stores", description, build_cohort(description))


def published(draw: Draw, folder: Path) -> Callable[[], object]:
    patients = plain()["patients"].rename(columns={"patient": "patient_id", "hospital": "site", "dead": "event"})
    patients = patients.assign(survival_days=patients["months"] * 30)
    ids = list(patients["patient_id"])
    for k in range(2):
        parts = {"train": ids[:12], "val": ids[12 + 6 * k : 18 + 6 * k]}
        pd.DataFrame({name: pd.Series(part) for name, part in parts.items()}).to_csv(folder / f"splits_{k}.csv")
    path = folder / "splits_1.csv"
    if draw(st.booleans()):
        frame = change_cells(draw, pd.read_csv(path, dtype=str, index_col=0))
        path.write_text(frame.to_csv(errors="replace"))
    else:
        path.write_bytes(change_bytes(draw, path.read_bytes()))
    return partial(load_published, folder, patients, set(ids), Split(stratify=()), 0)


def description(draw: Draw, folder: Path) -> Callable[[], object]:
    examples = sorted((ROOT / "cohorts").glob("*.yaml"))
    source = draw(st.sampled_from(examples))
    return _yaml(draw, folder / source.name, source, lambda: CohortDescription.load(source.stem, folder))


def parameters(draw: Draw, folder: Path) -> Callable[[], object]:
    path = folder / "params.yaml"
    return _yaml(draw, path, ROOT / "params.yaml", lambda: config.load(path))


def old_parameters(draw: Draw, folder: Path) -> Callable[[], object]:
    path = folder / "params.yaml"
    return _yaml(draw, path, ROOT / "params.yaml", lambda: migrate(path))


def _yaml(draw: Draw, path: Path, source: Path, read: Callable[[], object]) -> Callable[[], object]:
    if draw(st.booleans()):
        path.write_bytes(to_yaml(change_tree(draw, yaml.safe_load(source.read_text()))))
    else:
        path.write_bytes(change_bytes(draw, source.read_bytes()))
    return read


TOKENS = np.random.default_rng(0).standard_normal((7, 16)).astype(np.float32)
COORDS = np.stack([np.arange(7) * 512, np.arange(7) * 1024], axis=1)


@cache
def feature_file(suffix: str) -> bytes:
    buffer = io.BytesIO()
    tensors = {"features": torch.from_numpy(TOKENS), "coords": torch.from_numpy(COORDS)}
    match suffix:
        case ".h5":
            with h5py.File(buffer, "w") as file:
                file["features"], file["coords"] = TOKENS, COORDS
                facts = {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40}
                file["coords"].attrs.update(facts)
                file.attrs["encoder"] = "uni"
        case ".pt":
            torch.save(tensors, buffer)
        case ".npy":
            np.save(buffer, TOKENS)
        case ".npz":
            np.savez(buffer, features=TOKENS, coords=COORDS)
        case ".safetensors":
            import safetensors.torch

            return bytes(safetensors.torch.save(tensors))
    return buffer.getvalue()


def features(suffix: str, draw: Draw, folder: Path) -> Callable[[], object]:
    path, spoiled = folder / f"slide{suffix}", feature_file(suffix)
    change = change_hdf5 if suffix == ".h5" and draw(st.booleans()) else change_bytes
    path.write_bytes(change(draw, spoiled))
    layout = FileLayout(um_per_px=draw(st.sampled_from([None, 0.25])), tile_um=128.0, encoder="uni", mpp=0.5)
    return partial(read_checked, path, layout)


def read_checked(path: Path, layout: FileLayout) -> None:
    """Read features; values that are not finite may not come out."""
    tokens, coords = read_features_file(path, layout)
    assert np.isfinite(tokens).all()
    assert coords is None or np.isfinite(coords).all()


SLIDES = ("plain.tif", "aperio.svs", "ome.ome.tif", "a.jpg", "a.png", "strips.tif")


@cache
def slide_file(name: str, work: Path) -> bytes:
    path, pixels = work / f"valid-{name}", tissue_pixels(256, 256, seed=3)
    if name == "ome.ome.tif":
        import tifffile

        size = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tifffile.imwrite(path, pixels, ome=True, photometric="rgb", tile=(128, 128), compression="zlib", metadata=size)
    elif name == "strips.tif":
        import tifffile

        tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=32, compression="zlib")
    elif not name.endswith((".tif", ".svs")):
        write_image(path, pixels)
    else:
        aperio = "Aperio painted|AppMag = 20|MPP = 0.5" if name.endswith("svs") else None
        write_slide(path, pixels, levels=2, description=aperio)
    return path.read_bytes()


def slide(name: str, draw: Draw, folder: Path) -> Callable[[], object]:
    path, spoiled = folder / name, slide_file(name, folder.parent)
    if draw(st.booleans()):
        spoiled = change_bytes(draw, spoiled)
    else:  # words of the description or of the OME-XML, of the same length
        words = [b"SizeX", b"SizeY", b'="256"', b'"0.5"', b"uint8", b"AppMag", b"0.5", b"<Pixels", b"XYCZT", b"UTF-8"]
        word = draw(st.sampled_from([w for w in words if w in spoiled] or [b"II"]))
        spoiled = spoiled.replace(word, draw(st.binary(min_size=len(word), max_size=len(word))))
    path.write_bytes(spoiled)
    return partial(read_slide, path, folder)


def read_slide(path: Path, folder: Path) -> None:
    with_slide = open_slide(path, 0.5)
    try:
        tiled = tile_slide(with_slide, TILES, folder / "overview.jpg")
        for grid in tiled.grids.values():
            for x, y in np.asarray(grid.coords_px)[:2]:
                with_slide.read_tile(float(x), float(y), grid.tile_px, float(grid.mpp))
    finally:
        with_slide.close()


@cache
def stores(work: Path) -> Path:
    """Write the stores of a small cohort."""
    folder = work / "stores"
    shutil.rmtree(folder, ignore_errors=True)
    described = parse(CohortDescription, write_plain(folder), "plain.yaml")
    write_cohort(folder, described, build_cohort(described))
    patients = read_patients(folder / "patients.parquet")
    eligible = set(patients["patient_id"])
    write_splits(folder / "splits.parquet", make_splits(patients, eligible, 3, Split(stratify=()), 0), {})
    tiles = np.arange(8, dtype=np.float64).reshape(4, 2)
    grid = TileGrid(tiles.astype(np.int64), tiles, np.ones(4), 64, Mpp(0.5), Mpp(0.5))
    write_grid(folder / "grid.parquet", grid, slide_id="S")
    meta = {"encoder": "e", "mpp": 0.5, "tile_um": 128.0, "slide_id": "S"}
    write_bag(folder / "bag.parquet", TOKENS, COORDS.astype(np.float32), meta)
    write_manifest(folder / "manifest.parquet", [{"slide_id": "S", "patient_id": "P00", "mpp": 0.5, "status": "ok"}])
    return folder


READERS: dict[str, Callable[[Path], object]] = {
    "patients.parquet": read_patients,
    "slides.parquet": read_slides,
    "expression.parquet": read_expression,
    "provenance.parquet": read_provenance,
    "gene_groups.json": read_gene_groups,
    "manifest.parquet": read_manifest,
    "bag.parquet": lambda path: read_features(path, "e", 16, finite=True),
    "splits.parquet": read_splits,
    "grid.parquet": read_grid,
    "predictions.parquet": read_predictions,
}


def store(draw: Draw, folder: Path) -> Callable[[], object]:
    name = draw(st.sampled_from(sorted(READERS)))
    whole = stores(folder.parent)
    source = whole / name if (whole / name).exists() else whole / "slides.parquet"  # else another kind of store
    path, content_ = folder / name, source.read_bytes()
    if name.endswith(".json"):
        changed = json.dumps(change_tree(draw, json.loads(content_))).encode()
        path.write_bytes(changed if draw(st.booleans()) else change_bytes(draw, content_))
    elif draw(st.booleans()):
        pq.write_table(change_store(draw, pq.read_table(source)), path)
    else:
        path.write_bytes(change_bytes(draw, content_))
    return partial(READERS[name], path)


GROUPS: dict[str, dict[str, Case]] = {
    "tables": {
        f"table{suffix}": partial(table, suffix)
        for suffix in (".csv", ".tsv", ".tsv.gz", ".csv.xz", ".csv.bz2", ".xlsx", ".parquet")
    },
    "gene sets and splits": {
        **{kind: partial(gene_sets, kind) for kind in ("columns", "long", "gmt", "lines", "estimate")},
        "published splits": published,
    },
    "expression": {kind: partial(expression, kind) for kind in ("matrix", "gdc", "cbioportal", "xena", "h5ad")},
    "descriptions": {"cohort": cohort, "yaml": description, "params": parameters, "migrate": old_parameters},
    "features": {s: partial(features, s) for s in (".h5", ".pt", ".npy", ".npz", ".safetensors")},
    "slides": {name: partial(slide, name) for name in SLIDES},
    "stores": {"store": store},
    "spatial": {"st_tsv": st_tsv, "visium": visium, "anndata": spatial_anndata, "spots": spot_store},
}
