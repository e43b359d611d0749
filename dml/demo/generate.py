"""Write the demo cohort to a folder: slides first, on all cores; tables last, so that their presence means complete."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from dml.demo.factors import STREAMS, DemoConfig, draw_patients, draw_slide_factors
from dml.demo.paint import SlidePlan
from dml.demo.slide_file import is_current, make_slide
from dml.demo.tables import TABLES, write_tables

logger = logging.getLogger(__name__)

MAX_SERIAL_MEGAPIXELS = 12
"""Up to this many megapixels are painted in this process: starting others would take longer."""


def generate_cohort(
    folder: Path,
    patients: int = 80,
    seed: int = 7,
    sites: int = 3,
    slide_px: int = 2048,
    *,
    mpp: float = 0.5,
    workers: int | None = None,
    progress: bool = True,
    **others: Any,
) -> None:
    """Write patients.csv, slides.csv, expression.csv.gz, slides/*.tif, and the planted truth: oracle.csv, oracle.json.

    Equal arguments give equal bytes, whatever the number of workers. Slides that exist for the same arguments are
    kept, so that a killed run resumes where it stopped; slides of other arguments are replaced.

    Parameters
    ----------
    folder : Path
        Target folder, usually data/raw/demo.
    patients : int
        Number of patients.
    seed : int
        Random seed.
    sites : int
        Number of hospitals.
    slide_px : int
        Typical side of a slide in pixels of `mpp` microns.
    mpp : float
        Microns per pixel of level 0.
    workers : int, optional
        Processes that paint; by default one per core.
    progress : bool
        Show a progress bar on standard error.
    **others
        Further fields of `DemoConfig`.

    Raises
    ------
    ConfigError
        If a number is outside of what can be generated.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     generate_cohort(Path(folder), patients=3, slide_px=512, progress=False)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['expression.csv.gz', 'oracle.csv', 'oracle.json', 'patients.csv', 'slides', 'slides.csv']
    """
    config = DemoConfig(patients=patients, seed=seed, sites=sites, slide_px=slide_px, mpp=mpp, **others)
    folder = Path(folder)
    planted = draw_patients(config)
    slides = draw_slide_factors(config, planted)
    plans = {folder / "slides" / f"{slide.slide_id}.tif": plan for slide, plan in plan_slides(config, slides)}
    _remove_stale_files(folder / "slides", set(plans))
    missing = {path: plan for path, plan in plans.items() if not is_current(plan, path)}
    if missing:
        for name in TABLES:
            (folder / name).unlink(missing_ok=True)
        _show_progress(_paint_all(missing, workers), len(plans), len(plans) - len(missing), progress)
    write_tables(folder, config, planted, slides)
    logger.info("%s: %d slides painted, %d existed", folder, len(missing), len(plans) - len(missing))


def plan_slides(config: DemoConfig, slides: pd.DataFrame) -> Iterator[tuple[pd.Series, SlidePlan]]:
    """Yield the row of each slide with what is painted."""
    for _, slide in slides.iterrows():
        plan = SlidePlan(
            seed=(config.seed, STREAMS["slides"], int(slide["patient"]), int(slide["index"]), 1),
            site=(config.seed, STREAMS["sites"], int(slide["site"].removeprefix("site-"))),
            tumor=float(slide["tumor"]),
            tme=float(slide["tme"]),
            slide_px=config.slide_px,
            mpp=config.mpp,
            tissue=config.tissue,
        )
        yield slide, plan


def _paint_all(plans: dict[Path, SlidePlan], workers: int | None) -> Iterator[None]:
    """Paint slides; yield after each."""
    workers = min(workers or os.cpu_count() or 1, len(plans))
    megapixels = sum(plan.slide_px**2 for plan in plans.values()) / 1e6
    if workers == 1 or megapixels <= MAX_SERIAL_MEGAPIXELS:
        for path, plan in plans.items():
            make_slide(plan, path)
            yield
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(make_slide, plan, path) for path, plan in plans.items()]
        try:
            for job in as_completed(jobs):
                job.result()
                yield
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _show_progress(finished: Iterator[None], total: int, completed: int, show: bool) -> None:
    """Consume the iterator with a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("painting slides"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task("", total=total, completed=completed)
        for _ in finished:
            bar.advance(task)


def _remove_stale_files(folder: Path, wanted: set[Path]) -> None:
    """Remove slides of an earlier, larger cohort, and temporary files of killed processes."""
    for path in folder.glob("DEMO-*.tif"):
        if path not in wanted:
            path.unlink()
    for path in folder.glob(".DEMO-*.tmp"):
        if not _is_alive(int(path.name.split(".")[-2].split("-")[0])):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
