"""The viewer: start, first paint of a slide whose map exists, a deep-zoom tile of 40,000 x 40,000 pixels."""

import math
import shutil
import statistics
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile

from benchmarks.registry import Benchmark, Measurement, SkipBenchmark, register

SIDE, MPP, TILE = 40_000, 0.5, 256
TOKEN = "benchmark"
LIMIT_S = 60
"""After which a page that is not painted has failed."""


def write_pyramid(path: Path, side: int = SIDE) -> Path:
    """Write a tiled pyramidal TIFF in JPEG: one painted block, repeated."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 12, (2048, 2048, 3))
    block = np.clip(np.array([215, 160, 200]) + noise, 0, 255).astype(np.uint8)
    tiles = [np.ascontiguousarray(block[y : y + TILE, x : x + TILE]) for y in range(0, 2048, TILE) for x in (0, 512)]
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(8):
            size = side >> level
            count = math.ceil(size / TILE) ** 2
            file.write(
                (tiles[i % len(tiles)] for i in range(count)),
                shape=(size, size, 3), dtype=np.uint8, tile=(TILE, TILE), photometric="rgb", compression="jpeg",
                resolution=(1e4 / MPP, 1e4 / MPP), resolutionunit="CENTIMETER", metadata=None,
                subfiletype=int(level > 0),
            )  # fmt: skip
    return path


def _time_tiles() -> Measurement:
    """Median seconds of a tile that is read for the first time, over all levels."""
    from dml.viewer.pixels import SlidePixels, encode

    with TemporaryDirectory() as folder:
        pixels = SlidePixels(write_pyramid(Path(folder) / "slide.tif"), None)
        rng, walls, cpus = np.random.default_rng(1), [], []
        for level in rng.integers(6, pixels.max_level + 1, 200):
            columns, rows = (-(-side // TILE) for side in pixels.level_size(int(level)))
            column, row = int(rng.integers(columns)), int(rng.integers(rows))
            wall, cpu = time.perf_counter(), time.process_time()
            encode(pixels.tile(int(level), column, row))
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
    figures = {"p95 s": float(np.quantile(walls, 0.95)), "max s": max(walls)}
    return Measurement(statistics.median(walls), statistics.median(cpus), figures)


def _time_first_paint() -> Measurement:
    """Seconds from the address of a slide to the painted map in headless Chromium; the map exists."""
    chromium, driver_file = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver_file is None:
        raise SkipBenchmark("chromium and chromium-driver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,820"):
        options.add_argument(argument)
    with TemporaryDirectory() as folder:
        path = write_pyramid(Path(folder) / "slide.tif")
        start = time.perf_counter()
        viewer, server, address = _start(path)
        started = time.perf_counter() - start
        entry = next(iter(viewer.slides.values()))
        viewer.maps.request(entry.patient_id).result(120)
        browser = webdriver.Chrome(options=options, service=Service(driver_file))
        try:
            browser.get(f"{address}?token={TOKEN}")
            walls, cpus = [], []
            for level in (0, 1, 0, 1, 0):
                browser.get("about:blank")
                wall, cpu = time.perf_counter(), time.process_time()
                browser.get(f"{address}#/slide/{entry.key}?level={level}")
                while browser.execute_script("return document.body.dataset.state") != "ready":
                    if time.perf_counter() - wall > LIMIT_S:
                        raise TimeoutError(
                            browser.execute_script("return document.getElementById('error').textContent")
                        )
                    time.sleep(0.01)
                walls.append(time.perf_counter() - wall)
                cpus.append(time.process_time() - cpu)
        finally:
            browser.quit()
            server.should_exit = True
            viewer.close()
    return Measurement(statistics.median(walls), statistics.median(cpus), {"start s": started})


def _start(path: Path) -> tuple[Any, Any, str]:
    """Serve the large slide and 5,000 tiles at the finer resolution, by an untrained student."""
    import torch
    import uvicorn

    from dml.config import params as config
    from dml.core.types import Bag, Microns, Mpp
    from dml.data.example_cohort import TOKEN_WIDTH, example_cohort
    from dml.data.preprocessing import Preprocessor
    from dml.inference.ensemble import Ensemble
    from dml.training.checkpoint import FoldModel, ModelSpec
    from dml.viewer.app import Viewer, make_app
    from dml.viewer.guard import Guard
    from dml.viewer.server import bind
    from dml.viewer.slide_collection import PatientTokens, SlideCollection, SlideEntry

    cohort = example_cohort(20)
    params = config.Params(cohort="example", tasks=("survival",), folds=(0, 1))
    spec = ModelSpec(
        name="student", preprocessor=Preprocessor.fit(cohort, params, "survival"), model=params.model,
        teacher=params.teacher, distillation=params.distillation, tiles=params.tiles, years=(1.0,), members=1, seed=0,
        train_cutoff=0.0, train_risk_deviation=1.0,
    )  # fmt: skip
    ensemble = Ensemble((FoldModel(spec, (spec.build().eval(),)),))
    bags = {}
    for mpp, side in ((0.5, 70), (1.0, 35)):
        x, y = np.meshgrid(np.arange(side), np.arange(side))
        coords = torch.tensor((np.stack([x.ravel(), y.ravel()], 1) + 0.5) * TILE * mpp, dtype=torch.float32)
        tokens = torch.randn(side**2, TOKEN_WIDTH).half()
        index = torch.zeros(side**2, dtype=torch.long)
        bags[Mpp(mpp)] = Bag(tokens, coords, index, Mpp(mpp), Microns(TILE * mpp), "fake")
    patient = cohort.subset({"P000"})
    object.__setattr__(patient.cases[0], "bags", bags)

    class OneSlide:
        name = "benchmark"

        def entries(self) -> list[SlideEntry]:
            return [SlideEntry("slide", "slide", "P000", path)]

        def read_patient(self, patient_id: str) -> PatientTokens:
            return PatientTokens(patient, ("slide",))

        def read_spots(self, entry: SlideEntry, mpp: float) -> None:
            return None

    slides: SlideCollection = OneSlide()
    viewer = Viewer(slides, ensemble, "student")
    listener = bind(0)
    port = listener.getsockname()[1]
    guard = Guard(make_app(viewer), port, TOKEN)
    server = uvicorn.Server(uvicorn.Config(guard, log_level="warning", lifespan="off", ws="none"))
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    return viewer, server, f"http://127.0.0.1:{port}/"


GROUP = "9 viewer"
register(Benchmark("viewer, first paint with map", GROUP, _time_first_paint, seconds=1.5, gigabytes=0.5))
register(Benchmark("viewer, deep-zoom tile of 40,000 x 40,000", GROUP, _time_tiles, seconds=0.05, gigabytes=0.5))
