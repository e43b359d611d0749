"""Expectations on where a cohort's values come from: ids match, nothing contradicts follow-up, one sample a patient."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dml.checks.engine import YES, CheckTable, Expectation, yes_no
from dml.cohorts.stores import CohortTables
from dml.config.params import Checks

LEFT_OUT = {"patient": "patients left out", "slide": "slides left out", "expression": "samples left out"}
"""Item of the ledger to the line of the report that counts what was left out."""


def provenance_counts(cohort: CohortTables) -> dict[str, int | str]:
    """Return what was left out and why, how ids match, and the medians of follow-up, for the head of the report."""
    followed = cohort.patients.dropna(subset=["survival_days", "event"])
    left_out = {line: cohort.ledger.left_out(item) for item, line in LEFT_OUT.items()}
    return {
        **_format_follow_up(followed),
        **{line: _format_counts(counts) for line, counts in left_out.items() if counts},
        **{f"ids, {j.name}": f"{j.matched} of {j.left} and {j.right} match" for j in cohort.ledger.joins},
    }


def provenance_tables(cohort: CohortTables, config: Checks) -> list[CheckTable]:
    """Return the tables of follow-up, joins and samples; none of what the ledger does not hold."""
    return [*_follow_up(cohort), *_joins(cohort, config), *_samples(cohort)]


def _follow_up(cohort: CohortTables) -> list[CheckTable]:
    """Follow-up that another cell contradicts, and whether anybody was followed for a year."""
    records = [r for r in cohort.ledger.records if r.item == "survival"]
    days = cohort.patients["survival_days"].dropna()
    if not len(days):
        return []
    rows = [(r.patient_id, r.rule, r.value, yes_no(pd.Series([r.status == "used"]))[0]) for r in records]
    frame = pd.DataFrame([*rows, ("all", "", "", None)], columns=["patient_id", "rule", "value", "consistent"])
    frame["longest_days"] = [*([np.nan] * len(rows)), float(days.max())]
    year = {"min_value": 365}
    cells, unit = "Correct the raw table; until then the rule counts", "Is survival.unit right?"
    expectations = (
        Expectation("consistent", "in_set", "no cell contradicts time and event", cells, YES, "warning"),
        Expectation("longest_days", "between", "somebody was followed for a year", unit, year, "warning"),
    )
    return [CheckTable("follow_up", "patients.parquet", frame, ("patient_id", "value", "rule"), expectations)]


def _joins(cohort: CohortTables, config: Checks) -> list[CheckTable]:
    """How the ids of the cohort's tables match."""
    joins = cohort.ledger.joins
    if not joins:
        return []
    rows = [(j.name, f"{j.matched} of {j.left} and {j.right}", j.format_examples(), j.hint) for j in joins]
    frame = pd.DataFrame(rows, columns=["ids", "matched", "unmatched", "hint"])
    frame["share"] = [round(join.share, 3) for join in joins]
    frame["spelled_alike"] = yes_no(frame["hint"] == "")
    remedy = "Write ids alike in all files (R: check.names = FALSE), or cut the part that counts by a pattern"
    enough = {"min_value": config.min_matched}
    share = f"at least {config.min_matched:.0%} of the ids of two tables match (checks.min_matched)"
    expectations = (
        Expectation("share", "between", share, remedy, enough),
        Expectation("spelled_alike", "in_set", "no more ids would match in another spelling", remedy, YES),
    )
    return [CheckTable("joins", "provenance.parquet", frame, ("ids", "matched", "unmatched", "hint"), expectations)]


def _samples(cohort: CohortTables) -> list[CheckTable]:
    """Patients of whom several samples were measured."""
    records = [r for r in cohort.ledger.records if r.item == "expression" and r.patient_id]
    others = [r for r in records if r.status == "left out" and r.rule.startswith("another sample counts")]
    taken = {r.patient_id: r for r in records if r.status == "used"}
    if not taken:
        return []
    rows = [(r.patient_id, taken[r.patient_id].source, r.source, taken[r.patient_id].rule) for r in others]
    frame = pd.DataFrame(rows, columns=["patient_id", "taken", "left_out", "rule"])
    frame["single"] = "no"
    remedy = "Harmless if the rule is right; else name the sample in expression.id or sample_types"
    expectation = Expectation("single", "in_set", "every patient has one sample", remedy, YES, "warning")
    return [CheckTable("samples", "provenance.parquet", frame, tuple(frame.columns[:4]), (expectation,))]


def _format_follow_up(followed: pd.DataFrame) -> dict[str, str]:
    days, dead = followed["survival_days"], followed["event"].astype(bool)
    if not len(days):
        return {}
    medians = [f"{days[group].median():.0f}" if group.any() else "none" for group in (dead, ~dead)]
    text = f"median {medians[0]} of the dead, {medians[1]} of the others, {days.max():.0f} at most"
    return {"days of follow-up": text}


def _format_counts(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{n} x {rule}" for rule, n in counts.items()) or "none"
