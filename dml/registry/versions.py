"""Registered models: `<cohort>-<task>-teacher` and `-student`, one version per set of weights, found by alias."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dml.config.params import Params
from dml.core.errors import InputError, listed
from dml.core.files import only_writer, read_json
from dml.evaluation.metric_sets import PRIMARY
from dml.inference.ensemble import Ensemble
from dml.registry import packaging
from dml.registry.version_card import card, headline
from dml.report.tables import MAIN
from dml.tracking import lineage, store
from dml.tracking.run_reports import log_report

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.pyfunc import PyFuncModel

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
TEACHER = "teacher."
"""Prefix of a student's tags about the teacher it was distilled from: main metrics, digest of the weights."""
MODELS = ("teacher", "student")
"""Which models are registered; baselines and the undistilled student are references only."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a registered model."""

    name: str
    version: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    run_id: str
    description: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the evaluation the version was registered with."""
        marked = {name: value for name, value in self.tags.items() if name.startswith("metric.")}
        return {name.removeprefix("metric."): float(value) for name, value in marked.items()}


def model_name(cohort: str, task: str, model: str) -> str:
    """Name under which a model is registered."""
    return f"{cohort}-{task}-{model}"


def register(
    params: Params, task: str, model: str, models: Path = Path("models"), reports: Path = Path("reports")
) -> Entry:
    """Register the folds of a model as one version and make it the challenger.

    The same weights are registered once: a version with their digest is found again and only gets the alias.

    Parameters
    ----------
    models, reports : Path
        Where ``<cohort>/<task>`` of the training and of the evaluation is.

    Raises
    ------
    InputError
        If the model was not trained or not evaluated.
    TrackingError
        If the store cannot be opened.
    """
    place = Path(params.cohort) / task
    name, folder = model_name(params.cohort, task, model), models / place / model
    digest = packaging.weights_digest(folder)
    metrics, taught_by = metrics_of(reports / place, model), _taught_by(models / place, reports / place, model)
    client = store.connect()
    run_id = log_report(params, task, reports / place)[model]
    with only_writer("registry", folder=store.lock_folder()):
        found = next((entry for entry in versions(name) if entry.tags.get("digest") == digest), None)
        version = found.version if found else _create(client, name, folder, run_id, reports / place)
        tags = {**_tags(params, task, model), **metrics, **taught_by, "digest": digest}
        if packaging.card_of(reports / place, model).exists():
            tags["card"] = f"artifacts/evaluation/{packaging.CARD}"
        for key in (old for old in (found.tags if found else {}) if old.startswith(("metric.", TEACHER))):
            if key not in tags:  # of an evaluation before
                client.delete_model_version_tag(name, version, key)
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, str(value))
        ensemble = Ensemble.load(folder)
        description = card(ensemble, params.cohort, metrics, judged_on(reports / place))
        client.update_model_version(name, version, description=description)
        client.update_registered_model(name, f"{headline(ensemble, params.cohort)} Each version carries its card.")
        client.set_registered_model_alias(name, CHALLENGER, version)
    return find(name, version)


def metrics_of(report_folder: Path, model: str) -> dict[str, float]:
    """Metrics of one model as tags: ``metric.c_index``, and of the main ones the ends of the interval.

    Raises
    ------
    InputError
        If the evaluation is missing or does not have the model.
    """
    path = report_folder / "metrics.json"
    report = read_json(path)
    if model not in report:
        raise InputError(path, f"no model {model}, only {listed(sorted(report), 10)}", "Evaluate again: dvc repro")
    parts = {"": "value", "_ci_low": "ci_low", "_ci_high": "ci_high"}
    main = {name for kind in MAIN.values() for name in kind}
    return {
        f"metric.{name}{suffix}": content[part]
        for name, content in report[model].items()
        for suffix, part in parts.items()
        if content.get(part) is not None and (part == "value" or name in main)
    }


def judged_on(report_folder: Path) -> str:
    """Say how many patients the evaluation of a task is of; empty if its details are not there."""
    path = report_folder / "details.json"
    if not path.exists():
        return ""
    details = read_json(path)
    folds = details["test_patients_per_fold"]
    deaths = f", {details['deaths']} deaths" if "deaths" in details else ""
    return f"{sum(folds)} patients{deaths}, each predicted by the fold that had not seen it"


def _tags(params: Params, task: str, model: str) -> dict[str, str]:
    return {"cohort": params.cohort, "task": task, "model": model, "git_commit": lineage.commit()[0]}


def _taught_by(models: Path, reports: Path, model: str) -> dict[str, str]:
    """Say of a student which teacher it was distilled from, and how good that one was on the same patients."""
    teacher = models / "teacher"
    if model != "student" or not teacher.exists() or "teacher" not in read_json(reports / "metrics.json"):
        return {}
    main = metrics_of(reports, "teacher")
    known = {f"{TEACHER}{name}": str(main[f"metric.{name}"]) for name in PRIMARY.values() if f"metric.{name}" in main}
    return {**known, f"{TEACHER}digest": packaging.weights_digest(teacher)}


def _create(client: "MlflowClient", name: str, folder: Path, run_id: str, evaluation: Path) -> str:
    """Log the model and make it a version."""
    known = [model.name for model in client.search_registered_models(f"name = '{name}'")]
    if name not in known:
        client.create_registered_model(name)
    before = client.get_run(run_id).info
    source = packaging.log_model(folder, name, run_id, evaluation)
    # logging ends the run once more; its duration is that of the training
    client.set_terminated(run_id, before.status, before.end_time)
    created = client.create_model_version(name, source, run_id, model_id=source.rsplit("/", 1)[-1])
    client.set_model_version_tag(name, created.version, "run_id", run_id)
    return str(created.version)


def names() -> list[str]:
    """Names of all registered models."""
    return sorted(str(model.name) for model in store.connect().search_registered_models(max_results=1000))


def versions(name: str) -> list[Entry]:
    """All versions of a registered model, oldest first; none for an unknown name."""
    client = store.connect()
    found = client.search_model_versions(f"name = '{name}'", max_results=1000)
    if not found:
        return []
    aliases = dict(client.get_registered_model(name).aliases)
    return [_entry(version, aliases) for version in sorted(found, key=lambda version: int(version.version))]


def _entry(version: "ModelVersion", aliases: Mapping[str, Any]) -> Entry:
    number = str(version.version)
    own = tuple(sorted(alias for alias, target in aliases.items() if str(target) == number))
    return Entry(
        str(version.name), number, own, dict(version.tags), str(version.run_id), str(version.description or "")
    )


def find(name: str, wanted: str) -> Entry:
    """Find a version by alias or number.

    Raises
    ------
    InputError
        If there is no such model, alias or version; the message lists what there is.
    """
    known = versions(name)
    if not known:
        raise InputError("registry", f"no registered model {name!r}", f"Known: {listed(names(), 20) or 'none'}")
    for entry in known:
        if wanted in (entry.version, *entry.aliases):
            return entry
    offered = [part for entry in known for part in (entry.version, *entry.aliases)]
    raise InputError("registry", f"{name} has no alias or version {wanted!r}", f"Known: {listed(offered, 20)}")


def resolve(reference: str) -> Entry:
    """Find the version that ``<name>@<alias>`` or ``<name>/<version>`` means; a bare name means the champion.

    Raises
    ------
    InputError
        If there is no such version.
    """
    name, _, wanted = reference.removeprefix("models:/").replace("/", "@").partition("@")
    return find(name, wanted or CHAMPION)


def load(name: str, alias: str = CHAMPION) -> "PyFuncModel":
    """Load a registered model by alias or version number, as MLflow pyfunc; nothing is unpickled.

    Raises
    ------
    InputError
        If there is no such version.
    """
    entry = find(name, alias)
    # versions of packages are pinned in the model's requirements; comparing them takes a second and a half here
    loaded: PyFuncModel = store.pyfunc().load_model(f"models:/{name}/{entry.version}", suppress_warnings=True)
    return loaded
