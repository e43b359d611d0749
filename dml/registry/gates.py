"""Promotion gates: what a challenger must reach to become champion; each is a value, a requirement, and a result."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from dml.config.params import Promotion
from dml.core.files import read_json
from dml.core.tasks import RegressionTask, SurvivalTask
from dml.evaluation.intervals import bootstrap_weights, difference
from dml.evaluation.metric_sets import PRIMARY, leading_metric
from dml.registry.version_description import SECTIONS
from dml.registry.versions import TEACHER, RegisteredVersion
from dml.tracking.runs import metric_key

Predictions = tuple[pd.DataFrame, dict[str, Any]]
"""Test predictions of a version and their metadata."""
RECORDED = "gate."
"""Prefix of tags with the gates that were checked when a version was made, as JSON."""
MIN_SHARED_PATIENTS = 20
"""Patients two versions must share to be compared."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of a promotion.

    Examples
    --------
    >>> Gate("c_index floor", True, "0.712", "at least 0.600").row()
    {'gate': 'c_index floor', 'passed': 'yes', 'value': '0.712', 'required': 'at least 0.600'}
    """

    name: str
    passed: bool
    value: str
    required: str

    def row(self) -> dict[str, str]:
        """Return the gate as a row of a table."""
        passed = "yes" if self.passed else "NO"
        return {"gate": self.name, "passed": passed, "value": self.value, "required": self.required}

    def to_json(self) -> dict[str, str | bool]:
        """Return all fields."""
        return {"name": self.name, "passed": self.passed, "value": self.value, "required": self.required}


def floors(challenger: RegisteredVersion, settings: Promotion) -> list[Gate]:
    """One gate per metric that has a lowest value and that the challenger reports."""
    metrics = challenger.metrics
    gates = [
        Gate(f"{name} floor", metrics[name] >= low, f"{metrics[name]:.3f}", f"at least {low:.3f}")
        for name, low in settings.floors.items()
        if name in metrics
    ]
    required = f"one of {', '.join(settings.floors)}"
    return gates or [Gate("metric floor", False, "no metric with a floor was reported", required)]


def calibration(challenger: RegisteredVersion, settings: Promotion) -> list[Gate]:
    """One gate per measure of calibration that has a range and that the challenger reports."""
    metrics = challenger.metrics
    gates = [
        Gate(name, low <= metrics[name] <= high, f"{metrics[name]:.3f}", f"{low:g} to {high:g}")
        for name, (low, high) in settings.calibration.items()
        if name in metrics
    ]
    required = f"one of {', '.join(settings.calibration)}"
    return gates or [Gate("calibration", False, "no measure of calibration was reported", required)]


def subgroups(challenger: RegisteredVersion, names: Iterable[str], settings: Promotion) -> list[Gate]:
    """One gate per subgroup of the evaluation: the main metric inside it has a lowest value, too."""
    main, gates = primary(challenger), []
    floor = settings.subgroup_floor
    if main == PRIMARY["regression"]:  # without information a correlation is 0, a C or AUC 0.5
        floor -= SurvivalTask.chance - RegressionTask.chance
    for name in names:
        metric = challenger.metrics.get(metric_key(f"{main}_{name}"))
        passed = metric is not None and metric >= floor
        value = "not reported" if metric is None else f"{metric:.3f}"
        gates.append(Gate(f"{main} in {name}", passed, value, f"at least {floor:.3f}"))
    return gates


def teacher_gap(challenger: RegisteredVersion, settings: Promotion) -> list[Gate]:
    """For a student: how far its main metric is below that of the teacher it was distilled from; none for others."""
    if challenger.tags.get("model") != "student":
        return []
    main, gate = primary(challenger), partial(Gate, "student-teacher gap")
    teacher, required = challenger.tags.get(TEACHER + main), f"at most {settings.max_teacher_gap:.3f} below its teacher"
    if teacher is None or main not in challenger.metrics:
        return [gate(False, "no teacher was evaluated beside it", required)]
    below = float(teacher) - challenger.metrics[main]
    return [gate(below <= settings.max_teacher_gap, f"{main} {below:+.3f} below", required)]


def model_card(challenger: RegisteredVersion) -> Gate:
    """Whether the version carries the card of its evaluation, and a description of its input and output."""
    missing = [section for section in SECTIONS if section not in challenger.description]
    if "card" not in challenger.tags:
        missing.append(f"cards/{challenger.tags.get('model')}.md of the evaluation")
    return Gate("model card", not missing, f"without {', '.join(missing)}" if missing else "present", "all sections")


def primary(challenger: RegisteredVersion) -> str:
    """Name of the metric that leads a version's evaluation."""
    return next((name for name in PRIMARY.values() if name in challenger.metrics), PRIMARY["survival"])


def data_checks(reports: Path) -> Gate:
    """Whether the checks of cohort and features were run and none failed.

    Parameters
    ----------
    reports : Path
        ``reports/<cohort>``, with checks/cohort.json and checks/features.json.
    """
    states = {name: _success(reports / "checks" / f"{name}.json") for name in ("cohort", "features")}
    value = ", ".join(f"{name} {state}" for name, state in states.items())
    return Gate("data checks", set(states.values()) == {"passed"}, value, "both passed")


def recorded(challenger: RegisteredVersion) -> list[Gate]:
    """Return the gates that an update recorded with a version, in order: on old and on new patients."""
    names = sorted(name for name in challenger.tags if name.startswith(RECORDED))
    return [Gate(**json.loads(challenger.tags[name])) for name in names]


def _success(path: Path) -> str:
    if not path.exists():
        return "not run"
    return "passed" if read_json(path).get("success") else "failed"


def non_inferior(
    challenger: Predictions | None, champion: Predictions | None, settings: Promotion, seed: int, resamples: int
) -> Gate:
    """Whether the main metric is not below the champion's by more than the margin, on the same patients.

    Paired patient bootstrap of the difference; the lower end of its interval decides.
    """
    required = f"difference above {-settings.non_inferiority_margin:+.3f} ({settings.confidence:.0%} interval)"
    gate = partial(Gate, "not inferior to champion", required=required)
    if challenger is None or champion is None:
        return gate(passed=False, value="no test predictions were packed with one of them")
    one, other = _pair(challenger[0], champion[0])
    if len(one) < MIN_SHARED_PATIENTS:
        return gate(passed=False, value=f"only {len(one)} test patients in common")
    weights = bootstrap_weights(one["fold"].to_numpy(int), resamples, seed)
    metric = partial(leading_metric, kind=challenger[1]["kind"], classes=challenger[1].get("classes") or ())
    gap = difference(metric(one), metric(other), weights, settings.confidence)
    if gap is None:
        return gate(passed=False, value="the metric is not defined on these patients")
    value = f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}), {len(one)} patients"
    return gate(passed=bool(gap.low > -settings.non_inferiority_margin), value=value)


def _pair(challenger: pd.DataFrame, champion: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the patients that both tested, in one order; outcomes are taken from the challenger's."""
    shared = sorted(set(challenger["patient_id"]) & set(champion["patient_id"]))
    one = challenger.set_index("patient_id").loc[shared].reset_index()
    other = champion.set_index("patient_id").loc[shared].reset_index()
    truth = [name for name in ("days", "event", "label", "target") if name in one.columns]
    return one, other.assign(**{name: one[name].to_numpy() for name in truth})
