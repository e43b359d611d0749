"""Expectations on the tables of a cohort, table by table; validated by `dml.checks.engine`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dml.checks.engine import YES, CheckTable, Expectation, yes_no
from dml.checks.near_duplicates import duplicate_profiles
from dml.checks.provenance_expectations import provenance_counts, provenance_tables
from dml.cohorts.stores import CohortTables
from dml.config.params import Checks, TestPopulation
from dml.core.errors import ConfigError
from dml.core.types import SUBSPACES, SURVIVAL

MAX_FOLLOW_UP_DAYS = 40 * 365.25


def cohort_counts(cohort: CohortTables) -> dict[str, int | str]:
    """Return the numbers for the head of the report."""
    with_slide, with_rna = set(cohort.slides["patient_id"]), set(cohort.expression.patient_ids)
    followed = cohort.patients.dropna(subset=["survival_days", "event"])
    return {
        "patients": len(cohort.patients),
        "slides": len(cohort.slides),
        "genes": len(cohort.expression.genes),
        "patients with slide and expression": len(with_slide & with_rna),
        "patients with slide only": len(with_slide - with_rna),
        "patients with expression only": len(with_rna - with_slide),
        "patients with follow-up": len(followed),
        "deaths": int(followed["event"].astype(bool).sum()),
        **provenance_counts(cohort),
        "sites": cohort.patients["site"].nunique(),
        **{f"{row[0]} genes measured": _format_coverage(row) for row in _coverage(cohort) if cohort.expression.genes},
    }


def cohort_tables(
    cohort: CohortTables, config: Checks, tasks: Sequence[str] | None, tested: TestPopulation = "paired"
) -> list[CheckTable]:
    """Return all tables of a cohort with their expectations.

    `tasks` are what is trained (default: all); of other labels too few patients are a warning. `tested` is
    ``split.test_population``: there must be enough such patients.

    Raises
    ------
    ConfigError
        If a task is neither survival nor a label of the cohort.
    """
    every = [SURVIVAL, *cohort.classes]
    if unknown := [task for task in tasks or () if task not in every]:
        raise ConfigError(f"tasks: {', '.join(unknown)} is no task of this cohort; there are {', '.join(every)}")
    sizes = _sizes(cohort, config, every if tasks is None else tasks, tested)
    measured = [_expression(cohort), _genes(cohort), _groups(cohort, config)] if cohort.expression.genes else []
    tables = [_patients(cohort), sizes, *provenance_tables(cohort, config)]
    return [*tables, _slides(cohort), *measured]


def _patients(cohort: CohortTables) -> CheckTable:
    frame = cohort.patients.copy()
    time, event = frame["survival_days"].notna(), frame["event"].notna()
    frame["follow_up"] = np.select(
        [time & event, ~time & ~event], ["whole", "none"], np.where(time, "no event", "no time")
    )
    measured = frame["patient_id"].isin(set(cohort.slides["patient_id"]) | set(cohort.expression.patient_ids))
    frame["has_data"] = yes_no(measured)
    frame["has_target"] = yes_no((time & event) | frame[list(cohort.classes)].notna().any(axis=1))
    frame["later_than_day_0"] = yes_no(frame["survival_days"] != 0)
    source = "Correct the raw table, or list the patient under `exclude` in the cohort description"
    unit, longest = "Check survival.unit in the cohort description", {"max_value": MAX_FOLLOW_UP_DAYS}
    with_data, both = "every patient has a slide or expression", {"value_set": ["whole", "none"]}
    dropped, distilled = "Harmless; keep: with_data drops them", "Used for distillation only"
    ages = {"min_value": 0, "max_value": 120}
    expectations = [
        Expectation("patient_id", "not_null", "every patient has an id", source, name="id_present"),
        Expectation("patient_id", "unique", "patient ids are not repeated", source, name="id_unique"),
        Expectation("survival_days", "between", "no negative time", source, {"min_value": 0}, name="time_negative"),
        Expectation("later_than_day_0", "in_set", "no follow-up of day 0", source, YES, "warning"),
        Expectation("survival_days", "between", "no time above 40 years", unit, longest, "warning", "time_long"),
        Expectation("event", "in_set", "event is 0 or 1", source, {"value_set": [True, False]}),
        Expectation("follow_up", "in_set", "time and event are known together", source, both),
        Expectation("age", "between", "age is between 0 and 120 years", "Check age.unit", ages),
        Expectation("sex", "in_set", "sex is 0 or 1", "Check the coding of sex", {"value_set": [0.0, 1.0]}),
        Expectation("has_data", "in_set", with_data, dropped, YES, "warning"),
        Expectation("has_target", "in_set", "every patient has follow-up or a label", distilled, YES, "warning"),
    ]
    expectations += [
        Expectation(name, "in_set", f"{name} is one of its classes", "Correct `labels`", {"value_set": list(classes)})
        for name, classes in cohort.classes.items()
        if len(classes)
    ]
    for name in (name for name, classes in cohort.classes.items() if not len(classes)):
        frame[f"{name}_finite"] = yes_no(~np.isinf(frame[name]))
        expectations.append(Expectation(f"{name}_finite", "in_set", f"{name} is a finite number", source, YES))
    return CheckTable("patients", "patients.parquet", frame, ("patient_id",), tuple(expectations))


def _sizes(cohort: CohortTables, config: Checks, tasks: Sequence[str], tested: TestPopulation) -> CheckTable:
    rows: list[tuple[str, int, int, str | None]] = [("patients", len(cohort.patients), config.min_patients, None)]
    if cohort.expression.patient_ids and tested == "paired":
        paired = "patients with slide and expression (split.test_population: slide asks for a slide only)"
        rows.append((paired, len(cohort.paired()), config.min_patients, None))
    else:
        rows.append(("patients with slide", cohort.slides["patient_id"].nunique(), config.min_patients, None))
    followed = cohort.patients.dropna(subset=["survival_days", "event"])
    deaths = int(followed["event"].astype(bool).sum())
    rows.append(("deaths (all censored: nothing to train on)", deaths, config.min_class_size, SURVIVAL))
    for label, classes in cohort.classes.items():
        if not len(classes):
            known = cohort.patients[label].dropna()
            rows.append((f"patients with a number for {label}", len(known), config.min_patients, label))
            rows.append((f"different numbers of {label}", known.nunique(), 2, label))
            continue
        sizes = cohort.patients[label].value_counts()
        rows.append((f"classes of {label} that occur", int((sizes > 0).sum()), 2, label))
        rows += [(f"{label} = {name}", int(sizes.get(name, 0)), config.min_class_size, label) for name in classes]
    frame = pd.DataFrame(rows, columns=["quantity", "count", "needed", "task"])
    enough, matters = yes_no(frame["count"] >= frame["needed"]), frame["task"].isna() | frame["task"].isin(tasks)
    frame["enough"] = enough.where(matters)
    frame["enough_elsewhere"] = enough.where(~matters)
    remedy = "Add patients, merge classes in `labels`, or lower checks.min_patients / min_class_size in params.yaml"
    others = "there are enough patients for the other labels"
    expectations = (
        Expectation("enough", "in_set", "there are enough patients for every task", remedy, YES),
        Expectation("enough_elsewhere", "in_set", others, remedy, YES, "warning"),
    )
    return CheckTable("sizes", "patients.parquet", frame, ("quantity", "count", "needed"), expectations)


def _slides(cohort: CohortTables) -> CheckTable:
    frame = cohort.slides.drop(columns="fields_px", errors="ignore")
    frame["patient_known"] = yes_no(frame["patient_id"].isin(cohort.patients["patient_id"]))
    frame["file_there"] = [None if path is None else ("yes" if Path(path).exists() else "no") for path in frame["path"]]
    add = "Add the patient to a table, or list patient or slide under `exclude` in the cohort description"
    table, failed, mpp = (
        "Correct the slide table",
        "Stage tile will record it as failed",
        "microns per pixel are plausible",
    )
    expectations: tuple[Expectation, ...] = (
        Expectation("slide_id", "not_null", "every slide has an id", table, name="id_present"),
        Expectation("slide_id", "unique", "slide ids are not repeated", table, name="id_unique"),
        Expectation("patient_known", "in_set", "every slide belongs to a known patient", add, YES),
        Expectation("mpp", "between", mpp, "Correct `mpp`", {"min_value": 0.05, "max_value": 20}),
        Expectation("file_there", "in_set", "every slide file exists", failed, YES, "warning"),
    )
    if "upsample" in frame:
        frame["own_pixels"] = yes_no(frame["upsample"].isna())
        rule, remedy = "no tile may be finer than its image", "slides.upsample allows it; the report counts such slides"
        expectations += (Expectation("own_pixels", "in_set", rule, remedy, YES, "warning"),)
    return CheckTable("slides", "slides.parquet", frame, ("slide_id", "patient_id"), expectations)


def _expression(cohort: CohortTables) -> CheckTable:
    matrix = cohort.expression
    frame = pd.DataFrame({"patient_id": matrix.patient_ids})
    frame["patient_known"] = yes_no(frame["patient_id"].isin(cohort.patients["patient_id"]))
    frame["finite"] = yes_no(pd.Series(np.isfinite(matrix.values).all(axis=1)))
    frame["varies"] = yes_no(pd.Series(np.ptp(np.nan_to_num(matrix.values), axis=1) > 0))
    frame["twin"] = duplicate_profiles(matrix.patient_ids, matrix.values).to_numpy()
    frame["distinct"] = yes_no(frame["twin"] == "")
    twice = "One sample was submitted for two patients; list the wrong one under `exclude`"
    remedy = "Correct the expression matrix"
    expectations = (
        Expectation("patient_id", "unique", "one expression vector a patient", remedy),
        Expectation("patient_known", "in_set", "expression belongs to known patients", remedy, YES),
        Expectation("finite", "in_set", "no NaN or Inf in expression", remedy, YES),
        Expectation("varies", "in_set", "no patient has the same value in all genes", remedy, YES),
        Expectation("distinct", "in_set", "no two patients have the same transcriptome", twice, YES),
    )
    return CheckTable("expression", "expression.parquet", frame, ("patient_id", "twin"), expectations)


def _genes(cohort: CohortTables) -> CheckTable:
    matrix = cohort.expression
    ranges = np.ptp(np.nan_to_num(matrix.values), axis=0) if len(matrix.patient_ids) else np.ones(len(matrix.genes))
    frame = pd.DataFrame({"gene": matrix.genes, "varies": yes_no(pd.Series(ranges > 0))})
    expectations = (
        Expectation("gene", "unique", "gene symbols are not repeated", "Correct the expression matrix"),
        Expectation("varies", "in_set", "every gene varies", "Harmless; it carries no information", YES, "warning"),
    )
    return CheckTable("genes", "expression.parquet", frame, ("gene",), expectations)


def _coverage(cohort: CohortTables) -> list[tuple[str, int, int, float, str]]:
    """Return for each subspace its name, genes declared and measured, their ratio, and the first absent ones."""
    measured, rows = set(cohort.expression.genes), []
    for subspace in SUBSPACES:
        group = set(getattr(cohort.groups.groups, subspace))
        declared, present = cohort.groups.declared.get(subspace, len(group)), len(group & measured)
        share = round(present / declared, 3) if declared else 0.0
        rows.append((str(subspace), declared, present, share, ", ".join(sorted(group - measured)[:10])))
    return rows


def _format_coverage(row: tuple[str, int, int, float, str]) -> str:
    _, declared, measured, share, _ = row
    return f"{measured} of {declared} ({share:.0%})" if declared else "0"


def _groups(cohort: CohortTables, config: Checks) -> CheckTable:
    restricted, floor = cohort.groups.restricted, cohort.groups.min_genes
    names = ["group", "declared", "measured", "coverage", "absent"]
    frame = pd.DataFrame(_coverage(cohort), columns=names)
    share = frame["measured"] / frame["declared"].clip(lower=1)
    covered = restricted | (share >= config.min_gene_coverage)
    frame["enough"] = yes_no((frame["measured"] >= floor) & covered)
    frame["in_the_matrix"] = ", ".join(cohort.expression.genes[:3])
    needs = f"at least {floor} genes" + ("" if restricted else f" and {config.min_gene_coverage:.0%}")
    lower = (
        "gene_groups.min_genes"
        if restricted
        else "checks.min_gene_coverage in params.yaml, or set restrict_to_measured"
    )
    remedy = f"Check expression.gene (symbols, not Ensembl ids?), choose other gene_groups, or lower {lower}"
    expectation = Expectation("enough", "in_set", f"{needs} of each group are measured", remedy, YES)
    return CheckTable("gene_groups", "gene_groups.json", frame, (*names, "in_the_matrix"), (expectation,))
