"""Tile the slides of a cohort; every slide gets a status, and a bad one never stops the rest."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dml.config.params import Tiles
from dml.core.cache import cache_dir, hardlink
from dml.core.errors import CheckFailed, InputError, listed
from dml.core.files import inside, read_json, write_json, write_parquet
from dml.core.progress import Advance, progress
from dml.features.executors import Executor, LocalExecutor, ParallelTask
from dml.features.fingerprint import tiling_key
from dml.slides.grid_store import write_grid
from dml.slides.reader import open_slide
from dml.slides.slide_fingerprint import slide_fingerprint
from dml.slides.tile_slide import SlideOptions, tile_file

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
        ("left_out", pa.float64()),
        ("tiles", pa.int64()),
        ("fingerprint", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("notes", pa.string()),
    ]
)
"""Of data/<cohort>/tiles/slides.parquet: mpp of level 0, tissue as share of the slide, left_out of its stained area."""


def tile_cohort(
    slides: pd.DataFrame, out: Path, tiles: Tiles, work: Path | None = None, executor: Executor | None = None
) -> pd.DataFrame:
    """Cut all slides of a cohort.

    Parameters
    ----------
    slides : DataFrame
        slide_id, patient_id, path (None: features are imported, the slide is left out), mpp (None or NaN: not stated);
        mpp_from, fields_px and upsample, if the cohort has them.
    out : Path
        ``data/<cohort>/tiles``: <mpp>/<slide_id>.parquet, thumbnails/<slide_id>.jpg, slides.parquet.
    tiles : config.Tiles
        How to cut; `workers` slides at a time.
    work : Path, optional
        Where finished slides are kept for the next run; default .work.
    executor : Executor, optional
        What runs it; default threads of this process.

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
    executor = executor or LocalExecutor()
    run = partial(_tile_all, out=out, tiles=tiles, work=work)
    with progress("tiling", len(rows), "slides") as advance:
        done = executor.map(ParallelTask(run, _one, _fail, tiles.workers), rows, advance)
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


def _tile_all(
    rows: Sequence[dict[str, Any]], threads: int, advance: Advance, *, out: Path, tiles: Tiles, work: Path | None
) -> list[dict[str, Any]]:
    results = []
    with ThreadPoolExecutor(threads) as pool:
        for result in pool.map(lambda row: _tile_one(row, out, tiles, work), rows):
            results.append(result)
            advance(1)
    return results


def _one(row: dict[str, Any]) -> int:
    return 1


def _fail(row: dict[str, Any], reason: str) -> dict[str, Any]:
    return {**_identity(row), "status": "failed", "reason": reason}


def _identity(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("slide_id", "patient_id", "path")}


def _tile_one(row: dict[str, Any], out: Path, tiles: Tiles, work: Path | None) -> dict[str, Any]:
    try:
        facts = _tile_or_reuse(row, out, tiles, work)
    except InputError as error:
        logger.warning("slide %s failed: %s", row["slide_id"], error)
        return _fail(row, f"{error.problem}. {error.remedy}")
    if facts["notes"]:
        logger.warning("slide %s: %s", row["slide_id"], facts["notes"])
    return {**_identity(row), **facts, "status": "ok", "reason": None}


def _tile_or_reuse(row: dict[str, Any], out: Path, tiles: Tiles, work: Path | None) -> dict[str, Any]:
    """Tile a slide, or reuse what an earlier run has tiled, and link the results into `out`."""
    path, slide_id, options = Path(row["path"]), row["slide_id"], SlideOptions.of_row(row)
    if not path.is_file():
        open_slide(path)
    fingerprint = slide_fingerprint(path)
    folder = inside(cache_dir("tiles", tiling_key(fingerprint, tiles, options.stated), work), slide_id)
    done = folder / "done.json"
    if not done.exists():
        result = tile_file(path, tiles, options, folder / "overview.jpg")
        for mpp, grid in result.grids.items():
            write_grid(folder / f"{mpp:g}.parquet", grid, slide_id=slide_id, fingerprint=fingerprint)
        write_json(done, {**result.facts, "fingerprint": fingerprint})
    for source, target in _links(folder, out, tiles, slide_id):
        hardlink(source, target)
    facts: dict[str, Any] = read_json(done)
    return facts


def _links(folder: Path, out: Path, tiles: Tiles, slide_id: str) -> Iterator[tuple[Path, Path]]:
    for mpp in tiles.mpps:
        yield folder / f"{mpp:g}.parquet", inside(out, f"{mpp:g}", f"{slide_id}.parquet")
    yield folder / "overview.jpg", inside(out, "thumbnails", f"{slide_id}.jpg")
