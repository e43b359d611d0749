"""Registered models: ``<cohort>-<task>-<model>``, one version per set of weights, addressed by alias."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dml.core.errors import InputError, listed
from dml.registry.local_registry import local_versions
from dml.registry.registered_version import RegisteredVersion as RegisteredVersion
from dml.tracking import store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.pyfunc import PyFuncModel

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
TEACHER = "teacher."
"""Prefix of the tags with main metrics and digest of the weights of a student's teacher."""


def names() -> list[str]:
    """Names of all registered models."""
    client = store.connect(must_exist=True)
    return sorted(str(model.name) for model in client.search_registered_models(max_results=1000))


def versions(name: str) -> list[RegisteredVersion]:
    """All versions of a registered model, oldest first; none for an unknown name."""
    local = local_versions(name)
    return _versions_by_mlflow(name) if local is None else local


def _versions_by_mlflow(name: str) -> list[RegisteredVersion]:
    client = store.connect(must_exist=True)
    rows = client.search_model_versions(f"name = '{name}'", max_results=1000)
    if not rows:
        return []
    aliases = dict(client.get_registered_model(name).aliases)
    return [_registered(row, aliases) for row in sorted(rows, key=lambda row: int(row.version))]


def _registered(row: "ModelVersion", aliases: Mapping[str, Any]) -> RegisteredVersion:
    number = str(row.version)
    names = tuple(sorted(alias for alias, target in aliases.items() if str(target) == number))
    description = str(row.description or "")
    return RegisteredVersion(str(row.name), number, names, dict(row.tags), str(row.run_id), description)


def find(name: str, selector: str) -> RegisteredVersion:
    """Return the version of an alias or number.

    Raises
    ------
    InputError
        If there is no such model, alias or version; the message lists what there is.
    """
    available = versions(name)
    if not available:
        raise InputError("registry", f"no registered model {name!r}", f"Known: {listed(names(), 20) or 'none'}")
    for version in available:
        if selector in (version.version, *version.aliases):
            return version
    selectors = [part for version in available for part in (version.version, *version.aliases)]
    raise InputError("registry", f"{name} has no alias or version {selector!r}", f"Known: {listed(selectors, 20)}")


def resolve(reference: str) -> RegisteredVersion:
    """Return the version that ``<name>@<alias>`` or ``<name>/<version>`` means; a bare name means the champion.

    Raises
    ------
    InputError
        If there is no such version.
    """
    name, _, selector = reference.removeprefix("models:/").replace("/", "@").partition("@")
    return find(name, selector or CHAMPION)


def load(name: str, alias: str = CHAMPION) -> "PyFuncModel":
    """Load a registered model by alias or version number, as MLflow pyfunc; nothing is unpickled.

    It reads files below the working directory, or below DML_SERVED_ROOT.

    Raises
    ------
    InputError
        If there is no such version.
    """
    version = find(name, alias)
    store.connect(must_exist=True)
    # versions of packages are pinned in the model's requirements; comparing them takes a second and a half here
    loaded: PyFuncModel = store.pyfunc().load_model(f"models:/{name}/{version.version}", suppress_warnings=True)
    return loaded
