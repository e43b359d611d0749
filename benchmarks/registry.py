"""The benchmarks by name. A module in `cases/` registers what it measures; nothing is measured at import."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


class NotHereError(Exception):
    """What a benchmark needs is not there: the reason is its only argument."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a benchmark found: seconds of one repeat, and other figures by name (tokens/s, MiB of a file)."""

    wall: float
    cpu: float
    figures: Mapping[str, float] = field(default_factory=dict)


Run = Callable[[], Measured]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One line of the table.

    Attributes
    ----------
    name, group : str
        The line and the table it is in.
    run : callable
        Prepares, repeats and measures; called in a fresh process.
    threads : int
        CPU threads of PyTorch.
    seconds, gigabytes : float or None
        Targets of DESIGN.md on the machine named there.
    reference : str
        What the authors' code took on that machine.
    full : bool
        Only in `make bench-full`.
    """

    name: str
    group: str
    run: Run
    threads: int = 1
    seconds: float | None = None
    gigabytes: float | None = None
    reference: str = ""
    full: bool = False


_benchmarks: dict[str, Benchmark] = {}


def register(benchmark: Benchmark) -> Benchmark:
    """Add a benchmark; names are unique."""
    if benchmark.name in _benchmarks:
        raise ValueError(f"two benchmarks are called {benchmark.name!r}")
    _benchmarks[benchmark.name] = benchmark
    return benchmark


def benchmarks() -> dict[str, Benchmark]:
    """Return all benchmarks in the order of their files and lines."""
    import benchmarks.cases as package

    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        importlib.import_module(f"benchmarks.cases.{module.name}")
    return dict(_benchmarks)
