"""Registration: the evaluated folds of a model become one version of its registered model, the challenger."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dml.config.params import Params
from dml.core.errors import InputError, listed
from dml.core.files import only_writer, read_json
from dml.data.cohort_store import CohortStore
from dml.evaluation.metric_sets import MAIN, PRIMARY
from dml.evaluation.metrics.registry import metric_label
from dml.evaluation.results import PAIR
from dml.inference.ensemble import Ensemble, fold_folders, weights_digest
from dml.registry import packaging
from dml.registry.registered_version import METRIC, RegisteredVersion
from dml.registry.version_description import headline, version_description
from dml.registry.versions import CHALLENGER, TEACHER, find, versions
from dml.report.number_format import format_estimate
from dml.tracking import lineage, store
from dml.tracking.run_reports import log_report
from dml.tracking.runs import log_metrics, metric_key
from dml.training.model_store import MODELS, ModelStore

if TYPE_CHECKING:
    from mlflow import MlflowClient

REGISTERED = PAIR
"""Which models are registered; the undistilled student and the baselines are for comparison only."""


def registered_name(cohort: str, task: str, model: str) -> str:
    """Name under which a model is registered.

    Examples
    --------
    >>> registered_name("demo", "survival", "student")
    'demo-survival-student'
    """
    return f"{cohort}-{task}-{model}"


def register(
    params: Params, task: str, model: str, models: Path = MODELS, reports: Path = Path("reports")
) -> RegisteredVersion:
    """Register the folds of a model as one version and make it the challenger.

    The same weights are registered once: a version with their digest is reused and only gets the alias.

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
    trained, evaluated = ModelStore.of(params.cohort, task, models), reports / params.cohort / task
    name, folder = registered_name(params.cohort, task, model), trained.model_folder(model)
    _ = fold_folders(folder), _metrics(evaluated, model)  # what is missing is refused before anything is logged
    tags = {"cohort": params.cohort, "task": task, "model": model, **_teacher_tags(trained, evaluated, model)}
    run_id = log_report(params, task, evaluated)[model]
    return _add_version(name, folder, evaluated, tags, run_id, CohortStore.of(params.cohort))


def register_update(
    params: Params,
    champion: RegisteredVersion,
    folder: Path,
    evaluated: Path,
    tags: Mapping[str, str],
    data: CohortStore,
) -> RegisteredVersion:
    """Register folds that were made from a version as a challenger of its name.

    Parameters
    ----------
    folder, evaluated : Path
        The folds, and the folder of their evaluation.
    tags : mapping
        Further tags.
    data : CohortStore
        Cohort whose inputs are the reference of drift.
    """
    identity = {name: champion.tags[name] for name in ("cohort", "task", "model")}
    client, settings = store.connect(), params.model_copy(update={"cohort": champion.tags["cohort"]})
    experiment = store.experiment(client, f"{identity['cohort']}-{identity['task']}")
    described = {**lineage.tags(settings, identity["task"], identity["model"]), "level": "update", **tags}
    run_id = str(client.create_run(experiment, run_name=f"{identity['model']} updated", tags=described).info.run_id)
    values = {
        name: float(part["value"]) for name, part in _metrics(evaluated, identity["model"]).items() if part["value"]
    }
    log_metrics(client, run_id, values)
    client.set_terminated(run_id)
    return _add_version(champion.name, folder, evaluated, {**identity, **tags}, run_id, data)


def _add_version(
    name: str, folder: Path, evaluated: Path, described: Mapping[str, str], run_id: str, data: CohortStore
) -> RegisteredVersion:
    """Pack folds as a version, or reuse the one that has the same weights, and make it the challenger."""
    model, cohort, digest = described["model"], described["cohort"], weights_digest(folder)
    tags = {**described, "git_commit": lineage.commit()[0], "digest": digest, **metric_tags(evaluated, model)}
    if packaging.card_of(evaluated, model).exists():
        tags["card"] = f"artifacts/evaluation/{packaging.CARD}"
    client = store.connect()
    with only_writer("registry", folder=store.lock_folder()):
        same = next((version for version in versions(name) if version.tags.get("digest") == digest), None)
        version = same.version if same else _create(client, name, folder, run_id, evaluated, data)
        outdated = [key for key in (same.tags if same else {}) if key.startswith((METRIC, TEACHER)) and key not in tags]
        for key in outdated:  # of an earlier evaluation
            client.delete_model_version_tag(name, version, key)
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)
        ensemble = Ensemble.load(folder)
        description = version_description(ensemble, cohort, main_result(evaluated, model))
        client.update_model_version(name, version, description=description)
        client.update_registered_model(name, headline(ensemble, cohort))
        client.set_registered_model_alias(name, CHALLENGER, version)
    return find(name, version)


def metric_tags(report_folder: Path, model: str) -> dict[str, str]:
    """Return the metrics of one model as tags: ``metric.c_index``, and of the main ones the ends of the interval.

    Raises
    ------
    InputError
        If the evaluation is missing or does not have the model.
    """
    parts = {"": "value", "_ci_low": "ci_low", "_ci_high": "ci_high"}
    main = {name for kind in MAIN.values() for name in kind}
    return {
        f"{METRIC}{metric_key(name)}{suffix}": str(content[part])
        for name, content in _metrics(report_folder, model).items()
        for suffix, part in parts.items()
        if content.get(part) is not None and (part == "value" or name in main)
    }


def main_result(report_folder: Path, model: str) -> str:
    """Return the leading metric of a model with its interval, and the patients it is of, in one sentence."""
    metrics, details = _metrics(report_folder, model), report_folder / "details.json"
    name = next((name for name in PRIMARY.values() if name in metrics), None)
    result = f"{metric_label(name)} {format_estimate(metrics[name])} in cross-validation" if name else "Not evaluated"
    if not details.exists():
        return f"{result}."
    content = read_json(details)
    deaths = f", {content['deaths']} deaths" if "deaths" in content else ""
    return f"{result} ({sum(content['test_patients_per_fold'])} patients{deaths})."


def _metrics(report_folder: Path, model: str) -> Mapping[str, Mapping[str, Any]]:
    path = report_folder / "metrics.json"
    report = read_json(path)
    if model not in report:
        raise InputError(path, f"no model {model}, only {listed(sorted(report), 10)}", "Evaluate again: dvc repro")
    metrics: Mapping[str, Mapping[str, Any]] = report[model]
    return metrics


def _teacher_tags(models: ModelStore, reports: Path, model: str) -> dict[str, str]:
    """Return for a student which teacher it was distilled from, and how good that one was on the same patients."""
    teacher = models.model_folder("teacher")
    if model != "student" or not teacher.exists() or "teacher" not in read_json(reports / "metrics.json"):
        return {}
    metrics = metric_tags(reports, "teacher")
    main = {f"{TEACHER}{n}": metrics[f"{METRIC}{n}"] for n in PRIMARY.values() if f"{METRIC}{n}" in metrics}
    return {**main, f"{TEACHER}digest": weights_digest(teacher)}


def _create(client: "MlflowClient", name: str, folder: Path, run_id: str, evaluation: Path, data: CohortStore) -> str:
    """Log the model and make it a version."""
    if name not in [model.name for model in client.search_registered_models(f"name = '{name}'")]:
        client.create_registered_model(name)
    before = client.get_run(run_id).info
    source = packaging.log_model(folder, name, run_id, evaluation, data)
    # logging ends the run once more; its duration is that of the training
    client.set_terminated(run_id, before.status, before.end_time)
    created = client.create_model_version(name, source, run_id, model_id=source.rsplit("/", 1)[-1])
    client.set_model_version_tag(name, created.version, "run_id", run_id)
    return str(created.version)
