"""Progress with throughput and remaining time: a bar on a terminal, a line every few seconds in a log."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

logger = logging.getLogger(__name__)

_LOG_INTERVAL_S = 15.0

Advance = Callable[[int], None]


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.1f} {self._unit}/s")


@contextmanager
def progress(label: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Show progress; yields a function to call with the number of units just finished.

    Parameters
    ----------
    label : str
        Name of the work.
    total : int
        Units in all.
    unit : str
        Their name, plural.
    done : int
        Units finished in an earlier run.
    """
    with (_bar if sys.stderr.isatty() else _lines)(label, total, unit, done) as advance:
        yield advance


@contextmanager
def _bar(label: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    from rich.console import Console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda count: bar.advance(task, count)


@contextmanager
def _lines(label: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    start = logged = time.monotonic()
    finished = 0

    def advance(count: int) -> None:
        nonlocal finished, logged
        finished += count
        now = time.monotonic()
        if now - logged >= _LOG_INTERVAL_S:
            logged, rate = now, finished / (now - start)
            left = (total - done - finished) / rate if rate else 0.0
            logger.info("%s: %d of %d %s, %.1f/s, %.0f s left", label, done + finished, total, unit, rate, left)

    yield advance
