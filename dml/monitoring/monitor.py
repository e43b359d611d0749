"""Watch a registered version: what was logged against what it was trained on, and against what became of patients."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logit

from dml.core.errors import InputError, listed
from dml.core.tasks import Task, class_column
from dml.evaluation.metric_sets import PRIMARY
from dml.inference.ensemble import Ensemble
from dml.inference.input_summary import SCANNER
from dml.inference.prediction_log import BY_FOLD, LOGGED_AT, PATIENT, SITE, read_key, read_log
from dml.monitoring.drift_tests import Drift, watch_quantities, week_of
from dml.monitoring.outcome_table import ENTRY, EVENT, LABEL, TARGET, TIME, read_outcomes
from dml.monitoring.performance import Check, OutcomeChecks, check_refusals, mean_evidence
from dml.monitoring.quantities import MIN_REFERENCE, Quantity, input_quantities, output_quantities
from dml.registry.packaged_code import download
from dml.registry.packaging import packed_predictions, packed_reference
from dml.registry.versions import RegisteredVersion, resolve
from dml.training.checkpoint import ModelSpec

UPDATED_WITH, COHORT = "update.cohort", "cohort"
"""Tag of a version that was updated, and the column of its test predictions: the reference of outputs."""
REFUSALS, OVERALL, SUBGROUPS = 0.2, 0.4, 0.4
"""Weights in the mean evidence of performance."""
RECENT = 50
"""Patients of whom the recent median is."""


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """How a version is watched.

    Attributes
    ----------
    level : float
        Chance that there is ever an alarm although nothing changed, over all weeks and quantities together.
    baseline : int
        Patients of the log that are the reference; 0 is the training cohort that was packed with the version.
    floor : float, optional
        Lowest concordance that is promised; the lower end of the interval in evaluation by default.
    """

    level: float = 0.05
    baseline: int = 0
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class MonitorResult:
    """What was seen of a version.

    Attributes
    ----------
    notes : tuple of str
        What could not be watched, and why.
    """

    version: RegisteredVersion
    settings: MonitorSettings
    patients: int
    outcomes: int
    drift: Drift
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def limit(self) -> float:
        """Log capital at which drift, or performance, raises the alarm: each has half of the level."""
        return float(np.log(2 / self.settings.level))

    @property
    def evidence(self) -> float:
        """Log of the mean evidence that performance is not what was promised."""
        return mean_evidence(self.checks)

    @property
    def alarms(self) -> list[str]:
        """Return why there is an alarm; nothing if there is none."""
        reasons = []
        if (week := self.drift.first_week(self.settings.level / 2)) is not None:
            largest = sorted(self.drift.quantities, key=lambda each: -each.log_capital.max() - np.log(each.weight))[:3]
            reasons.append(f"drift since {week}: {'; '.join(each.label for each in largest)}")
        if self.evidence >= self.limit:
            worst = max(self.checks, key=lambda check: check.log_e + np.log(check.weight))
            where = f" in {worst.subgroup}" if worst.subgroup else ""
            reasons.append(f"performance: {worst.label}{where} {worst.estimate:.3f}, promised {worst.required}")
        return reasons


def monitor(reference: str, log: Path, outcomes: Path | None, settings: MonitorSettings) -> MonitorResult:
    """Compare what was logged for a version with its reference.

    Parameters
    ----------
    reference : str
        ``<name>@<alias>`` or ``<name>/<version>``.
    log : Path
        Folder of `dml.inference.prediction_log`.
    outcomes : Path, optional
        Table of outcomes, see `read_outcomes`.

    Raises
    ------
    InputError
        If the version, the log or the table cannot be read.
    """
    version = resolve(reference)
    ensemble = Ensemble.load(download(version) / "artifacts" / "folds")
    logged = read_log(log, version.tags["digest"])
    everyone = logged.drop_duplicates(PATIENT, ignore_index=True)
    rows = logged[logged["status"] == "ok"].drop_duplicates(PATIENT, ignore_index=True)
    notes: list[str] = []
    quantities = list(_quantities(version, ensemble, rows, settings, notes))
    rows = rows.iloc[settings.baseline :].reset_index(drop=True)
    seed = int(version.tags["digest"][:8], 16)
    drift = watch_quantities(quantities, week_of(rows[LOGGED_AT]).tolist(), seed, RECENT)
    refused = int((everyone["status"] != "ok").sum())
    checks = [check_refusals(refused, len(everyone), settings.level / 2, REFUSALS)]
    known = 0
    if outcomes is not None:
        table, columns = read_outcomes(outcomes, ensemble.spec.preprocessor.task, read_key(log))
        rows = _join(rows, table, columns, outcomes)
        known = int(rows[_outcome(ensemble.spec.preprocessor.task)].notna().sum())
        if not known:
            raise InputError(outcomes, "none of its patients was logged", "Are its ids those of the predictions?")
        checks += _outcome_checks(version, ensemble.spec, rows, columns, settings)
    return MonitorResult(version, settings, len(everyone), known, drift, tuple(checks), tuple(notes))


def _join(rows: pd.DataFrame, table: pd.DataFrame, subgroups: tuple[str, ...], path: Path) -> pd.DataFrame:
    """Add outcomes and subgroups to the log; a site or scanner of the table replaces that of the log."""
    replaced = [name for name in (SITE, SCANNER) if name in subgroups]
    clash = sorted(set(subgroups) & set(rows.columns) - set(replaced))
    if clash:
        raise InputError(path, f"columns named as the model's outputs: {listed(clash)}", "Rename them")
    return rows.drop(columns=replaced, errors="ignore").merge(table, on=PATIENT, how="left", validate="one_to_one")


def _outcome(task: Task) -> str:
    return {"survival": TIME, "classification": LABEL, "regression": TARGET}[task.kind]


def _quantities(
    version: RegisteredVersion, ensemble: Ensemble, rows: pd.DataFrame, settings: MonitorSettings, notes: list[str]
) -> Iterator[Quantity]:
    outputs = fold_outputs(rows, ensemble.spec.preprocessor.task, ensemble)
    labels = [f"output: {label}" for label in output_labels(ensemble.spec.preprocessor.task)]
    if settings.baseline:
        if len(rows) <= settings.baseline or settings.baseline < MIN_REFERENCE:
            problem = f"{len(rows)} patients were logged, the first {settings.baseline} are to be the reference"
            raise InputError("log", problem, f"Wait for more, or give --baseline {MIN_REFERENCE} at least")
        first, rest = rows.iloc[: settings.baseline], rows.iloc[settings.baseline :]
        yield from input_quantities(first, rest)
        before, after = outputs[: settings.baseline], outputs[settings.baseline :]
        yield from output_quantities(list(before.T), after, labels)
        return
    source = f"models:/{version.name}/{version.version}"
    inputs, tested = packed_reference(source), packed_predictions(source)
    if inputs is None:
        notes.append("no summary of the training cohort was packed: inputs are not watched (give --baseline)")
    else:
        yield from input_quantities(inputs, rows)
    if tested is None:
        notes.append("no test predictions were packed: outputs are not watched (give --baseline)")
    else:
        home = version.tags.get(UPDATED_WITH)
        rows_of = tested[0] if home is None or COHORT not in tested[0] else tested[0][tested[0][COHORT] == home]
        yield from output_quantities(_tested_outputs(rows_of, ensemble), outputs, labels)


def output_labels(task: Task) -> list[str]:
    """Name the watched outputs: the risk, every class but the first, or the number."""
    return {"survival": ["risk"], "classification": [f"log odds of {name}" for name in task.classes[1:]]}.get(
        task.kind, ["value"]
    )


def fold_outputs(rows: pd.DataFrame, task: Task, ensemble: Ensemble) -> np.ndarray:
    """Return the watched outputs [patients, outputs] of one fold of each patient, chosen by the hash.

    Test predictions in development are of one fold each, too; the mean of all folds varies less.
    """
    columns = [name for name in ensemble.outputs if name != "spread"]
    result = np.full((len(rows), len(output_labels(task))), np.nan)
    for i, (patient, by_fold) in enumerate(zip(rows[PATIENT], rows[BY_FOLD], strict=True)):
        fold = int(patient[:8], 16) % len(ensemble.folds)
        values = dict(zip(columns, by_fold[fold], strict=True))
        result[i] = _watched(values, task, ensemble.folds[fold].spec)
    return result


def _watched(values: dict[str, float], task: Task, spec: ModelSpec) -> list[float]:
    if task.kind == "survival":
        return [(values["risk"] - spec.train_cutoff) / spec.train_risk_deviation]
    if task.kind == "classification":
        return [float(logit(np.clip(values[class_column(name)], 1e-6, 1 - 1e-6))) for name in task.classes[1:]]
    return [values["value"]]


def _tested_outputs(tested: pd.DataFrame, ensemble: Ensemble) -> list[np.ndarray]:
    task, order = ensemble.spec.preprocessor.task, {fold: i for i, fold in enumerate(sorted(tested["fold"].unique()))}
    rows = [
        _watched({str(k): v for k, v in row.items()}, task, ensemble.folds[order[row["fold"]]].spec)
        for row in tested.to_dict("records")
        if order[row["fold"]] < len(ensemble.folds)
    ]
    return list(np.array(rows, float).reshape(len(rows), len(output_labels(task))).T)


def _outcome_checks(
    version: RegisteredVersion, spec: ModelSpec, rows: pd.DataFrame, columns: tuple[str, ...], settings: MonitorSettings
) -> Iterator[Check]:
    task = spec.preprocessor.task
    checks = OutcomeChecks(task, spec.years, promised_floor(version, task, settings), settings.level / 2)
    if task.kind == "survival":
        rows = rows.assign(**{ENTRY: rows[ENTRY].fillna(0.0), EVENT: rows[EVENT].eq(True)})
    yield from checks.of(rows, OVERALL)
    named = [name for name in (SITE, SCANNER) if name in rows]
    names = list(dict.fromkeys([*named, *columns]))
    groups = [(name, value) for row in rows[names].to_dict("records") for name, value in row.items()]
    present = dict.fromkeys(group for group in groups if isinstance(group[1], str) and group[1])
    for k, (name, value) in enumerate(present, start=1):  # weights sum to one, however many groups there will be
        members = rows[rows[name] == value].reset_index(drop=True)
        yield from checks.of(members, SUBGROUPS * 6 / (np.pi * k) ** 2, f"{name} {value}")


def promised_floor(version: RegisteredVersion, task: Task, settings: MonitorSettings) -> float:
    """Return the share of concordant pairs that is promised: the one given, else the lower end in evaluation.

    Spearman's rho of numbers is brought to pairs as for two normal variables.

    Raises
    ------
    InputError
        If the version has no such metric.
    """
    if settings.floor is not None:
        return settings.floor
    name = PRIMARY[task.kind]
    value = version.metrics.get(f"{name}_ci_low", version.metrics.get(name))
    if value is None:
        raise InputError(version.name, f"version {version.version} reports no {name}", "Give the lowest one: --floor")
    if task.kind == "regression":
        value = 0.5 + np.arcsin(np.clip(2 * np.sin(np.pi * value / 6), -1, 1)) / np.pi
    return float(np.clip(value, 0.01, 0.99))
