"""The registry of metrics: `@metric` beside a function says what it is called and how reports use it.

To add a metric, write a function of patient weights in a module of this folder and decorate it; metrics.json, tables,
comparisons, the report page and MLflow follow. `dml.evaluation.metrics` lists the parameters that it may have.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar, get_args

import numpy as np

from dml.core.types import Kind
from dml.evaluation.metrics import Metric

Function = TypeVar("Function", bound=Callable[..., np.ndarray])
_REGISTERED: "dict[tuple[Kind, str], MetricEntry]" = {}
_PLACEHOLDERS = {"year": r"(?P<year>[\d.]+)", "class": r"(?P<class>.+)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricEntry:
    """One metric and how reports use it; ``{year}`` or ``{class}`` in a name: one metric per horizon or per class."""

    name: str  # key in metrics.json
    kind: Kind  # of the tasks that it measures
    label: str  # what tables and figures print, with the same placeholder
    function: Callable[..., np.ndarray]  # weights [r n] and inputs by name to values [r]
    order: int = 100  # position in tables
    higher_is_better: bool | None = True  # None: there is a target value instead
    leading: bool = False  # ranks the models of its kind; exactly one a kind
    headline: bool = False  # at the head of the report
    main: bool = False  # column of the main table
    compared: bool = False  # differences between models are tested
    calibration: bool = False  # column of the calibration table
    overall_only: bool = False  # not repeated in subgroups: costly or uninformative there
    chance: float | Callable[[int], float] | None = None  # of a model that knows nothing; may depend on n classes
    null: str | None = None  # name of the metric that is the value of a model that knows nothing
    min_classes: int = 0  # not computed with fewer classes
    in_unit: bool = False  # in the unit of the target: printed with significant digits
    renamed: Mapping[str, str] = field(default_factory=dict)  # parameter to the input that fills it, if not its name

    @property
    def repeated(self) -> bool:
        """Whether there is one metric per horizon or class."""
        return "{" in self.name

    def match(self, name: str) -> dict[str, str] | None:
        """Return the year or class that a key of metrics.json names; None if it is of another metric."""
        head, brace, rest = self.name.partition("{")
        key, _, tail = rest.partition("}")
        pattern = re.escape(head) + (_PLACEHOLDERS[key] + re.escape(tail) if brace else "")
        match = re.fullmatch(pattern, name)
        return None if match is None else match.groupdict()

    def bind(self, inputs: Mapping[str, Any]) -> Metric | None:
        """Fill the function's parameters by name; None if one without a default is not among the inputs."""
        _, *parameters = inspect.signature(self.function).parameters.values()
        sources = {p.name: self.renamed.get(p.name, p.name) for p in parameters}
        required = {sources[p.name] for p in parameters if p.default is p.empty}
        if not required <= inputs.keys() or inputs.get("classes", 0) < self.min_classes:
            return None
        return partial(self.function, **{name: inputs[source] for name, source in sources.items() if source in inputs})

    def chance_level(self, classes: int) -> float | None:
        """Value of a model that knows nothing, where it does not depend on the patients."""
        return self.chance(classes) if callable(self.chance) else self.chance


def metric(name: str, *, kind: Kind, label: str, **properties: Any) -> Callable[[Function], Function]:
    """Register a function as a metric (see `MetricEntry` for the properties)."""

    def register(function: Function) -> Function:
        if (kind, name) in _REGISTERED and _REGISTERED[kind, name].function.__module__ != function.__module__:
            raise ValueError(f"metric {name!r} of {kind} is defined twice, in {function.__module__} again")
        _REGISTERED[kind, name] = MetricEntry(name=name, kind=kind, label=label, function=function, **properties)
        return function

    return register


@cache
def _load() -> None:
    import dml.evaluation.metrics as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def entries(kind: Kind | None = None) -> list[MetricEntry]:
    """Return the metrics in the order of tables, those of one kind or all (survival first)."""
    _load()
    chosen = [entry for entry in _REGISTERED.values() if kind in (None, entry.kind)]
    return sorted(chosen, key=lambda entry: (get_args(Kind).index(entry.kind), entry.order, entry.name))


def find(name: str, kind: Kind | None = None) -> MetricEntry | None:
    """Return the metric of a key of metrics.json (``auc_3y``, ``recall_G2``); None if there is none."""
    return next((entry for entry in entries(kind) if entry.match(name) is not None), None)


def metric_form(name: str) -> str:
    """Return how tables print a metric: "g" (significant digits) of one in the unit of its target, else "f"."""
    entry = find(name)
    return "g" if entry is not None and entry.in_unit else "f"


def metric_label(name: str) -> str:
    """Return what tables print for a key of metrics.json: ``auc_3y`` is AUC at 3 y, ``recall_G2`` recall of G2."""
    entry = find(name)
    return name if entry is None else entry.label.format(**(entry.match(name) or {}))
