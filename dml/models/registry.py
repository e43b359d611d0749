"""The only list of models: every `ModelEntry` that a module of the library defines.

A deep baseline is one file in dml/baselines/deep that defines ``MODEL``, and its name in params.yaml (baselines.deep).
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType

from dml.core.errors import ConfigError
from dml.core.model_name import ModelName
from dml.models.entry import ModelEntry

MODULES = ("dml.models.teacher", "dml.models.student", "dml.baselines.deep", "dml.baselines.linear.fit")
"""Modules, and packages of modules, that define entries, in the order of tables."""


@cache
def entries() -> Mapping[str, ModelEntry]:
    """Return all models by name: ours, the deep baselines, the linear baselines."""
    return MappingProxyType({entry.name: entry for module in MODULES for entry in _defined_in(module)})


def _defined_in(module_name: str) -> Iterator[ModelEntry]:
    module = importlib.import_module(module_name)
    if hasattr(module, "__path__"):
        for child in sorted(info.name for info in pkgutil.iter_modules(module.__path__)):
            yield from _defined_in(f"{module_name}.{child}")
    else:
        yield from getattr(module, "MODELS", None) or (module.MODEL,)


def entry(name: str) -> ModelEntry:
    """Return one model.

    Raises
    ------
    ConfigError
        If there is none of that name; the message lists those there are.

    Examples
    --------
    >>> entry("abmil").inputs
    ('slide',)
    """
    if name not in entries():
        raise ConfigError(f"unknown model {name!r}; there are: {', '.join(entries())}")
    return entries()[name]


def deep_names() -> list[str]:
    """Return the names of the deep baselines; each is a file and may be named in ``baselines.deep``."""
    return [name for name, model in entries().items() if model.family == "deep" and not model.is_variant]


def variant_names() -> list[str]:
    """Return the names of deep baselines with or without an idea of theirs, which are in the file of another."""
    return [name for name, model in entries().items() if model.is_variant]


def linear_names() -> list[str]:
    """Return the names of the linear baselines."""
    return [name for name, model in entries().items() if model.family == "linear"]


def our_names() -> list[str]:
    """Return the names of the teacher and the students."""
    return [name for name, model in entries().items() if model.family == "ours"]


def is_baseline(name: str) -> bool:
    """Whether a name, with or without additions, is that of a deep or linear baseline."""
    model = entries().get(ModelName.parse(name).base)
    return model is not None and model.family != "ours"


def label(name: str) -> str:
    """Return a model's name as tables and figures print it; a name that is not registered is printed as it is.

    Examples
    --------
    >>> label("student_undistilled-clinical")
    'student, undistilled + age + sex'
    """
    model = ModelName.parse(name)
    if model.base not in entries():
        return name
    text = entries()[model.base].label + (" + age + sex" if model.clinical else "")
    return f"{text}, recalibrated" if model.recalibrated else text


def description(name: str) -> str:
    """Describe a model's inputs and method in one line; of a name that is not registered, the name."""
    model = ModelName.parse(name)
    if model.base not in entries():
        return name
    text = entries()[model.base].description + ("; fused with age and sex" if model.clinical else "")
    return f"{text}; level and spread of risk refitted on other patients of this cohort" if model.recalibrated else text
