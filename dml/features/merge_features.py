"""Features of a cohort that combines others: those of its parts, linked, after a check that they are of one kind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from dml.cohorts.description import CohortDescription
from dml.config.params import Tiles
from dml.core.cache import hardlink
from dml.core.errors import InputError, listed
from dml.core.files import read_parquet
from dml.data.feature_store import IMPORTED, bag_path
from dml.features.manifest import read_manifest, write_manifest


def merge_features(description: CohortDescription, out: Path, tiles: Tiles, encoder: str) -> pd.DataFrame:
    """Link the features of the parts of a cohort.

    Parameters
    ----------
    description : CohortDescription
        Names the parts; their stores are in its raw folder.
    out : Path
        ``data/<cohort>/features``: <encoder>/<mpp>/<slide_id>.parquet and manifest.parquet.
    tiles : config.Tiles
        Which resolutions.
    encoder : str
        Whose features.

    Returns
    -------
    DataFrame
        The manifest: the rows of the parts, failed slides with their reasons.

    Raises
    ------
    InputError
        If a part has no features of this encoder at one of these resolutions, or the tiles, weights or stain
        normalisation of the parts differ.
    """
    rows: list[dict[str, Any]] = []
    kinds: dict[float, tuple[str, dict[str, Any]]] = {}
    for part in description.combines:
        folder = description.raw_folder / part / "features"
        for row in _rows(folder, part, tiles, encoder):
            rows.append(row)
            if row["status"] == "ok":
                path = bag_path(folder, encoder, row["mpp"], row["slide_id"])
                _check_alike(path, row["mpp"], part, kinds)
                hardlink(path, bag_path(out, encoder, row["mpp"], row["slide_id"]))
    return write_manifest(out / "manifest.parquet", rows)


def _rows(folder: Path, part: str, tiles: Tiles, encoder: str) -> Iterator[dict[str, Any]]:
    """Yield the part's rows of the manifest at the wanted resolutions."""
    manifest = read_manifest(folder / "manifest.parquet")
    present = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.is_dir())
    absent = [folder for folder in (f"{encoder}/{mpp:g}" for mpp in tiles.mpps) if folder not in present]
    if absent:
        problem = f"no features {listed(absent)} (encoder/microns per pixel), but {listed(present) or 'none at all'}"
        remedy = f"Make them (dml cohort use {part}, dvc repro split) and import again, or correct params.yaml"
        raise InputError(folder, problem, remedy)
    wanted = manifest[manifest["mpp"].isin([float(mpp) for mpp in tiles.mpps])]
    for row in wanted.to_dict("records"):
        yield {str(name): value for name, value in row.items()}


def _check_alike(path: Path, mpp: float, part: str, kinds: dict[float, tuple[str, dict[str, Any]]]) -> None:
    """Compare a file with the first one of its resolution."""
    meta = read_parquet(path, columns=[])[1]
    kind = {"tile_um": float(meta["tile_um"]), "width": meta["width"], "weights": meta.get("weights")}
    kind["stain_normalisation"] = meta.get("stain_normalisation")
    if kind["weights"] == IMPORTED:
        del kind["weights"], kind["stain_normalisation"]
    first, expected = kinds.setdefault(mpp, (part, kind))
    differ = [name for name in kind.keys() & expected.keys() if kind[name] != expected[name]]
    if differ:
        differences = ", ".join(f"{name} {kind[name]}, but {expected[name]} in {first}" for name in sorted(differ))
        raise InputError(
            path, f"features are of another kind: {differences}", "Make those of both parts alike, import again"
        )
    kinds[mpp] = (first, {**kind, **expected})
