"""Update a registered version with the patients of another cohort; the result is a challenger like any other.

The new cohort is divided: an inner part chooses the step and is learned from, a gate part is only ever predicted. The
gates of promotion are joined by two that the update itself records: that the challenger is not inferior to the champion
on the old test patients (nothing was forgotten), and on the gate part of the new ones.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from dml.config import params as config
from dml.core.errors import InputError
from dml.core.files import write_json
from dml.core.predictions import write_predictions
from dml.core.types import Cohort
from dml.data.cohort_store import CohortStore
from dml.experiments.external_validation import ValidationInputs, load_inputs, select_patients
from dml.inference.ensemble import fold_folders
from dml.registry import gates
from dml.registry.packaged_code import download
from dml.registry.registration import register_update
from dml.registry.versions import TEACHER, RegisteredVersion, resolve
from dml.report.build import evaluate
from dml.report.context import ReportContext, read_cohort_description
from dml.training.checkpoint import FoldModel
from dml.training.folds import Fold, make_fold, select_test_patients
from dml.training.model_store import ModelStore
from dml.update.ladder import STEPS, LadderResult, Step, choose_step, divide, predict_with_targets, update_fold

GATE_PARTS = 4
"""One of so many new patients is only predicted, for the gates."""
UPDATED_FROM, UPDATED_WITH, UPDATED_STEP = "update.from", "update.cohort", "update.step"
"""Tags of a version that was made by an update."""


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """How far the ladder reaches, the chance to climb too far, and whether old patients are replayed."""

    until: Step = "adapters"
    alpha: float = 0.05
    use_replay: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What an update did; `challenger` is None if the champion is kept."""

    ladder: LadderResult
    challenger: RegisteredVersion | None
    gates: tuple[gates.Gate, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class _OldPatients:
    """Of each fold of the champion: patients it learned from, and those it is tested on."""

    store: CohortStore
    learning: Sequence[Fold]
    tested: Sequence[Cohort]


def update(reference: str, cohort: str, params: config.Params, settings: UpdateSettings, root: Path) -> UpdateResult:
    """Climb the ladder for a version, evaluate the result on old and new patients, and register it.

    Parameters
    ----------
    reference : str
        ``<name>@<alias>`` or ``<name>/<version>``.
    cohort : str
        Name of the new cohort, stored in ``data/<cohort>``.
    root : Path
        Receives ``<name>/<cohort>``: ladder.json, and models and reports of the challenger.

    Raises
    ------
    InputError
        If the cohort is the champion's, does not fit it (as `validate_external`), or has too few patients.
    """
    version = resolve(reference)
    if version.tags.get("cohort") == cohort:
        raise InputError(reference, f"was trained on {cohort}", "Name the cohort of the new patients")
    inputs = load_inputs(version, CohortStore.of(cohort))
    new = select_patients(inputs)
    folders = fold_folders(download(version) / "artifacts" / "folds")
    numbers, champion = [int(path.name.removeprefix("fold-")) for path in folders], inputs.ensemble.folds
    if len(new.cases) < GATE_PARTS * len(champion):
        raise InputError(inputs.store.folder, f"{len(new.cases)} patients of known outcome", "Wait for more")
    parts = divide(new, GATE_PARTS, settings.seed)
    inner, gate = (new.subset({id_ for id_, part in parts.items() if bool(part) == is_inner}) for is_inner in (1, 0))
    old = _read_old(version, inputs, numbers)
    replay: list[Fold | None] = [*old.learning] if old and settings.use_replay else [None] * len(champion)
    steps = STEPS[: STEPS.index(settings.until) + 1]
    ladder = choose_step(champion, inner, replay, params, steps, settings.alpha, settings.seed)
    out = root / version.name / cohort
    write_json(out / "ladder.json", {"champion": version.version, "patients": ladder.patients, "steps": ladder.rows()})
    if ladder.step == "keep":
        return UpdateResult(ladder, None, (), out)
    updated = [
        update_fold(model, ladder.step, inner, replay[k], params, k, settings.seed) for k, model in enumerate(champion)
    ]
    challenger = _Challenger(version, inputs, updated, numbers, gate, old, out)
    challenger.write(inner)
    passed = tuple(challenger.compare(params))
    return UpdateResult(ladder, challenger.register(params, ladder.step, passed), passed, out)


def _read_old(version: RegisteredVersion, inputs: ValidationInputs, numbers: Sequence[int]) -> _OldPatients | None:
    """Read the champion's cohort; None if it is not here, as where patients may not be kept."""
    store, prepared = CohortStore.of(version.tags["cohort"], inputs.store.folder.parent), inputs.spec.preprocessor
    if not (store.splits_path.exists() and store.manifest_path.exists()):
        return None
    cohort, splits = store.cohort(prepared.encoder, prepared.mpps), store.splits()
    tested = [select_test_patients(cohort, splits, k) for k in numbers]
    usable = [c.subset({p.patient_id for p in c.cases if _usable(p, inputs)}) for c in tested]
    return _OldPatients(store, [make_fold(cohort, splits, k) for k in numbers], usable)


def _usable(case: Any, inputs: ValidationInputs) -> bool:
    return bool(inputs.spec.accepts(case) and inputs.spec.preprocessor.task.is_known(case))


@dataclass(frozen=True, slots=True)
class _Challenger:
    """The updated folds, and the patients that they are compared with the champion on."""

    champion: RegisteredVersion
    inputs: ValidationInputs
    folds: Sequence[FoldModel]
    numbers: Sequence[int]
    gate: Cohort
    old: _OldPatients | None
    out: Path

    @property
    def _home(self) -> str:
        return self.champion.tags["cohort"]

    @property
    def _name(self) -> str:
        return self.champion.tags["model"]

    @property
    def _models(self) -> ModelStore:
        return ModelStore.of(self._home, self.champion.tags["task"], self.out / "models")

    @property
    def _reports(self) -> Path:
        return self.out / "reports" / self._home / self.champion.tags["task"]

    def write(self, inner: Cohort) -> None:
        """Write weights, and predictions of the old test patients and the gate part."""
        task = self.inputs.spec.preprocessor.task
        learned = [task.target_values(case) for case in inner.cases]
        metadata: dict[str, Any] = {"task": task.name, "kind": task.kind, "classes": list(task.classes)}
        if task.kind == "survival":
            follow_up = {f"train_{name}": [row[name] for row in learned] for name in ("days", "event")}
            metadata |= {key: list(values) for key, values in follow_up.items()}
        for model, number, rows in zip(self.folds, self.numbers, self._rows(self.folds), strict=True):
            model.save(self._models.fold_folder(self._name, number))
            more = {"train_cutoff": model.spec.train_cutoff} if task.kind == "survival" else {}
            path = self._models.predictions_path(self._name, number)
            write_predictions(path, rows.assign(model=self._name), metadata | more)

    def _rows(self, folds: Sequence[FoldModel]) -> list[pd.DataFrame]:
        """Test predictions of each fold: its old test patients, and its share of the gate part."""
        parts, tables = divide(self.gate, len(folds), 0), []
        for k, model in enumerate(folds):
            mine = self.gate.subset({patient for patient, part in parts.items() if part == k})
            tested = [(self.inputs.store.folder.name, mine)]
            if self.old is not None:
                tested.append((self._home, self.old.tested[k]))
            rows = [predict_with_targets(model, each).assign(cohort=name) for name, each in tested if each.cases]
            tables.append(pd.concat(rows, ignore_index=True).assign(fold=self.numbers[k], role="test"))
        return tables

    def compare(self, params: config.Params) -> list[gates.Gate]:
        """Return whether the challenger is not inferior on old and new patients, and the new cohort's checks."""
        task = self.inputs.spec.preprocessor.task
        metadata = {"kind": task.kind, "classes": list(task.classes)}
        ours, theirs = (pd.concat(self._rows(folds)) for folds in (self.folds, self.inputs.ensemble.folds))
        results = []
        for label, cohort in (("nothing forgotten", self._home), ("new patients", self.inputs.store.folder.name)):
            pair = [(rows[rows["cohort"] == cohort], metadata) for rows in (ours, theirs)]
            gate = gates.non_inferior(pair[0], pair[1], params.promotion, params.seed, params.evaluation.resamples)
            results.append(replace(gate, name=f"{label}: not inferior on {cohort}"))
        checks = gates.data_checks(Path("reports") / self.inputs.store.folder.name)
        return [*results, replace(checks, name=f"data checks of {self.inputs.store.folder.name}")]

    def register(self, params: config.Params, step: Step, passed: Sequence[gates.Gate]) -> RegisteredVersion:
        """Evaluate and register as the challenger of the champion's name."""
        stores = [self.inputs.store, *([self.old.store] if self.old else [])]
        patients = pd.concat([store.patients() for store in stores], ignore_index=True)
        known = {n: rule for n, rule in params.evaluation.subgroups.items() if set(rule) <= set(patients.columns)}
        evaluation = params.evaluation.model_copy(update={"subgroups": known, "years": self.inputs.spec.years})
        description, licence = read_cohort_description(self._home, self.inputs.store.folder.parent.parent)
        context = ReportContext(self._home, description, licence)
        evaluate(self._models.folder, patients, evaluation, params.seed, self._reports, context)
        tags = {
            UPDATED_FROM: self.champion.version,
            UPDATED_WITH: self.inputs.store.folder.name,
            UPDATED_STEP: step,
            **{f"{gates.RECORDED}{i}": json.dumps(gate.to_json()) for i, gate in enumerate(passed)},
            **{key: value for key, value in self.champion.tags.items() if key.startswith(TEACHER)},
        }
        folder = self._models.model_folder(self._name)
        return register_update(params, self.champion, folder, self._reports, tags, self.inputs.store)
