"""Tiles per second: reading alone, the encoder alone, and both as a pipeline, which should be near the encoder."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.measurement import time_repeats
from benchmarks.registry import Benchmark, Measurement, register
from dml.config.params import Tiles
from dml.core.device import torch_threads
from dml.core.types import Mpp, TileGrid
from dml.demo.slide_file import write_slide
from dml.encoders.registry import get
from dml.features.encode_tiles import EncodingJob, encode_tiles
from dml.features.load_encoder import load_encoder
from dml.slides.grid import corners_px, tile_grids
from dml.slides.reader import open_slide

SIDE, MPP, TILES, BATCH, WORKERS = 4096, 0.5, Tiles(), 32, 2
ENCODER = "efficientnet_lite0"


@contextmanager
def _painted_slide() -> Iterator[tuple[Path, dict[Mpp, TileGrid]]]:
    """Write a pyramidal TIFF of coloured noise, all of it tissue: 256 tiles at 20x, 64 at 10x."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(SIDE // 32, SIDE // 32, 3))
    smooth = np.kron(coarse, np.ones((32, 32, 1))) * 20 + rng.normal(size=(SIDE, SIDE, 3)) * 8
    image = np.clip(np.array([190, 130, 180]) + smooth, 0, 255).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        write_slide(path, image, MPP, "benchmark")
        with open_slide(path) as slide:
            grids = tile_grids(slide, np.ones((64, 64), bool), TILES)
        yield path, dict(grids)


def _per_second(result: Measurement, tiles: int) -> Measurement:
    return Measurement(
        result.wall_s, result.cpu_s, {"tiles/s": tiles / result.wall_s, "tiles/s CPU": tiles / result.cpu_s}
    )


def _time_reading() -> Measurement:
    with _painted_slide() as (path, grids), open_slide(path) as slide:
        grid = grids[Mpp(MPP)]
        corners = corners_px(grid)

        def read() -> None:
            for x, y in corners:
                slide.read_tile(x, y, grid.tile_px, grid.mpp)

        return _per_second(time_repeats(read, repeats=3), len(corners))


def _time_encoder(precision: str, runtime: str) -> Measurement:
    encoder = load_encoder(get(ENCODER), "cpu", precision, runtime)
    tiles = np.random.default_rng(0).integers(0, 255, (BATCH, 256, 256, 3), dtype=np.uint8)
    with torch_threads(1), ThreadPoolExecutor(WORKERS) as pool:
        result = time_repeats(lambda: list(pool.map(encoder, [tiles] * WORKERS)), repeats=4)
    return _per_second(result, BATCH * WORKERS)


def _time_pipeline(precision: str, runtime: str) -> Measurement:
    encoder = load_encoder(get(ENCODER), "cpu", precision, runtime)
    with _painted_slide() as (path, grids):
        jobs = [EncodingJob("S", path, grid) for grid in grids.values()]
        result = time_repeats(
            lambda: list(encode_tiles(jobs, encoder, WORKERS, BATCH)), repeats=3, warm=0, max_seconds=30
        )
    rates = _per_second(result, sum(len(grid.coords_px) for grid in grids.values()))
    share = 100 * rates.figures["tiles/s CPU"] / _time_encoder(precision, runtime).figures["tiles/s CPU"]
    return Measurement(rates.wall_s, rates.cpu_s, {**rates.figures, "% of the encoder alone": share})


GROUP = "5 slides"
register(Benchmark("tile reading, one reader", GROUP, _time_reading, threads=1))
for precision, runtime in (("float32", "torch"), ("float32", "onnxruntime"), ("bfloat16", "torch")):
    named = f"{precision}, {runtime}"
    register(Benchmark(f"encoder alone, {named}", GROUP, lambda p=precision, r=runtime: _time_encoder(p, r)))
    register(Benchmark(f"tiles to tokens, {named}", GROUP, lambda p=precision, r=runtime: _time_pipeline(p, r)))
