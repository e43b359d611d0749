"""What the tables of a cohort must be, sheet by sheet; judged by `dml.checks.engine`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dml.checks.engine import Rule, Sheet
from dml.checks.near_duplicates import same_transcriptome
from dml.cohorts.stores import Stores
from dml.config.params import Checks, TestPopulation
from dml.core.errors import ConfigError
from dml.core.types import SUBSPACES, SURVIVAL

LONGEST_DAYS = 40 * 365.25
YES = {"value_set": ["yes"]}


def counts(stores: Stores) -> dict[str, int | str]:
    """Numbers for the head of the report."""
    with_slide, with_rna = set(stores.slides["patient_id"]), set(stores.expression.patient_ids)
    followed = stores.patients.dropna(subset=["survival_days", "event"])
    return {
        "patients": len(stores.patients),
        "slides": len(stores.slides),
        "genes": len(stores.expression.genes),
        "patients with slide and expression": len(with_slide & with_rna),
        "patients with slide only": len(with_slide - with_rna),
        "patients with expression only": len(with_rna - with_slide),
        "patients with follow-up": len(followed),
        "deaths": int(followed["event"].astype(bool).sum()),
        "sites": stores.patients["site"].nunique(),
        **{f"{group} genes measured": _measured(stores, group) for group in SUBSPACES if stores.expression.genes},
    }


def _measured(stores: Stores, subspace: str) -> str:
    declared = stores.groups.get("declared", {}).get(subspace, len(stores.groups[subspace]))
    found = len(set(stores.groups[subspace]) & set(stores.expression.genes))
    return f"{found} of {declared} ({found / declared:.0%})" if declared else "0"


def sheets(
    stores: Stores, config: Checks, tasks: Sequence[str] | None, tested: TestPopulation = "paired"
) -> list[Sheet]:
    """Lay out all sheets of a cohort. `tasks` are what will be learnt (default: all); others only warn.

    `tested` says whom folds may test (``split.test_population``); there must be enough of them.

    Raises
    ------
    ConfigError
        If a task is neither survival nor a label of the cohort.
    """
    every = [SURVIVAL, *stores.classes]
    if unknown := [task for task in tasks or () if task not in every]:
        raise ConfigError(f"tasks: {', '.join(unknown)} is no task of this cohort; there are {', '.join(every)}")
    sizes = _sizes(stores, config, every if tasks is None else tasks, tested)
    laid = [_patients(stores), sizes, _slides(stores)]
    return laid + ([_expression(stores), _genes(stores), _groups(stores, config)] if stores.expression.genes else [])


def _patients(stores: Stores) -> Sheet:
    frame = stores.patients.copy()
    time, event = frame["survival_days"].notna(), frame["event"].notna()
    frame["follow_up"] = np.select(
        [time & event, ~time & ~event], ["whole", "none"], np.where(time, "no event", "no time")
    )
    measured = frame["patient_id"].isin(set(stores.slides["patient_id"]) | set(stores.expression.patient_ids))
    frame["has_data"] = _yes(measured)
    frame["has_target"] = _yes((time & event) | frame[list(stores.classes)].notna().any(axis=1))
    source = "Correct the raw table, or list the patient under `exclude` in the cohort description"
    unit = "Check survival.unit in the cohort description"
    rules = [
        Rule("patient_id", "present", "every patient has an id", source, name="id_present"),
        Rule("patient_id", "unique", "patient ids are not repeated", source, name="id_unique"),
        Rule("survival_days", "within", "no negative time", source, {"min_value": 0}, name="time_negative"),
        Rule(
            "survival_days",
            "within",
            "no time above 40 years",
            unit,
            {"max_value": LONGEST_DAYS},
            "warning",
            "time_long",
        ),
        Rule("event", "among", "event is 0 or 1", source, {"value_set": [True, False]}),
        Rule("follow_up", "among", "time and event are known together", source, {"value_set": ["whole", "none"]}),
        Rule("age", "within", "age is between 0 and 120 years", "Check age.unit", {"min_value": 0, "max_value": 120}),
        Rule("sex", "among", "sex is 0 or 1", "Check the coding of sex", {"value_set": [0.0, 1.0]}),
        Rule(
            "has_data",
            "among",
            "every patient has a slide or expression",
            "Harmless; keep: with_data drops them",
            YES,
            "warning",
        ),
        Rule(
            "has_target",
            "among",
            "every patient has follow-up or a label",
            "Used for distillation only",
            YES,
            "warning",
        ),
    ]
    rules += [
        Rule(name, "among", f"{name} is one of its classes", "Correct `labels`", {"value_set": list(classes)})
        for name, classes in stores.classes.items()
    ]
    return Sheet("patients", "patients.parquet", frame, ("patient_id",), tuple(rules))


def _sizes(stores: Stores, config: Checks, tasks: Sequence[str], tested: TestPopulation) -> Sheet:
    rows: list[tuple[str, int, int, str | None]] = [("patients", len(stores.patients), config.min_patients, None)]
    if stores.expression.patient_ids and tested == "paired":
        paired = "patients with slide and expression (split.test_population: slide asks for a slide only)"
        rows.append((paired, len(stores.paired()), config.min_patients, None))
    else:
        rows.append(("patients with slide", stores.slides["patient_id"].nunique(), config.min_patients, None))
    followed = stores.patients.dropna(subset=["survival_days", "event"])
    rows.append(
        (
            "deaths seen (all censored: nothing to learn)",
            int(followed["event"].astype(bool).sum()),
            config.min_class_size,
            SURVIVAL,
        )
    )
    for label, classes in stores.classes.items():
        known = stores.patients[label].value_counts()
        rows.append((f"classes of {label} that occur", int((known > 0).sum()), 2, label))
        rows += [(f"{label} = {name}", int(known.get(name, 0)), config.min_class_size, label) for name in classes]
    frame = pd.DataFrame(rows, columns=["quantity", "found", "needed", "task"])
    enough, matters = _yes(frame["found"] >= frame["needed"]), frame["task"].isna() | frame["task"].isin(tasks)
    frame["enough"] = enough.where(matters)
    frame["enough_elsewhere"] = enough.where(~matters)
    remedy = "Add patients, merge classes in `labels`, or lower checks.min_patients / min_class_size in params.yaml"
    rules = (
        Rule("enough", "among", "there is enough to learn every task", remedy, YES),
        Rule("enough_elsewhere", "among", "there is enough to learn the other labels", remedy, YES, "warning"),
    )
    return Sheet("sizes", "patients.parquet", frame, ("quantity", "found", "needed"), rules)


def _slides(stores: Stores) -> Sheet:
    frame = stores.slides.copy()
    frame["patient_known"] = _yes(frame["patient_id"].isin(stores.patients["patient_id"]))
    frame["file_there"] = [None if path is None else ("yes" if Path(path).exists() else "no") for path in frame["path"]]
    known = "Add the patient to a table, or list patient or slide under `exclude` in the cohort description"
    rules = (
        Rule("slide_id", "present", "every slide has an id", "Correct the slide table", name="id_present"),
        Rule("slide_id", "unique", "slide ids are not repeated", "Correct the slide table", name="id_unique"),
        Rule("patient_known", "among", "every slide belongs to a known patient", known, YES),
        Rule("mpp", "within", "microns per pixel are plausible", "Correct `mpp`", {"min_value": 0.05, "max_value": 20}),
        Rule(
            "file_there", "among", "every slide file exists", "The tile stage will record it as failed", YES, "warning"
        ),
    )
    return Sheet("slides", "slides.parquet", frame, ("slide_id", "patient_id"), rules)


def _expression(stores: Stores) -> Sheet:
    matrix = stores.expression
    frame = pd.DataFrame({"patient_id": matrix.patient_ids})
    frame["patient_known"] = _yes(frame["patient_id"].isin(stores.patients["patient_id"]))
    frame["finite"] = _yes(pd.Series(np.isfinite(matrix.values).all(axis=1)))
    frame["varies"] = _yes(pd.Series(np.ptp(np.nan_to_num(matrix.values), axis=1) > 0))
    frame["twin"] = same_transcriptome(matrix.patient_ids, matrix.values).to_numpy()
    frame["own"] = _yes(frame["twin"] == "")
    twice = "One sample was handed in for two patients; list the wrong one under `exclude`"
    remedy = "Correct the expression matrix"
    rules = (
        Rule("patient_id", "unique", "one expression vector a patient", remedy),
        Rule("patient_known", "among", "expression belongs to known patients", remedy, YES),
        Rule("finite", "among", "no NaN or Inf in expression", remedy, YES),
        Rule("varies", "among", "no patient has the same value in all genes", remedy, YES),
        Rule("own", "among", "no two patients have the same transcriptome", twice, YES),
    )
    return Sheet("expression", "expression.parquet", frame, ("patient_id", "twin"), rules)


def _genes(stores: Stores) -> Sheet:
    matrix = stores.expression
    spread = np.ptp(np.nan_to_num(matrix.values), axis=0) if len(matrix.patient_ids) else np.ones(len(matrix.genes))
    frame = pd.DataFrame({"gene": matrix.genes, "varies": _yes(pd.Series(spread > 0))})
    rules = (
        Rule("gene", "unique", "gene symbols are not repeated", "Correct the expression matrix"),
        Rule("varies", "among", "every gene varies", "Harmless; it teaches nothing", YES, "warning"),
    )
    return Sheet("genes", "expression.parquet", frame, ("gene",), rules)


def _groups(stores: Stores, config: Checks) -> Sheet:
    measured = set(stores.expression.genes)
    restricted, floor = stores.groups.get("restricted", False), stores.groups.get("min_genes", 1)
    rows = []
    for subspace in SUBSPACES:
        declared = stores.groups.get("declared", {}).get(subspace, len(stores.groups[subspace]))
        found = len(measured & set(stores.groups[subspace]))
        coverage = found / declared if declared else 0.0
        enough = found >= floor and (restricted or coverage >= config.min_gene_coverage)
        absent = ", ".join(sorted(set(stores.groups[subspace]) - measured)[:10])
        rows.append((subspace, declared, found, round(coverage, 3), "yes" if enough else "no", absent))
    names = ["group", "declared", "measured", "coverage", "enough", "absent"]
    needs = f"at least {floor} genes" + ("" if restricted else f" and {config.min_gene_coverage:.0%}")
    remedy = "Check expression.gene (symbols, not Ensembl ids?), choose other gene_groups, or lower " + (
        "gene_groups.min_genes"
        if restricted
        else "checks.min_gene_coverage in params.yaml, or say restrict_to_measured"
    )
    rule = Rule("enough", "among", f"{needs} of each group are measured", remedy, YES)
    return Sheet(
        "gene_groups", "gene_groups.json", pd.DataFrame(rows, columns=names), tuple(names[:4] + names[5:]), (rule,)
    )


def _yes(mask: pd.Series) -> pd.Series:
    return mask.astype(bool).map({True: "yes", False: "no"}).astype(object)
