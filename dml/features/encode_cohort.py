"""Encode the tiles of a cohort into the feature store: finished slides are reused, every slide gets a status."""

import logging
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from dml.config.params import Embed, Tiles
from dml.core.cache import cache_dir, hardlink
from dml.core.errors import InputError
from dml.core.files import inside
from dml.core.progress import Advance, progress
from dml.data.feature_store import bag_path, write_bag
from dml.encoders.card import TileEncoder
from dml.encoders.registry import get
from dml.features.encode_tiles import EncodingJob, EncodingResult, encode_tiles
from dml.features.executors import Executor, LocalExecutor, ParallelTask
from dml.features.fingerprint import encoding_key
from dml.features.load_encoder import load_encoder
from dml.features.manifest import manifest_row, write_manifest
from dml.features.tile_cohort import check_failed
from dml.slides.grid_store import read_grid

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EncodingUnit:
    """One slide at one resolution: where its tiles are, and where its finished features are or will be."""

    slide_id: str
    patient_id: str | None
    path: Path
    mpp: float
    grid: Path
    tiles: int
    key: str
    finished: Path
    stain_grid: Path | None = None

    def job(self) -> EncodingJob:
        """Read the tiles."""
        stain_grid = None if self.stain_grid is None else read_grid(self.stain_grid)[0]
        return EncodingJob(self.slide_id, self.path, read_grid(self.grid)[0], stain_grid)


SlideUnits = tuple[EncodingUnit, ...]
"""One slide at the resolutions that are still to be encoded."""


def encode_cohort(
    slides: pd.DataFrame,
    tiles_folder: Path,
    out: Path,
    tiles: Tiles,
    embed: Embed,
    work: Path | None = None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Encode all slides that were tiled.

    Parameters
    ----------
    slides : DataFrame
        As `tile_cohort` returns: slide_id, patient_id, path, fingerprint, status, reason.
    tiles_folder : Path
        ``data/<cohort>/tiles``.
    out : Path
        ``data/<cohort>/features``: <encoder>/<mpp>/<slide_id>.parquet and manifest.parquet.
    tiles : config.Tiles
        Resolutions, and the share of slides that may fail.
    embed : config.Embed
        Encoder, workers, batch size, precision, device, stain normalisation.
    work : Path, optional
        Where finished slides are kept for the next run; default .work.
    executor : Executor, optional
        What runs it; default threads of this process.

    Returns
    -------
    DataFrame
        The manifest: one row a slide and resolution. A slide that failed at one resolution failed at all.

    Raises
    ------
    CheckFailed
        If more than `tiles.max_failed` of the slides failed, counting those that could not be cut.
    """
    executor = executor or LocalExecutor()
    card = get(embed.encoder)
    facts = {"encoder": card.name, "weights": card.weights_hash(), "precision": embed.precision}
    facts["device"] = executor.device(embed.device).split(":")[0]
    if (runtime := card.runtime(embed.runtime, facts["device"], embed.precision)) != "torch":
        facts["runtime"] = runtime
    if embed.stain_normalisation:
        facts["stain_normalisation"] = embed.stain_normalisation
    rows: list[dict[str, Any]] = [{str(key): value for key, value in row.items()} for row in slides.to_dict("records")]
    cut = [row for row in rows if row["status"] == "ok"]
    units = [_make_unit(row, mpp, min(tiles.mpps), tiles_folder, facts, work) for row in cut for mpp in tiles.mpps]
    reasons = {row["slide_id"]: row["reason"] for row in rows if row["status"] != "ok"}
    reasons |= _encode_missing(units, embed, facts, executor)
    for unit in units:
        if unit.slide_id not in reasons:
            hardlink(unit.finished, bag_path(out, card.name, unit.mpp, unit.slide_id))
    described = _manifest_rows(slides, {(unit.slide_id, unit.mpp): unit for unit in units}, tiles, reasons)
    manifest = write_manifest(out / "manifest.parquet", described)
    check_failed(manifest, tiles.max_failed, out / "manifest.parquet", "tiles.max_failed")
    return manifest


def _make_unit(
    row: dict[str, Any], mpp: float, finest: float, tiles_folder: Path, facts: dict[str, Any], work: Path | None
) -> EncodingUnit:
    slide_id, patient_id = row["slide_id"], row["patient_id"]
    grid_path, finest_path = (inside(tiles_folder, f"{each:g}", f"{slide_id}.parquet") for each in (mpp, finest))
    grid, _ = read_grid(grid_path)
    stain_path = finest_path if "stain_normalisation" in facts else None
    stain_grid = None if stain_path is None else read_grid(stain_path)[0]
    key = encoding_key(row["fingerprint"], grid, stain_grid, **facts)
    # the file names its slide and patient, so a renamed slide is written anew
    finished = inside(cache_dir("features", key, work), f"{slide_id}@{patient_id or ''}.parquet")
    return EncodingUnit(
        slide_id, patient_id, Path(row["path"]), float(mpp), grid_path, len(grid.coords_px), key, finished, stain_path
    )


def _encode_missing(
    units: list[EncodingUnit], embed: Embed, facts: dict[str, Any], executor: Executor
) -> dict[str, str]:
    """Encode what no earlier run has finished; return why slides failed."""
    missing = [unit for unit in units if not unit.finished.exists()]
    total, left = sum(unit.tiles for unit in units), sum(unit.tiles for unit in missing)
    if not missing:
        return {}
    logger.info("%s: %d tiles, %d already embedded", facts["encoder"], total, total - left)
    slides = [tuple(group) for _, group in groupby(missing, key=lambda unit: unit.slide_id)]
    run = partial(_encode_all, batch=embed.batch_size, facts=facts)
    gpu = facts["device"] == "cuda"
    task = ParallelTask(run, lambda slide: sum(unit.tiles for unit in slide), lambda _, why: why, embed.workers, gpu)
    try:
        with progress("embedding", total, "tiles", done=total - left) as advance:
            reasons = executor.map(task, slides, advance)
    finally:
        _load_encoder.cache_clear()
    return {slide[0].slide_id: why for slide, why in zip(slides, reasons, strict=True) if why is not None}


def _encode_all(
    slides: Sequence[SlideUnits], threads: int, advance: Advance, *, batch: int, facts: dict[str, Any]
) -> list[str | None]:
    """Encode some slides into the cache; return why each failed, None where it did not."""
    named = [facts[name] for name in ("encoder", "weights", "device", "precision")]
    encoder = _load_encoder(*named, facts.get("runtime", "torch"))
    # a process of Ray that died may have finished one of two resolutions
    left = (unit for slide in slides for unit in slide if not unit.finished.exists())
    units = {(unit.slide_id, unit.mpp): unit for unit in left}
    reasons: dict[str, str] = {}
    jobs: Iterator[EncodingJob] = (unit.job() for unit in units.values() if unit.slide_id not in reasons)
    for result in encode_tiles(jobs, encoder, threads, batch, advance):
        try:
            _save(result, units[result.job.slide_id, float(result.job.grid.mpp)], facts)
        except InputError as error:
            logger.warning("slide %s failed: %s", result.job.slide_id, error)
            reasons[result.job.slide_id] = f"{error.problem}. {error.remedy}"
    return [reasons.get(slide[0].slide_id) for slide in slides]


@lru_cache(maxsize=1)
def _load_encoder(name: str, weights: str, device: str, precision: str, runtime: str) -> TileEncoder:
    """Load the encoder, once for all slides that a process works on; another machine must have the same weights."""
    card = get(name)
    if card.weights_hash() != weights:
        problem = f"{platform.node()} has other weights than the machine that started the run"
        raise InputError(f"encoder {name}", problem, "Install the same ones on all machines")
    return load_encoder(card, device, precision, runtime)


def _save(result: EncodingResult, unit: EncodingUnit, facts: dict[str, Any]) -> None:
    if result.tokens is None:
        raise result.error or InputError(unit.path, "no features", "Look at the log")
    grid = result.job.grid
    facts_stored = {"encoder", "weights", "precision", "stain_normalisation"}
    about = {name: fact for name, fact in facts.items() if name in facts_stored}
    identity = {"slide_id": unit.slide_id, "patient_id": unit.patient_id, "fingerprint": unit.key}
    scale = {"mpp": float(grid.mpp), "tile_um": float(grid.tile_um), "slide_mpp": float(grid.slide_mpp)}
    write_bag(unit.finished, result.tokens, grid.coords_um, {**about, **identity, **scale})


def _manifest_rows(
    slides: pd.DataFrame, units: dict[tuple[str, float], EncodingUnit], tiles: Tiles, reasons: dict[str, str]
) -> list[dict[str, Any]]:
    rows = []
    for slide_id, patient_id in zip(slides["slide_id"], slides["patient_id"], strict=True):
        for mpp in tiles.mpps:
            unit = units.get((slide_id, float(mpp)))
            count, key = (0, "") if unit is None else (unit.tiles, unit.key)
            rows.append(manifest_row(slide_id, patient_id, mpp, count, reasons.get(slide_id), key))
    return rows
