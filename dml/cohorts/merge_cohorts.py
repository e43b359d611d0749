"""A cohort merged from several stored ones: every patient belongs to one of them, genes are aligned by symbol.

The raw files of the merged cohort are the stores of its parts, ``data/raw/<name>/<part>/`` (`import_raw.import_cohort`
links them). So every stage runs as for any other cohort, features are computed once, and a patient keeps the test fold
of the part: models of one cohort and of several are evaluated on the same patients.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dml.cohorts.description import CohortDescription
from dml.cohorts.provenance import Ledger
from dml.cohorts.splits import NO_INNER_FOLD, UNPAIRED, sort_splits
from dml.cohorts.store_files import DeclaredGroups, ExpressionMatrix, read_splits
from dml.cohorts.stores import CohortTables, read_cohort_tables
from dml.core.errors import InputError, listed
from dml.core.types import SUBSPACES, GeneGroups

logger = logging.getLogger(__name__)

STORES = ("patients.parquet", "slides.parquet", "expression.parquet", "gene_groups.json", "splits.parquet")
"""Of a part, beside its features."""
OPTIONAL = ("provenance.parquet",)
"""Of a part that was stored by version 0.2 or later."""
COHORT = "cohort"
"""Column of patients.parquet with the part that a patient belongs to."""

Parts = Mapping[str, CohortTables]


def merge_cohorts(description: CohortDescription) -> CohortTables:
    """Concatenate the tables of the parts of a cohort.

    Patients get a column `cohort`; labels, classes and follow-up stay as they are, unknown where a part does not have
    the column. Genes are those that all parts with expression measure; gene groups hold what is in the same
    group everywhere. Slides have no file here: their features are those of the parts.

    Raises
    ------
    InputError
        If parts share a patient or slide, measure in different units or no common gene, or order classes differently.
    """
    parts = {name: read_cohort_tables(description.raw_folder / name) for name in description.combines}
    _check_disjoint(description, {name: part.patients["patient_id"] for name, part in parts.items()}, "patients")
    _check_disjoint(description, {name: part.slides["slide_id"] for name, part in parts.items()}, "slides")
    expression = _expression(description, parts)
    slides = _concatenate([part.slides for part in parts.values()], "slide_id").assign(path=None)
    groups = _groups([p.groups for p in parts.values() if p.expression.genes] or [p.groups for p in parts.values()])
    ledger = Ledger([record for part in parts.values() for record in part.ledger.records])
    classes = _classes(description, parts)
    return CohortTables(_patients(description, parts), slides, expression, groups, classes, ledger)


def merge_splits(description: CohortDescription, eligible: set[str], folds: int) -> pd.DataFrame:
    """Concatenate the folds of the parts, in the form of `splits.make_splits`.

    Parameters
    ----------
    eligible : set of str
        Patients who may be tested here; the others train in every fold.
    folds : int
        Number of test folds that every part must have.

    Raises
    ------
    InputError
        If a part has other folds.
    """
    read = {name: read_splits(description.raw_folder / name / "splits.parquet") for name in description.combines}
    for name, splits in read.items():
        if sorted(set(splits["fold"])) != list(range(folds)):
            problem = f"cohort {name} has {splits['fold'].nunique()} folds, params.yaml lists {folds}"
            remedy = f"Set the same folds in cohorts/{name}.yaml (dml cohort use {name}, dvc repro split), import again"
            raise InputError(description.raw_folder / name / "splits.parquet", problem, remedy)
    joint = pd.concat(read.values(), ignore_index=True)
    never = ~joint["patient_id"].isin(eligible)
    for column, value in (("role", "train"), ("inner_fold", NO_INNER_FOLD), ("stratum", UNPAIRED)):
        joint[column] = joint[column].mask(never, value)
    return sort_splits(joint)


def _check_disjoint(description: CohortDescription, ids: Mapping[str, pd.Series], what: str) -> None:
    owner: dict[str, str] = {}
    for name, series in ids.items():
        if both := sorted(set(series) & owner.keys()):
            problem = f"{len(both)} {what} are in {owner[both[0]]} and in {name}: {listed(both)}"
            remedy = f"List them under `exclude` in cohorts/{name}.yaml, build it and import again"
            raise InputError(description.raw_folder, problem, remedy)
        owner |= dict.fromkeys(series, name)


def _patients(description: CohortDescription, parts: Parts) -> pd.DataFrame:
    frames = []
    for name, part in parts.items():
        frame = part.patients.copy()
        if COHORT not in frame:  # a part that was combined itself knows more
            frame.insert(2, COHORT, name)
        if not description.shared_sites:
            named = frame["site"] != "unknown"
            frame["site"] = frame["site"].where(~named, name + ":" + frame["site"])
        frames.append(frame)
    _warn_of_shared_sites(description, dict(zip(parts, frames, strict=True)))
    return _concatenate(frames, "patient_id")


def _warn_of_shared_sites(description: CohortDescription, frames: Mapping[str, pd.DataFrame]) -> None:
    sites = [set(frame["site"]) - {"unknown"} for frame in frames.values()]
    shared = sorted({site for i, one in enumerate(sites) for other in sites[i + 1 :] for site in one & other})
    if shared:
        which = f"{len(shared)} sites are in several cohorts and taken as the same hospital ({listed(shared)})"
        logger.warning("%s: %s; if they are not, set shared_sites: false", description.name, which)


def _concatenate(frames: Sequence[pd.DataFrame], key: str) -> pd.DataFrame:
    """Stack tables and sort by the key; a column that one of them lacks is unknown there."""
    columns = list(dict.fromkeys(name for frame in frames for name in frame.columns))
    stacked = {name: [value for frame in frames for value in _cells(frame, name)] for name in columns}
    return pd.DataFrame(stacked).sort_values(key, ignore_index=True)


def _cells(frame: pd.DataFrame, name: str) -> Iterable[Any]:
    return frame[name] if name in frame else [None] * len(frame)


def _classes(description: CohortDescription, parts: Parts) -> dict[str, Sequence[str]]:
    """Take the longest list of classes of each label; the others must be a part of it, in its order."""
    joint: dict[str, Sequence[str]] = {}
    for label in dict.fromkeys(label for part in parts.values() for label in part.classes):
        lists = {name: list(part.classes[label]) for name, part in parts.items() if label in part.classes}
        longest = max(lists.values(), key=len)
        for name, classes in lists.items():
            if not classes and longest:
                problem = f"label {label}: a number in {name}, with the classes {', '.join(longest)} in another"
                raise InputError(description.raw_folder, problem, "Give the two different names")
            if classes != [each for each in longest if each in classes]:
                problem = f"label {label}: {name} has the classes {', '.join(classes)}, another {', '.join(longest)}"
                remedy = "Write them alike, in one order, in the descriptions of the parts"
                raise InputError(description.raw_folder, problem, remedy)
        joint[label] = longest
    return joint


def _expression(description: CohortDescription, parts: Parts) -> ExpressionMatrix:
    measured = {name: part.expression for name, part in parts.items() if part.expression.patient_ids}
    if not measured:
        return next(iter(parts.values())).expression
    units = {matrix.unit: name for name, matrix in measured.items()}
    if len(units) > 1:
        problem = "expression is in " + ", ".join(f"{unit} in {name}" for unit, name in units.items())
        remedy = "Bring all to one: expression.convert in the description of a part, build it and import again"
        raise InputError(description.raw_folder, problem, remedy)
    genes = sorted(set.intersection(*(set(matrix.genes) for matrix in measured.values())))
    if not genes:
        problem = "no gene is measured in all of " + ", ".join(measured)
        raise InputError(description.raw_folder, problem, "Are they named alike? expression.symbols: approved")
    for name, matrix in measured.items():
        logger.info("%s: %d genes, %d of them in all cohorts", name, len(matrix.genes), len(genes))
    ids = [patient for matrix in measured.values() for patient in matrix.patient_ids]
    values = np.concatenate([_columns(matrix, genes) for matrix in measured.values()])
    order = np.argsort(np.array(ids, dtype=object), kind="stable")
    source = "; ".join(f"{name}: {matrix.source}" for name, matrix in measured.items())
    return ExpressionMatrix(tuple(ids[i] for i in order), tuple(genes), values[order], next(iter(units)), source)


def _columns(matrix: ExpressionMatrix, genes: Sequence[str]) -> np.ndarray:
    at = {gene: i for i, gene in enumerate(matrix.genes)}
    return np.asarray(matrix.values[:, [at[gene] for gene in genes]])


def _groups(parts: Sequence[DeclaredGroups]) -> DeclaredGroups:
    """Return the genes that are in the same group of all parts; the floor is the strictest of them."""
    common = {s: sorted(set.intersection(*(set(getattr(part.groups, s)) for part in parts))) for s in SUBSPACES}
    provenance = "; ".join(dict.fromkeys(part.groups.provenance for part in parts))
    groups = GeneGroups(tuple(common["tumor"]), tuple(common["tme"]), provenance)
    declared = {str(s): len(genes) for s, genes in common.items()}
    return DeclaredGroups(groups, declared, any(p.restricted for p in parts), max(p.min_genes for p in parts))
