"""Cut the slides of a cohort into tiles, each with its status; a bad one never stops the rest."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dml.config.params import Tiles
from dml.core.cache import link, work_folder
from dml.core.errors import CheckFailed, InputError, listed
from dml.core.files import read_json, write_json, write_parquet
from dml.core.progress import Advance, progress
from dml.core.types import Mpp, TileGrid
from dml.features.executors import Engine, Local, Task
from dml.features.fingerprint import slide_fingerprint, tiling_key
from dml.slides.grid import tile_grids
from dml.slides.grid_store import write_grid
from dml.slides.reader import Slide, open_slide
from dml.slides.thumbnails import save_overview
from dml.slides.tissue import mask_mpp, tissue_mask

logger = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        ("slide_id", pa.string()),
        ("patient_id", pa.string()),
        ("path", pa.string()),
        ("mpp", pa.float64()),
        ("mpp_source", pa.string()),
        ("magnification", pa.float64()),
        ("vendor", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("tissue", pa.float64()),
        ("tiles", pa.int64()),
        ("fingerprint", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("notes", pa.string()),
    ]
)
"""Of data/<cohort>/tiles/slides.parquet; mpp is as read from the file, tissue a share, tiles over all resolutions."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One slide cut into tiles."""

    grids: dict[Mpp, TileGrid]
    facts: dict[str, Any]


def cut(slide: Slide, tiles: Tiles, overview: Path | None = None) -> Cut:
    """Find the tissue of an open slide and lay the nested grids.

    Raises
    ------
    InputError
        If the slide is truncated, too coarse, or has no tissue.
    """
    slide.probe(min(tiles.mpps))
    mask = tissue_mask(slide.thumbnail(mask_mpp(slide)))
    grids = dict(tile_grids(slide, mask, tiles))
    if not mask.any():
        raise InputError(
            slide.path, "no tissue found (empty glass, or not a bright-field slide)", "Look at it, or leave it out"
        )
    if not all(len(grid.coords_px) for grid in grids.values()):
        found = f"no tile of {max(grids) * tiles.tile_px:g} microns is {tiles.min_tissue:.0%} tissue"
        raise InputError(slide.path, found, "Lower tiles.min_tissue, or leave the slide out")
    if overview is not None:
        save_overview(slide, mask, grids, overview)
    width, height = slide.dimensions
    facts = {
        "mpp": float(slide.mpp),
        "mpp_source": slide.resolution.source,
        "magnification": round(10.0 / slide.mpp, 4),
        "vendor": slide.vendor,
        "width": width,
        "height": height,
        "tissue": round(float(mask.mean()), 6),
        "tiles": sum(len(grid.coords_px) for grid in grids.values()),
        "notes": "; ".join(slide.resolution.notes),
    }
    return Cut(grids, facts)


def tile_slides(
    slides: pd.DataFrame, out: Path, tiles: Tiles, work: Path | None = None, engine: Engine | None = None
) -> pd.DataFrame:
    """Cut all slides of a cohort.

    Parameters
    ----------
    slides : DataFrame
        slide_id, patient_id, path (None: features are imported, the slide is left out), mpp (None or NaN: not stated).
    out : Path
        ``data/<cohort>/tiles``: <mpp>/<slide_id>.parquet, thumbnails/<slide_id>.jpg, slides.parquet.
    tiles : config.Tiles
        How to cut; `workers` slides at a time.
    work : Path, optional
        Where finished slides are kept for the next run; default .work.
    engine : Engine, optional
        What does it; default threads of this process.

    Returns
    -------
    DataFrame
        As slides.parquet: one row a slide, status ``ok`` or ``failed`` with its reason.

    Raises
    ------
    CheckFailed
        If more than `max_failed` of the slides failed; everything is written by then.
    """
    given = slides[slides["path"].notna()].to_dict("records")
    rows = [{str(name): value for name, value in row.items()} for row in given]
    chosen: Engine = engine or Local()
    run = partial(_all_tiled, out=out, tiles=tiles, work=work)
    with progress("tiling", len(rows), "slides") as advance:
        done = chosen.each(Task(run, _one, _lost, tiles.workers), rows, advance)
    table = pd.DataFrame(done, columns=SCHEMA.names)
    write_parquet(out / "slides.parquet", pa.Table.from_pandas(table, schema=SCHEMA, preserve_index=False))
    check_failed(table, tiles.max_failed, out / "slides.parquet", "tiles.max_failed")
    return table


def check_failed(table: pd.DataFrame, most: float, where: Path, parameter: str) -> None:
    """Fail if too many slides did.

    Raises
    ------
    CheckFailed
        With the first slides and their reasons.
    """
    failed = table[table["status"] != "ok"].drop_duplicates("slide_id")
    total = table["slide_id"].nunique()
    if len(failed) <= most * total:
        return
    reasons = [f"{row.slide_id}: {row.reason}" for row in failed.itertuples()]
    raise CheckFailed(
        f"{where}: {len(failed)} of {total} slides failed, {parameter} allows {most:.0%}:\n"
        f"{listed(reasons)}\nCorrect or leave out these slides, or raise {parameter}; finished slides are kept"
    )


def _all_tiled(
    rows: Sequence[dict[str, Any]], threads: int, advance: Advance, *, out: Path, tiles: Tiles, work: Path | None
) -> list[dict[str, Any]]:
    done = []
    with ThreadPoolExecutor(threads) as pool:
        for row in pool.map(lambda row: _tiled(row, out, tiles, work), rows):
            done.append(row)
            advance(1)
    return done


def _one(row: dict[str, Any]) -> int:
    return 1


def _lost(row: dict[str, Any], reason: str) -> dict[str, Any]:
    return {**_known(row), "status": "failed", "reason": reason}


def _known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("slide_id", "patient_id", "path")}


def _tiled(row: dict[str, Any], out: Path, tiles: Tiles, work: Path | None) -> dict[str, Any]:
    known = _known(row)
    stated = None if row.get("mpp") is None or pd.isna(row["mpp"]) else float(row["mpp"])
    try:
        facts = _finished(known, stated, out, tiles, work)
    except InputError as error:
        logger.warning("slide %s failed: %s", row["slide_id"], error)
        return {**known, "status": "failed", "reason": f"{error.found}. {error.remedy}"}
    if facts["notes"]:
        logger.warning("slide %s: %s", row["slide_id"], facts["notes"])
    return {**known, **facts, "status": "ok", "reason": None}


def _finished(
    known: dict[str, Any], stated: float | None, out: Path, tiles: Tiles, work: Path | None
) -> dict[str, Any]:
    """Cut a slide, or find it cut by an earlier run, and link the results into `out`."""
    path, slide_id = Path(known["path"]), known["slide_id"]
    if not path.is_file():
        open_slide(path)
    fingerprint = slide_fingerprint(path)
    folder = work_folder("tiles", tiling_key(fingerprint, tiles, stated), work) / slide_id
    done = folder / "done.json"
    if not done.exists():
        with open_slide(path, stated) as slide:
            result = cut(slide, tiles, folder / "overview.jpg")
        for mpp, grid in result.grids.items():
            write_grid(folder / f"{mpp:g}.parquet", grid, slide_id=slide_id, fingerprint=fingerprint)
        write_json(done, {**result.facts, "fingerprint": fingerprint})
    for source, target in _links(folder, out, tiles, slide_id):
        link(source, target)
    facts: dict[str, Any] = read_json(done)
    return facts


def _links(folder: Path, out: Path, tiles: Tiles, slide_id: str) -> Iterator[tuple[Path, Path]]:
    for mpp in tiles.mpps:
        yield folder / f"{mpp:g}.parquet", out / f"{mpp:g}" / f"{slide_id}.parquet"
    yield folder / "overview.jpg", out / "thumbnails" / f"{slide_id}.jpg"
