"""Turn the tiles of many slides into tokens: workers read and encode small batches, results come back slide by slide.

A batch is some tiles of one slide at one resolution, always the same ones, so neither the number of workers nor the
order of their work can change a bit of the result.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dml.core.device import torch_threads
from dml.core.errors import InputError, refuse_unreadable
from dml.core.types import Mpp, TileGrid
from dml.encoders.card import TileEncoder
from dml.slides.grid import corners_px
from dml.slides.reader import Slide, open_slide
from dml.slides.stain import DensityMap, read_stains

logger = logging.getLogger(__name__)

TokenBatch = Future[NDArray[np.float16]]
Normalisation = Future[DensityMap | None]


@dataclass(frozen=True, slots=True)
class EncodingJob:
    """The tiles of one slide at one resolution; the grid holds the resolution that the slide was tiled with.

    From the tiles of `stain_grid` the slide's stains are estimated; without it tiles are encoded as they are.
    """

    slide_id: str
    path: Path
    grid: TileGrid
    stain_grid: TileGrid | None = None


@dataclass(frozen=True, slots=True)
class EncodingResult:
    """What became of a job: float16 tokens [n d], or the error that ended it."""

    job: EncodingJob
    tokens: NDArray[np.float16] | None
    error: InputError | None = None


class SlideHandles:
    """One open slide per worker: handles are never shared, and stay open while a worker remains at a slide."""

    def __init__(self) -> None:
        self._open: dict[int, Slide] = {}
        self._lock = threading.Lock()

    def get(self, path: Path, mpp: Mpp) -> Slide:
        """Return this worker's handle of a slide of known resolution, opening it if its last one was another."""
        worker = threading.get_ident()
        slide = self._open.get(worker)
        if slide is None or slide.path != path:
            if slide is not None:
                slide.close()
                del self._open[worker]
            slide = open_slide(path, mpp, "slide_list", upsample=True)  # tiling has decided that
            with self._lock:
                self._open[worker] = slide
        return slide

    def close(self) -> None:
        """Close all; call when the workers are done."""
        while self._open:
            self._open.popitem()[1].close()


class StainEstimates:
    """The stain normalisation of the last slide asked for: estimated once for all its resolutions, in a worker."""

    def __init__(self, pool: ThreadPoolExecutor, handles: SlideHandles) -> None:
        self._pool, self._handles = pool, handles
        self._slide: tuple[str, Path] | None = None
        self._last: Normalisation | None = None

    def get(self, job: EncodingJob) -> Normalisation | None:
        """Return what a job's tiles are mapped by; the pool begins with it before the batches that wait for it."""
        if job.stain_grid is None:
            return None
        if self._slide != (job.slide_id, job.path):
            self._slide = job.slide_id, job.path
            self._last = self._pool.submit(self._estimate, job, job.stain_grid)
        return self._last

    def _estimate(self, job: EncodingJob, grid: TileGrid) -> DensityMap | None:
        with refuse_unreadable(job.path):
            stains = read_stains(self._handles.get(job.path, grid.slide_mpp), grid)
        if stains is None:
            logger.warning(
                "slide %s: no two stains found in its tissue, encoded without stain normalisation", job.slide_id
            )
            return None
        return stains.to_reference()


def encode_tiles(
    jobs: Iterable[EncodingJob],
    encoder: TileEncoder,
    workers: int,
    batch: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[EncodingResult]:
    """Encode jobs; results come in their order, as soon as each is complete.

    Parameters
    ----------
    jobs : iterable of EncodingJob
        Consumed as workers become free.
    encoder : TileEncoder
        Called from `workers` threads, each on one core.
    workers : int
        Threads. Each reads and encodes, so that reading overlaps with encoding and all cores are busy.
    batch : int
        Tiles read and encoded at a time.
    advance : callable
        Called with the number of tiles just finished.

    Yields
    ------
    EncodingResult
        One per job; a slide that cannot be read gives an error and the rest goes on.
    """
    handles = SlideHandles()
    waiting: deque[tuple[EncodingJob, list[TokenBatch]]] = deque()

    def encode_batch(job: EncodingJob, start: int, normalisation: Normalisation | None) -> NDArray[np.float16]:
        normalise = None if normalisation is None else normalisation.result()
        corners = corners_px(job.grid)[start : start + batch]
        with refuse_unreadable(job.path):
            slide = handles.get(job.path, job.grid.slide_mpp)
            tiles = np.stack([slide.read_tile(x, y, job.grid.tile_px, job.grid.mpp) for x, y in corners])
        return encoder(tiles if normalise is None else normalise(tiles))

    with torch_threads(1), ThreadPoolExecutor(workers) as pool:
        estimates = StainEstimates(pool, handles)
        try:
            for job in jobs:
                starts = range(0, len(job.grid.coords_px), batch)
                normalisation = estimates.get(job)
                waiting.append((job, [pool.submit(encode_batch, job, start, normalisation) for start in starts]))
                while len(waiting) > 1 and (waiting[0][1][-1].done() or _count_pending(waiting) > 4 * workers):
                    yield _collect(*waiting.popleft(), advance)
            while waiting:
                yield _collect(*waiting.popleft(), advance)
        finally:
            pool.shutdown(cancel_futures=True)
            handles.close()


def _count_pending(waiting: Iterable[tuple[EncodingJob, list[TokenBatch]]]) -> int:
    return sum(not batch.done() for _, batches in waiting for batch in batches)


def _collect(job: EncodingJob, batches: list[TokenBatch], advance: Callable[[int], None]) -> EncodingResult:
    tokens = []
    try:
        for batch in batches:
            tokens.append(batch.result())
            advance(len(tokens[-1]))
    except InputError as error:
        for batch in batches:
            batch.cancel()
        return EncodingResult(job, None, error)
    return EncodingResult(job, np.concatenate(tokens))
