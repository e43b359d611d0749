"""Patients of a report: the flow from the cohort to the test patients, and the characteristics of both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.core.files import read_parquet
from dml.core.tasks import DAYS_PER_YEAR
from dml.core.types import SURVIVAL
from dml.data.cohort_store import CohortStore
from dml.evaluation.metrics.kaplan_meier import survival_curve
from dml.evaluation.results import Results


@dataclass(frozen=True, slots=True)
class FlowStep:
    """A box of the flow diagram, with the patients excluded before it and why; `excluded` None for the first."""

    text: str
    count: int
    excluded: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many records of one kind (patient, slide, expression, survival, ...) one rule left out of the cohort."""

    item: str
    rule: str
    records: int
    patients: int


@dataclass(frozen=True, slots=True)
class PatientFlow:
    """Counts of patients, from the whole cohort to those tested; `folds` has one mapping of role to count per fold.

    `tested_without_expression` counts test patients without transcriptome (split.test_population: slide); `left_out` is
    what the ledger of the cohort says was left out before.
    """

    patients: int
    with_slide: int
    with_expression: int
    with_both: int
    with_outcome: int
    tested: int
    folds: tuple[Mapping[str, int], ...]
    tested_without_expression: int = 0
    left_out: tuple[LeftOut, ...] = ()

    def steps(self) -> list[FlowStep]:
        """Return the boxes of the flow diagram."""
        boxes = [
            *self._in_cohort(),
            FlowStep("with usable slide", self.with_slide, self.patients - self.with_slide, "without usable slide"),
        ]
        if not self.tested_without_expression:
            excluded, reason = self.with_slide - self.with_both, "without transcriptome: used in training, never tested"
            boxes.append(FlowStep("with slide and transcriptome", self.with_both, excluded, reason))
        excluded, reason = boxes[-1].count - self.tested, "of unknown outcome for this task"
        return [*boxes, FlowStep("with known outcome: tested once each", self.tested, excluded, reason)]

    def _in_cohort(self) -> list[FlowStep]:
        rules = [each for each in self.left_out if each.item == "patient"]
        if not rules:
            return [FlowStep("patients in the cohort", self.patients)]
        excluded = sum(each.patients for each in rules)
        reason = "left out: " + "; ".join(f"{each.patients} {each.rule}" for each in rules)
        return [
            FlowStep("patients in the raw tables", self.patients + excluded),
            FlowStep("patients in the cohort", self.patients, excluded, reason),
        ]


@dataclass(frozen=True, slots=True)
class ExternalFlow(PatientFlow):
    """Counts of a cohort that a finished model is applied to: there are no folds.

    `with_slide` counts those with features at every resolution of the model, `with_outcome` those of them with a known
    outcome, `tested` those of these that were not used to develop the model.
    """

    def steps(self) -> list[FlowStep]:
        """Return the boxes of the flow diagram."""
        known, used = self.with_outcome, self.with_outcome - self.tested
        unusable = self.patients - self.with_slide
        return [
            FlowStep("patients in the cohort", self.patients),
            FlowStep("with usable features", self.with_slide, unusable, "without usable features"),
            FlowStep("with known outcome", known, self.with_slide - known, "of unknown outcome for this task"),
            FlowStep("not used to develop the model: evaluated", self.tested, used, "used in model development"),
        ]


def count_flow(folder: Path, task: str) -> PatientFlow:
    """Count the patients of ``data/<cohort>`` for a task; roles count only patients whose outcome is known.

    Raises
    ------
    InputError
        If patients, slides, expression or splits are missing.
    """
    store = CohortStore(folder)
    patients, splits = store.patients(), store.splits()
    everyone = set(patients["patient_id"])
    slide = _with_slide(store) & everyone
    expression = set(read_parquet(store.expression_path, ["patient_id"])[0]["patient_id"].to_pylist())
    columns = ["survival_days", "event"] if task == SURVIVAL else [task]
    outcome = set(patients.loc[patients[columns].notna().all(axis=1), "patient_id"])
    known = splits[splits["patient_id"].isin(outcome)]
    counts = known.groupby(["fold", "role"]).size().unstack(fill_value=0)
    folds = tuple(
        {role: int(row.get(role, 0)) for role in ("train", "validation", "test")} for _, row in counts.iterrows()
    )
    unpaired = known[(known["role"] == "test") & ~known["patient_id"].isin(expression & everyone)]
    return PatientFlow(
        patients=len(everyone),
        with_slide=len(slide),
        with_expression=len(expression & everyone),
        with_both=len(slide & expression),
        with_outcome=len(outcome),
        tested=sum(fold["test"] for fold in folds),
        folds=folds,
        tested_without_expression=unpaired["patient_id"].nunique(),
        left_out=count_left_out(folder),
    )


def count_left_out(folder: Path) -> tuple[LeftOut, ...]:
    """Count what the ledger ``data/<cohort>/provenance.parquet`` says was left out; stores made elsewhere have none."""
    path = folder / "provenance.parquet"
    if not path.exists():
        return ()
    ledger = read_parquet(path, ["patient_id", "item", "status", "rule"])[0].to_pandas()
    rows = ledger[ledger["status"] == "left out"]
    return tuple(
        LeftOut(item, rule, len(group), group.loc[group["patient_id"] != "", "patient_id"].nunique())
        for (item, rule), group in rows.groupby(["item", "rule"], sort=True)
    )


def describe_patients(
    results: Results, patients: pd.DataFrame, labels: Sequence[str], numbers: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Describe age, sex, follow-up, sites, labels and numeric labels of the test patients and of all patients.

    Returns
    -------
    list of dict
        ``characteristic``, ``tested`` and ``all`` as text, in order; unknown values are counted, not hidden.
    """
    tested = patients[patients["patient_id"].isin(results.patients["patient_id"])]
    values = {label: sorted(patients[label].dropna().unique()) for label in labels}
    parts = ([*_characteristics(part, values), *_numbers(part, numbers)] for part in (tested, patients))
    lines = zip(*parts, strict=True)
    return [{"characteristic": name, "tested": one, "all": other} for (name, one), (_, other) in lines]


def _with_slide(store: CohortStore) -> set[str]:
    if not store.manifest_path.exists():
        return set(store.slides()["patient_id"])
    rows = store.manifest()
    return set(rows.loc[rows["status"] == "ok", "patient_id"].dropna())


def _characteristics(rows: pd.DataFrame, values: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    yield "patients", str(len(rows))
    if "age" in rows:
        yield "age in years, median (quartiles)", _quartiles(rows["age"])
    if "sex" in rows:
        yield "female", _share(rows["sex"] == 1, rows["sex"].notna())
    if {"survival_days", "event"} <= set(rows):
        known = rows[rows["survival_days"].notna() & rows["event"].notna()]
        days, event = known["survival_days"].to_numpy(float), known["event"].to_numpy(bool)
        yield "deaths", _share(pd.Series(event), pd.Series(np.ones(len(event), bool)))
        yield "years of follow-up, median (reverse Kaplan-Meier)", _median_years(days, ~event)
        yield "years of survival, median (Kaplan-Meier)", _median_years(days, event)
    yield "sites", str(rows["site"].nunique())
    for label, known_values in values.items():
        for value in known_values:
            yield f"{label} {value}", _share(rows[label] == value, rows[label].notna())


def _numbers(rows: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        yield f"{name}, median (quartiles)", _quartiles(rows[name], ".3g")


def _quartiles(values: pd.Series, form: str = ".0f") -> str:
    if not values.notna().any():
        return "-"
    low, middle, high = np.nanquantile(values.to_numpy(float), [0.25, 0.5, 0.75])
    return f"{middle:{form}} ({low:{form}} to {high:{form}}){_unknown(values.isna())}"


def _share(inside: pd.Series, known: pd.Series) -> str:
    if not known.any():
        return "-"
    return f"{int(inside.sum())} of {int(known.sum())} ({inside.sum() / known.sum():.0%}){_unknown(~known)}"


def _unknown(missing: pd.Series) -> str:
    return f", {int(missing.sum())} unknown" if missing.any() else ""


def _median_years(days: np.ndarray, ended: np.ndarray) -> str:
    curve = survival_curve(days, ended)
    below = np.flatnonzero(curve.values <= 0.5)
    return f"{curve.days[below[0]] / DAYS_PER_YEAR:.1f}" if len(below) else "not reached"
