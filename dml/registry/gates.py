"""What a challenger must show before it may become champion: each gate is a figure, a limit, and whether it holds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.config.params import Promotion
from dml.core.files import read_json
from dml.evaluation.intervals import bootstrap_weights, difference
from dml.evaluation.metric_sets import PRIMARY, class_panel
from dml.evaluation.metrics import Metric
from dml.evaluation.metrics.concordance import harrell_c
from dml.registry.version_card import SECTIONS
from dml.registry.versions import TEACHER, Entry

Judged = tuple[pd.DataFrame, dict[str, Any]]
"""Test predictions of a version and their metadata."""
ENOUGH = 20
"""Patients two versions must share to be compared."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of a promotion."""

    name: str
    passed: bool
    found: str
    wanted: str

    def row(self) -> dict[str, str]:
        """Return the gate as a row of a table."""
        return {"gate": self.name, "passed": "yes" if self.passed else "NO", "found": self.found, "wanted": self.wanted}


def floors(challenger: Entry, settings: Promotion) -> list[Gate]:
    """One gate per metric that has a lowest value and that the challenger reports."""
    known = {name: value for name, value in settings.floors.items() if name in challenger.metrics}
    gates = [
        Gate(f"{name} floor", challenger.metrics[name] >= low, f"{challenger.metrics[name]:.3f}", f"at least {low:.3f}")
        for name, low in known.items()
    ]
    nothing = Gate("metric floor", False, "no metric with a floor was reported", f"one of {', '.join(settings.floors)}")
    return gates or [nothing]


def calibration(challenger: Entry, settings: Promotion) -> list[Gate]:
    """One gate per measure of calibration that has a range and that the challenger reports."""
    known = {name: ends for name, ends in settings.calibration.items() if name in challenger.metrics}
    gates = [
        Gate(name, low <= challenger.metrics[name] <= high, f"{challenger.metrics[name]:.3f}", f"{low:g} to {high:g}")
        for name, (low, high) in known.items()
    ]
    wanted = f"one of {', '.join(settings.calibration)}"
    return gates or [Gate("calibration", False, "no measure of calibration was reported", wanted)]


def subgroups(challenger: Entry, names: Iterable[str], settings: Promotion) -> list[Gate]:
    """One gate per subgroup of the evaluation: the main metric inside it has a lowest value, too."""
    main, gates = primary(challenger), []
    for name in names:
        value = challenger.metrics.get(f"{main}_{name}")
        found = "not reported" if value is None else f"{value:.3f}"
        passed = value is not None and value >= settings.subgroup_floor
        gates.append(Gate(f"{main} in {name}", passed, found, f"at least {settings.subgroup_floor:.3f}"))
    return gates


def teacher_gap(challenger: Entry, settings: Promotion) -> list[Gate]:
    """For a student: how far its main metric is below that of the teacher it was distilled from; none for others."""
    if challenger.tags.get("model") != "student":
        return []
    main = primary(challenger)
    known, wanted = challenger.tags.get(f"{TEACHER}{main}"), f"at most {settings.max_teacher_gap:.3f} below its teacher"
    if known is None or main not in challenger.metrics:
        return [Gate("student-teacher gap", False, "no teacher was evaluated beside it", wanted)]
    below = float(known) - challenger.metrics[main]
    return [Gate("student-teacher gap", below <= settings.max_teacher_gap, f"{main} {below:+.3f} below", wanted)]


def model_card(challenger: Entry) -> Gate:
    """Whether the version carries the card of its evaluation, and a description of what it takes, gives and is for."""
    missing = [section for section in SECTIONS if section not in challenger.description]
    if "card" not in challenger.tags:
        missing.append(f"cards/{challenger.tags.get('model')}.md of the evaluation")
    found = f"without {', '.join(missing)}" if missing else "present"
    return Gate("model card", not missing, found, "all sections")


def primary(challenger: Entry) -> str:
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
    found = ", ".join(f"{name} {state}" for name, state in states.items())
    return Gate("data checks", set(states.values()) == {"passed"}, found, "both passed")


def _success(path: Path) -> str:
    if not path.exists():
        return "not run"
    return "passed" if read_json(path).get("success") else "failed"


def non_inferior(
    challenger: Judged | None, champion: Judged | None, settings: Promotion, seed: int, resamples: int
) -> Gate:
    """Whether the main metric is not below the champion's by more than the margin, on the same patients.

    Paired patient bootstrap of the difference; the lower end of its interval decides.
    """
    wanted = f"difference above {-settings.non_inferiority_margin:+.3f} ({settings.confidence:.0%} interval)"
    gate = partial(Gate, "not inferior to champion", wanted=wanted)
    if challenger is None or champion is None:
        return gate(passed=False, found="no test predictions were packed with one of them")
    one, other = _paired(challenger[0], champion[0])
    if len(one) < ENOUGH:
        return gate(passed=False, found=f"only {len(one)} test patients in common")
    weights = bootstrap_weights(one["fold"].to_numpy(int), resamples, seed)
    metric = partial(_metric, kind=challenger[1]["kind"], classes=challenger[1].get("classes") or ())
    found = difference(metric(one), metric(other), weights, settings.confidence)
    if found is None:
        return gate(passed=False, found="the metric is not defined on these patients")
    text = f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}), {len(one)} patients"
    return gate(passed=bool(found.low > -settings.non_inferiority_margin), found=text)


def _paired(challenger: pd.DataFrame, champion: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the patients both tested, in one order; what was observed is taken from the newer one."""
    shared = sorted(set(challenger["patient_id"]) & set(champion["patient_id"]))
    one = challenger.set_index("patient_id").loc[shared].reset_index()
    other = champion.set_index("patient_id").loc[shared].reset_index()
    truth = [name for name in ("days", "event", "label") if name in one.columns]
    return one, other.assign(**{name: one[name].to_numpy() for name in truth})


def _metric(rows: pd.DataFrame, kind: str, classes: Sequence[str]) -> Metric:
    if kind == "classification":
        return class_panel(rows, list(classes))[PRIMARY["classification"]]
    numbers = {name: rows[name].to_numpy(float) for name in ("days", "risk")}
    return partial(harrell_c, **numbers, event=rows["event"].to_numpy(bool), fold=rows["fold"].to_numpy(np.int64))
