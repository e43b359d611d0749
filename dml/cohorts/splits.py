"""Patient-level folds with an inner validation part: a decision that is written down, not made again at run time.

Systematic sampling: patients are ordered by stratum (at random within one) and assigned to the folds in turn, so that
every stratum, and every prefix of the joint stratum, is as even across folds as whole numbers allow, however rare.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dml.config.params import Split
from dml.core.errors import ConfigError, InputError
from dml.core.files import write_parquet

logger = logging.getLogger(__name__)

ROLES = ("train", "validation", "test")
SCHEMA = pa.schema(
    [
        ("patient_id", pa.string()),
        ("fold", pa.int64()),
        ("role", pa.string()),
        ("inner_fold", pa.int64()),
        ("stratum", pa.string()),
    ]
)
NO_INNER_FOLD = -1
"""Inner fold of patients who are never validated on: test patients and those who are only trained on."""
GROUP = "group"
"""Optional column of patients: whoever has the same value is never in two parts of a fold."""
UNPAIRED = "unpaired"
"""Stratum of patients who are only trained on: they lack slide or expression."""


def make_splits(patients: pd.DataFrame, eligible: set[str], folds: int, config: Split, seed: int) -> pd.DataFrame:
    """Assign patients to test folds; draw a validation part from the rest of each fold.

    Parameters
    ----------
    patients : DataFrame
        The cohort's patients; the order of rows does not matter.
    eligible : set of str
        Patients that a fold may test (`checks.fold_expectations.eligible_patients`). The others have role
        train in every fold.
    folds : int
        Number of test folds.
    config : Split
        Stratification columns, share of validation, whether sites stay together. Patients with one value of the column
        ``group`` (sections of one block, regions of one section) always stay together.
    seed : int
        Same seed and same patients, same splits.

    Returns
    -------
    DataFrame
        patient_id, fold, role (train, validation or test), inner_fold, stratum; every patient once a fold (but nobody
        who cannot be tested in a fold that tests others of his group), sorted. The
        patients of a fold that are not tested are assigned to inner folds of about the validation share: inner fold 0
        is the validation part, and member i of an ensemble is validated on inner fold i.

    Raises
    ------
    ConfigError
        If a stratification column does not exist.
    InputError
        If there are too few eligible patients, or fewer groups (with group_sites: sites) than folds.
    """
    ordered = patients.sort_values("patient_id", ignore_index=True)
    ordered = ordered[ordered["patient_id"].isin(eligible)].reset_index(drop=True)
    if len(ordered) < 2 * folds:
        problem = (
            f"{len(ordered)} patients can be tested ({config.test_population}); {folds} folds need at least {2 * folds}"
        )
        remedy = (
            "Use fewer folds, add patients, or test those without transcriptome, too (split.test_population: slide)"
        )
        raise InputError("split", problem, remedy)
    strata = joint_strata(ordered, config.stratify, folds)
    rng = np.random.default_rng(seed)
    test = _assign_test_folds(ordered, strata, folds, config, rng)
    parts = [_fold(ordered, strata, test == k, k, config, rng) for k in range(folds)]
    tested = [_groups_of(ordered[test == k], config) for k in range(folds)]
    parts += [_unpaired(patients, eligible, k, config, tested[k]) for k in range(folds)]
    return sort_splits(pd.concat(parts))


def joint_strata(patients: pd.DataFrame, columns: Sequence[str], smallest: int) -> np.ndarray:
    """Name the joint stratum of each patient [n]; where fewer than `smallest` share it, only its leading columns count.

    `event` is dead, alive or unknown; `survival` is event with the tertile of its time; numbers are quartiles; the
    rest as they are.

    Raises
    ------
    ConfigError
        If a column does not exist.
    """
    parts = [_levels(patients, name) for name in columns]
    for depth in range(len(parts), -1, -1):
        names = _join_levels(parts[:depth], len(patients))
        if depth == len(parts):
            strata = names
            continue
        sizes = pd.Series(strata).value_counts()
        rare = pd.Series(strata).map(sizes).to_numpy() < smallest
        strata = np.where(rare, names, strata)
    return np.asarray(strata, dtype=str)


def split_report(splits: pd.DataFrame, patients: pd.DataFrame) -> dict[str, Any]:
    """Return how even the splits are: sizes and strata of the roles, and sites that are in test and elsewhere."""
    merged = splits.merge(patients[["patient_id", "site"]], on="patient_id")
    report = {}
    for fold, rows in merged.groupby("fold"):
        sites = {role: set(rows.loc[rows["role"] == role, "site"]) - {"unknown"} for role in ROLES}
        report[str(fold)] = {
            "patients": {role: int((rows["role"] == role).sum()) for role in ROLES},
            "test_strata": rows.loc[rows["role"] == "test", "stratum"].value_counts().sort_index().to_dict(),
            "test_sites": len(sites["test"]),
            "test_sites_also_elsewhere": sorted(sites["test"] & (sites["train"] | sites["validation"])),
        }
    return report


def write_splits(path: Path, splits: pd.DataFrame, report: dict[str, Any]) -> None:
    """Write the splits; the report goes to the metadata."""
    table = pa.Table.from_pandas(splits[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    write_parquet(path, table.replace_schema_metadata(None), {"report": report})


def draw_share(strata: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a share of patients evenly over strata; returns a mask [n] with round(share * n) True, at least one."""
    order = _shuffle(strata, rng)
    count = max(1, round(share * len(strata)))
    offset = rng.random()
    picked = np.floor((np.arange(count) + offset) * len(strata) / count).astype(int)
    mask = np.zeros(len(strata), dtype=bool)
    mask[order[picked]] = True
    return mask


def assign_inner_folds(
    patients: pd.DataFrame, strata: np.ndarray, role: np.ndarray, config: Split, rng: np.random.Generator
) -> np.ndarray:
    """Assign the training patients of a fold to inner folds of the size of its validation part, which is inner fold 0.

    Parameters
    ----------
    patients : DataFrame
        All of them may be trained and validated on; site or group matters where these stay together.
    strata, role : array, n
        Stratum and role (train, validation or test) of each.

    Returns
    -------
    array, n
        0 for validation, 1, 2, ... for train, `NO_INNER_FOLD` for test.
    """
    inner_fold = np.where(role == "validation", 0, NO_INNER_FOLD)
    train = np.flatnonzero(role == "train")
    others = min(config.inner_folds - 1, max(1, len(train)))
    groups = _groups(patients, config)
    if groups is not None:
        others = min(others, len(set(groups[train])))
        turn = _divide_groups(groups[train], strata[train], others, rng) if others > 1 else np.zeros(len(train), int)
    else:
        turn = np.empty(len(train), dtype=int)
        turn[_shuffle(strata[train], rng)] = np.arange(len(train)) % others
    inner_fold[train] = 1 + turn
    return inner_fold


def _fold(
    patients: pd.DataFrame, strata: np.ndarray, test: np.ndarray, fold: int, config: Split, rng: np.random.Generator
) -> pd.DataFrame:
    rest = np.flatnonzero(~test)
    role = np.where(test, "test", "train").astype(object)
    groups = _groups(patients, config)
    if groups is not None:
        chosen = _draw_groups(groups[rest], strata[rest], config.validation_share, rng)
    else:
        chosen = draw_share(strata[rest], config.validation_share, rng)
    role[rest[chosen]] = "validation"
    inner_fold = assign_inner_folds(patients, strata, role, config, rng)
    return pd.DataFrame(
        {"patient_id": patients["patient_id"], "fold": fold, "role": role, "inner_fold": inner_fold, "stratum": strata}
    )


def _unpaired(patients: pd.DataFrame, eligible: set[str], fold: int, config: Split, tested: set[str]) -> pd.DataFrame:
    """Return the patients who are only trained on; those of a group that is tested here have no row in this fold."""
    others = patients[~patients["patient_id"].isin(eligible)]
    if GROUP in patients and (groups := _groups(others, config)) is not None:
        others = others[~np.isin(groups, list(tested))]
    return pd.DataFrame(
        {"patient_id": others["patient_id"], "fold": fold, "role": "train"}
        | {"inner_fold": NO_INNER_FOLD, "stratum": UNPAIRED}
    )


def _assign_test_folds(
    patients: pd.DataFrame, strata: np.ndarray, folds: int, config: Split, rng: np.random.Generator
) -> np.ndarray:
    """Return the test fold of each patient [n]."""
    groups = _groups(patients, config)
    if groups is not None:
        return _divide_groups(groups, strata, folds, rng)
    fold = np.empty(len(patients), dtype=int)
    fold[_shuffle(strata, rng)] = (np.arange(len(patients)) + rng.integers(folds)) % folds
    return fold


def _groups(patients: pd.DataFrame, config: Split) -> np.ndarray | None:
    """Return the group of each patient [n] that stays in one part, None where each patient is his own.

    Groups are those of the column ``group``; with `group_sites`, sites (of which a group is a part). A patient of
    unknown group or site is a group by himself.
    """
    groups = patients["patient_id"]
    if GROUP in patients:
        groups = patients[GROUP].fillna(groups)
    if config.group_sites:
        groups = patients["site"].where(patients["site"] != "unknown", groups)
    return np.asarray(groups, dtype=str) if config.group_sites or GROUP in patients else None


def _groups_of(patients: pd.DataFrame, config: Split) -> set[str]:
    groups = _groups(patients, config)
    return set() if groups is None else set(groups)


def _draw_groups(groups: np.ndarray, strata: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose whole groups as near to the share as their sizes allow; returns a mask [n]."""
    parts = max(2, min(round(1 / share), len(set(groups))))
    part = _divide_groups(groups, strata, parts, rng)
    shares = np.bincount(part, minlength=parts) / len(part)
    return np.asarray(part == int(np.argmin(np.abs(shares - share))))


def _divide_groups(groups: np.ndarray, strata: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Divide patients into parts, groups kept together; strata are then only as even as the sizes of groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    if len(set(groups)) < parts:
        problem = f"{len(set(groups))} sites or groups cannot be kept together in {parts} parts"
        raise InputError("split", problem, "Set split.group_sites: false, or use fewer folds")
    common = joint_strata(pd.DataFrame({"s": strata}), ["s"], parts)
    sampler = StratifiedGroupKFold(parts, shuffle=True, random_state=int(rng.integers(2**31)))
    part = np.empty(len(groups), dtype=int)
    for k, (_, chosen) in enumerate(sampler.split(strata, common, groups)):
        part[chosen] = k
    return part


def _shuffle(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an order of patients: by stratum, at random within one."""
    return np.lexsort((rng.random(len(strata)), strata))


def _levels(patients: pd.DataFrame, name: str) -> pd.Series:
    if name == "event":
        return patients["event"].map({True: "dead", False: "alive"}).fillna("unknown").astype(str)
    if name == "survival":
        tertile = patients["survival_days"].groupby(patients["event"].astype(str)).rank(pct=True).mul(3).apply(np.ceil)
        return _levels(patients, "event") + " " + tertile.fillna(0).astype(int).astype(str)
    if name not in patients.columns:
        raise ConfigError(f"split.stratify: no column {name!r}; there are survival, {', '.join(patients.columns)}")
    values = patients[name]
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > 4:
        values = values.rank(pct=True).mul(4).apply(np.ceil)
    return values.astype(object).map(lambda v: "unknown" if pd.isna(v) else str(v))


def _join_levels(parts: Sequence[pd.Series], count: int) -> np.ndarray:
    if not parts:
        return np.full(count, "rare", dtype=object)
    return np.asarray([" / ".join(levels) for levels in zip(*parts, strict=True)], dtype=object)


def sort_splits(splits: pd.DataFrame) -> pd.DataFrame:
    """Sort by fold and patient."""
    ordered: pd.DataFrame = splits[SCHEMA.names].sort_values(["fold", "patient_id"], ignore_index=True)
    return ordered
