"""Registry of the benchmarks by name. A module in `cases/` registers its benchmarks; nothing is measured at import."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


class SkipBenchmark(Exception):
    """A prerequisite of a benchmark is missing; the reason is the only argument."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Seconds of one repeat, and other figures by name (tokens/s, MB of a file)."""

    wall_s: float
    cpu_s: float
    figures: Mapping[str, float] = field(default_factory=dict)


Run = Callable[[], Measurement]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One line of the table.

    Attributes
    ----------
    name, group : str
        Name of the line, and the group of lines it is sorted into.
    run : callable
        Prepares, repeats and measures; called in a separate process.
    threads : int
        CPU threads of PyTorch.
    seconds, gigabytes : float or None
        Targets on two cores, see docs/benchmarks.md.
    reference : str
        Time and memory of the authors' code on such a machine.
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
