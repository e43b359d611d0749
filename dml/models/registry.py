"""The deep baselines by name.

To add one, write a module in this folder that defines ``BASELINE``, and list its output in stage deep_baseline of
dvc.yaml; nothing else changes.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.types import Case

if TYPE_CHECKING:
    from dml.data.dims import ModelDims
    from dml.models.nn.head import SubspaceModel

PREFIX = "baseline_"
"""Before the name of a baseline in folders, runs and tables: baseline_abmil."""
Source = Literal["slide", "genes"]


@dataclass(frozen=True, slots=True)
class DeepBaseline:
    """A published model.

    Attributes
    ----------
    build : callable
        (ModelDims, config.Model) -> untrained module that maps a Batch to ModelOutput.
    needs : tuple of str
        What a patient must have to be read; a source that is used where there is one is not among them.
    paper : str
        Where it is described.
    """

    build: "Callable[[ModelDims, config.Model], SubspaceModel]"
    needs: tuple[Source, ...]
    paper: str

    def reads(self, case: Case) -> bool:
        """Whether a patient has what the model needs."""
        has = {"slide": any(len(bag) for bag in case.bags.values()), "genes": case.expression is not None}
        return all(has[source] for source in self.needs)


def names() -> list[str]:
    """Return the names of all deep baselines."""
    import dml.baselines.deep as package

    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name != "registry")


def get(name: str) -> DeepBaseline:
    """Return a deep baseline.

    Raises
    ------
    ConfigError
        If there is none of that name; the message lists those there are.
    """
    if name not in names():
        raise ConfigError(f"baselines.deep: unknown baseline {name!r}; there are: {', '.join(names())}")
    baseline: DeepBaseline = importlib.import_module(f"dml.baselines.deep.{name}").BASELINE
    return baseline
