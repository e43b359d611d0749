"""A federated training from preparation to a registered version: teacher, then the student that it teaches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dml.config import params as config
from dml.core.errors import ConfigError
from dml.core.files import write_json
from dml.evaluation.intervals import rounded
from dml.evaluation.metric_sets import PRIMARY
from dml.federation.coordinator import Coordinator, FederationSettings, Sites
from dml.registry.registration import register
from dml.registry.versions import RegisteredVersion
from dml.tracking import store
from dml.training.checkpoint import FoldModel
from dml.training.model_store import ModelStore

SITES = "federation.sites"
"""Tag of a version: which sites took part, and how many patients each has."""
Pairs = Mapping[str, tuple[float, float, int]]
"""Concordant and comparable pairs, and test patients, of each site."""


@dataclass(frozen=True, slots=True)
class FederatedResult:
    """Models of each fold by role, their pairs at each site and fold, patients of each site, losses of the rounds."""

    models: Mapping[str, Sequence[FoldModel]]
    pairs: Mapping[str, Sequence[Pairs]]
    patients: Mapping[str, int]
    history: Sequence[Mapping[str, float]]

    def concordance(self, role: str, site: str | None = None) -> float | None:
        """Return the share of concordant pairs within folds and sites, of all sites or one; None without a pair."""
        counts = [pair for fold in self.pairs[role] for name, pair in fold.items() if site in (None, name)]
        comparable = sum(pair[1] for pair in counts)
        return rounded(sum(pair[0] for pair in counts) / comparable) if comparable else None


def train_across(
    sites: Sites, params: config.Params, task: str, settings: FederationSettings, roles: Sequence[str]
) -> FederatedResult:
    """Train every fold of teacher and student across sites.

    Parameters
    ----------
    roles : sequence of str
        "teacher" and "student", or one of them; a student alone is trained without a teacher.

    Raises
    ------
    ConfigError
        If the student is to be a frozen teacher.
    """
    if "student" in roles and params.distillation.architecture != "subspace_tokens":
        raise ConfigError(f"distillation.architecture: {params.distillation.architecture} is not trained across sites")
    coordinator = Coordinator(sites, params, task, settings)
    prepared = coordinator.prepare()
    models: dict[str, list[FoldModel]] = {role: [] for role in roles}
    pairs: dict[str, list[Pairs]] = {role: [] for role in roles}
    for fold in params.folds:
        preprocessor = coordinator.fit_preprocessor(prepared, fold)
        teacher: FoldModel | None = None
        for role in roles:
            taught = teacher if role == "student" else None
            model = coordinator.centre_risk(coordinator.train(role, preprocessor, fold, taught), fold)
            teacher = model if role == "teacher" else teacher
            models[role].append(model)
            pairs[role].append(coordinator.score(model, fold))
    return FederatedResult(models, pairs, prepared.patients, coordinator.history)


def write_result(result: FederatedResult, params: config.Params, task: str, root: Path = Path()) -> Path:
    """Write the folds below ``models/<cohort>`` and federation.json and metrics.json below ``reports/<cohort>``."""
    trained, report = ModelStore.of(params.cohort, task, root / "models"), root / "reports" / params.cohort / task
    for role, folds in result.models.items():
        for fold, model in zip(params.folds, folds, strict=True):
            model.save(trained.fold_folder(role, fold))
    write_json(report / "federation.json", to_json(result))
    write_json(report / "metrics.json", metrics(result))
    return report


def metrics(result: FederatedResult) -> dict[str, Any]:
    """Return the content of metrics.json: the leading metric of each role, from pairs that stayed at the sites."""
    kind = next(iter(result.models.values()))[0].spec.preprocessor.task.kind
    scored = {}
    for role, folds in result.pairs.items():
        shares = [(sum(p[0] for p in fold.values()), sum(p[1] for p in fold.values())) for fold in folds]
        by_fold = [rounded(hits / total) if total else None for hits, total in shares]
        scored[role] = {PRIMARY[kind]: {"value": result.concordance(role), "folds": by_fold}}
    return scored


def to_json(result: FederatedResult) -> dict[str, Any]:
    """Return the sites, their patients and concordance, and the rounds."""
    by_site = {
        role: {site: result.concordance(role, site) for site in result.patients} | {"all": result.concordance(role)}
        for role in result.models
    }
    return {"patients": dict(result.patients), "concordance": by_site, "rounds": [dict(row) for row in result.history]}


def register_result(
    content: Mapping[str, Any], params: config.Params, task: str, roles: Sequence[str]
) -> list[RegisteredVersion]:
    """Register each role as a challenger, tagged with the sites that took part (`content` is federation.json)."""
    named = ", ".join(f"{site} ({patients})" for site, patients in sorted(content["patients"].items()))
    versions = []
    for role in roles:
        version = register(params, task, role)
        store.connect().set_model_version_tag(version.name, version.version, SITES, named)
        versions.append(version)
    return versions
