"""Several cohorts that are stored already, joined to one: a patient is of one of them, genes are aligned by symbol.

The raw files of the joint cohort are the stores of its parts, ``data/raw/<name>/<part>/`` (`importing.import_cohort`
puts them there). So every stage runs as for any other cohort, features are made once, and a patient keeps the test
fold that he has in his own cohort: models of one cohort and of several are judged on the same patients.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dml.cohorts.build import CohortTables
from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import ExpressionMatrix
from dml.cohorts.gene_groups import Declared
from dml.cohorts.splits import NO_PART, UNPAIRED, in_order, read_splits
from dml.cohorts.stores import Stores, read_stores
from dml.core.errors import InputError, listed
from dml.core.types import SUBSPACES, GeneGroups

logger = logging.getLogger(__name__)

STORES = ("patients.parquet", "slides.parquet", "expression.parquet", "gene_groups.json", "splits.parquet")
"""Of a part, beside its features."""
COHORT = "cohort"
"""Column of patients.parquet that says whose a patient is."""

Parts = Mapping[str, Stores]


def combine_cohorts(description: CohortDescription) -> CohortTables:
    """Join the tables of the parts of a cohort.

    Patients get a column `cohort`; labels, classes and follow-up stay as they are, unknown where a part does not have
    the column. Of the genes those are kept that all parts with expression measure; gene groups hold what is in the same
    group everywhere. Slides have no file here: their features are those of the parts.

    Raises
    ------
    InputError
        If parts share a patient or slide, measure in different units or no common gene, or order classes differently.
    """
    parts = {name: read_stores(description.raw_folder / name) for name in description.combines}
    _check_disjoint(description, {name: part.patients["patient_id"] for name, part in parts.items()}, "patients")
    _check_disjoint(description, {name: part.slides["slide_id"] for name, part in parts.items()}, "slides")
    expression = _expression(description, parts)
    slides = _joined([part.slides for part in parts.values()], "slide_id").assign(path=None)
    groups = _groups([p.groups for p in parts.values() if p.expression.genes] or [p.groups for p in parts.values()])
    return CohortTables(_patients(description, parts), slides, expression, groups, _classes(description, parts))


def combine_splits(description: CohortDescription, eligible: set[str], folds: int) -> pd.DataFrame:
    """Put the folds of the parts together, as `splits.make_splits` returns them.

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
            found = f"cohort {name} has {splits['fold'].nunique()} folds, {folds} are asked for"
            remedy = f"Set the same folds in cohorts/{name}.yaml (dml cohort use {name}, dvc repro split), import again"
            raise InputError(description.raw_folder / name / "splits.parquet", found, remedy)
    joint = pd.concat(read.values(), ignore_index=True)
    never = ~joint["patient_id"].isin(eligible)
    for column, value in (("role", "train"), ("part", NO_PART), ("stratum", UNPAIRED)):
        joint[column] = joint[column].mask(never, value)
    return in_order(joint)


def _check_disjoint(description: CohortDescription, ids: Mapping[str, pd.Series], what: str) -> None:
    owner: dict[str, str] = {}
    for name, own in ids.items():
        if both := sorted(set(own) & owner.keys()):
            found = f"{len(both)} {what} are in {owner[both[0]]} and in {name}: {listed(both)}"
            remedy = f"List them under `exclude` in cohorts/{name}.yaml, build it and import again"
            raise InputError(description.raw_folder, found, remedy)
        owner |= dict.fromkeys(own, name)


def _patients(description: CohortDescription, parts: Parts) -> pd.DataFrame:
    frames = []
    for name, part in parts.items():
        frame = part.patients.copy()
        if COHORT not in frame:  # a part that was combined itself knows more
            frame.insert(2, COHORT, name)
        if not description.shared_sites:
            known = frame["site"] != "unknown"
            frame["site"] = frame["site"].where(~known, name + ":" + frame["site"])
        frames.append(frame)
    _tell_shared_sites(description, dict(zip(parts, frames, strict=True)))
    return _joined(frames, "patient_id")


def _tell_shared_sites(description: CohortDescription, frames: Mapping[str, pd.DataFrame]) -> None:
    sites = [set(frame["site"]) - {"unknown"} for frame in frames.values()]
    shared = sorted({site for i, own in enumerate(sites) for other in sites[i + 1 :] for site in own & other})
    if shared:
        which = f"{len(shared)} sites are in several cohorts and taken as the same hospital ({listed(shared)})"
        logger.warning("%s: %s; if they are not, say shared_sites: false", description.name, which)


def _joined(frames: Sequence[pd.DataFrame], key: str) -> pd.DataFrame:
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
        for name, own in lists.items():
            if own != [each for each in longest if each in own]:
                found = f"label {label}: cohort {name} has the classes {', '.join(own)}, another {', '.join(longest)}"
                remedy = "Write them alike, in one order, in the descriptions of the parts"
                raise InputError(description.raw_folder, found, remedy)
        joint[label] = longest
    return joint


def _expression(description: CohortDescription, parts: Parts) -> ExpressionMatrix:
    measured = {name: part.expression for name, part in parts.items() if part.expression.patient_ids}
    if not measured:
        return next(iter(parts.values())).expression
    units = {matrix.unit: name for name, matrix in measured.items()}
    if len(units) > 1:
        found = "expression is in " + ", ".join(f"{unit} in {name}" for unit, name in units.items())
        remedy = "Bring all to one: expression.convert in the description of a part, build it and import again"
        raise InputError(description.raw_folder, found, remedy)
    genes = sorted(set.intersection(*(set(matrix.genes) for matrix in measured.values())))
    if not genes:
        found = "no gene is measured in all of " + ", ".join(measured)
        raise InputError(description.raw_folder, found, "Are they named alike? expression.symbols: approved")
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


def _groups(parts: Sequence[Mapping[str, Any]]) -> Declared:
    """Keep a gene in a group where all parts have it there; the floors are the strictest of them."""
    common: dict[str, list[str]] = {s: sorted(set.intersection(*(set(part[s]) for part in parts))) for s in SUBSPACES}
    provenance = "; ".join(dict.fromkeys(str(part.get("provenance", "")) for part in parts))
    declared = {s: len(genes) for s, genes in common.items()}
    restricted = any(part.get("restricted", False) for part in parts)
    floor = max(int(part.get("min_genes", 1)) for part in parts)
    return Declared(GeneGroups(tuple(common["tumor"]), tuple(common["tme"]), provenance), declared, restricted, floor)
