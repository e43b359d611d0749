"""Patient-level folds with an inner validation part: a decision that is written down, not made again at run time.

Systematic sampling: patients are ordered by stratum (at random within one) and dealt to the folds in turn, so that
every stratum, and every prefix of the joint stratum, is spread as evenly as whole numbers allow, however rare it is.
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
from dml.core.files import read_parquet, write_parquet

logger = logging.getLogger(__name__)

ROLES = ("train", "validation", "test")
SCHEMA = pa.schema(
    [
        ("patient_id", pa.string()),
        ("fold", pa.int64()),
        ("role", pa.string()),
        ("part", pa.int64()),
        ("stratum", pa.string()),
    ]
)
NO_PART = -1
"""The part of patients who are never validated on: test patients and those who are only learnt from."""
UNPAIRED = "unpaired"
"""The stratum of patients who are only learnt from: they lack slide or expression."""


def make_splits(patients: pd.DataFrame, eligible: set[str], folds: int, config: Split, seed: int) -> pd.DataFrame:
    """Deal patients to test folds; draw a validation part from the rest of each fold.

    Parameters
    ----------
    patients : DataFrame
        The cohort's patients; the order of rows does not matter.
    eligible : set of str
        Patients whom a fold may test (`checks.eligible_patients`). The others have role train in every fold.
    folds : int
        Number of test folds.
    config : Split
        Stratification columns, share of validation, whether sites stay together.
    seed : int
        Same seed and same patients, same splits.

    Returns
    -------
    DataFrame
        patient_id, fold, role (train, validation or test), part, stratum; every patient once a fold, sorted. The
        learning patients of a fold are dealt to parts of about the validation share: part 0 is the validation part, and
        members of an ensemble take turns with the parts.

    Raises
    ------
    ConfigError
        If a stratification column does not exist.
    InputError
        If there are too few eligible patients, or (with group_sites) fewer sites than folds.
    """
    ordered = patients.sort_values("patient_id", ignore_index=True)
    ordered = ordered[ordered["patient_id"].isin(eligible)].reset_index(drop=True)
    if len(ordered) < 2 * folds:
        found = (
            f"{len(ordered)} patients can be tested ({config.test_population}); {folds} folds need at least {2 * folds}"
        )
        remedy = (
            "Use fewer folds, add patients, or test those without transcriptome, too (split.test_population: slide)"
        )
        raise InputError("split", found, remedy)
    strata = joint_strata(ordered, config.stratify, folds)
    rng = np.random.default_rng(seed)
    test = _dealt(ordered, strata, folds, config.group_sites, rng)
    parts = [_fold(ordered, strata, test == k, k, config, rng) for k in range(folds)]
    parts += [_unpaired(patients, eligible, k) for k in range(folds)]
    return in_order(pd.concat(parts))


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
        names = _joined(parts[:depth], len(patients))
        if depth == len(parts):
            strata = names
            continue
        sizes = pd.Series(strata).value_counts()
        rare = pd.Series(strata).map(sizes).to_numpy() < smallest
        strata = np.where(rare, names, strata)
    return np.asarray(strata, dtype=str)


def split_report(splits: pd.DataFrame, patients: pd.DataFrame) -> dict[str, Any]:
    """Say how far the splits succeed: sizes and strata of the parts, and sites that are in test and elsewhere."""
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


def read_splits(path: Path) -> pd.DataFrame:
    """Read the splits; ``attrs["report"]`` says how even they are."""
    table, metadata = read_parquet(path)
    splits: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
    splits.attrs.update(metadata)
    return splits


def draw(strata: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a share of patients evenly over strata; returns a mask [n] with round(share * n) True, at least one."""
    order = _shuffled(strata, rng)
    count = max(1, round(share * len(strata)))
    offset = rng.random()
    picked = np.floor((np.arange(count) + offset) * len(strata) / count).astype(int)
    mask = np.zeros(len(strata), dtype=bool)
    mask[order[picked]] = True
    return mask


def inner_parts(
    patients: pd.DataFrame, strata: np.ndarray, role: np.ndarray, config: Split, rng: np.random.Generator
) -> np.ndarray:
    """Deal the training patients of a fold to further parts of the size of its validation part, which is part 0.

    Parameters
    ----------
    patients : DataFrame
        All of them may be learnt from and judged; site matters where sites stay together.
    strata, role : array, n
        Stratum and role (train, validation or test) of each.

    Returns
    -------
    array, n
        0 for validation, 1, 2, ... for train, `NO_PART` for test.
    """
    part = np.where(role == "validation", 0, NO_PART)
    train = np.flatnonzero(role == "train")
    others = min(max(1, round(1 / config.validation_share) - 1), max(1, len(train)))
    if config.group_sites:
        others = min(others, len(set(_sites(patients.iloc[train]))))
        dealt = _grouped(patients.iloc[train], strata[train], others, rng) if others > 1 else np.zeros(len(train), int)
    else:
        dealt = np.empty(len(train), dtype=int)
        dealt[_shuffled(strata[train], rng)] = np.arange(len(train)) % others
    part[train] = 1 + dealt
    return part


def _fold(
    patients: pd.DataFrame, strata: np.ndarray, test: np.ndarray, fold: int, config: Split, rng: np.random.Generator
) -> pd.DataFrame:
    rest = np.flatnonzero(~test)
    role = np.where(test, "test", "train").astype(object)
    if config.group_sites:
        chosen = _whole_sites(patients.iloc[rest], strata[rest], config.validation_share, rng)
    else:
        chosen = draw(strata[rest], config.validation_share, rng)
    role[rest[chosen]] = "validation"
    part = inner_parts(patients, strata, role, config, rng)
    return pd.DataFrame(
        {"patient_id": patients["patient_id"], "fold": fold, "role": role, "part": part, "stratum": strata}
    )


def _unpaired(patients: pd.DataFrame, eligible: set[str], fold: int) -> pd.DataFrame:
    ids = patients.loc[~patients["patient_id"].isin(eligible), "patient_id"]
    return pd.DataFrame({"patient_id": ids, "fold": fold, "role": "train", "part": NO_PART, "stratum": UNPAIRED})


def _dealt(
    patients: pd.DataFrame, strata: np.ndarray, folds: int, group_sites: bool, rng: np.random.Generator
) -> np.ndarray:
    """Return the test fold of each patient [n]."""
    if group_sites:
        return _grouped(patients, strata, folds, rng)
    fold = np.empty(len(patients), dtype=int)
    fold[_shuffled(strata, rng)] = (np.arange(len(patients)) + rng.integers(folds)) % folds
    return fold


def _whole_sites(patients: pd.DataFrame, strata: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose whole sites as near to the share as the sizes of the sites allow; returns a mask [n]."""
    parts = max(2, min(round(1 / share), len(set(_sites(patients)))))
    part = _grouped(patients, strata, parts, rng)
    shares = np.bincount(part, minlength=parts) / len(part)
    return np.asarray(part == int(np.argmin(np.abs(shares - share))))


def _sites(patients: pd.DataFrame) -> np.ndarray:
    """Return the site of each patient [n]; one of unknown site is a site of its own."""
    unknown = patients["site"].isin(["unknown"])
    return np.asarray(patients["site"].where(~unknown, patients["patient_id"]))


def _grouped(patients: pd.DataFrame, strata: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Keep sites together; strata are then only as even as the sizes of the sites allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = _sites(patients)
    if len(set(groups)) < parts:
        found = f"{len(set(groups))} sites cannot be kept together in {parts} parts"
        raise InputError("split", found, "Set split.group_sites: false, or use fewer folds")
    common = joint_strata(pd.DataFrame({"s": strata}), ["s"], parts)
    sampler = StratifiedGroupKFold(parts, shuffle=True, random_state=int(rng.integers(2**31)))
    part = np.empty(len(patients), dtype=int)
    for k, (_, chosen) in enumerate(sampler.split(strata, common, groups)):
        part[chosen] = k
    return part


def _shuffled(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
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


def _joined(parts: Sequence[pd.Series], count: int) -> np.ndarray:
    if not parts:
        return np.full(count, "rare", dtype=object)
    return np.asarray([" / ".join(levels) for levels in zip(*parts, strict=True)], dtype=object)


def in_order(splits: pd.DataFrame) -> pd.DataFrame:
    """Sort by fold and patient."""
    ordered: pd.DataFrame = splits[SCHEMA.names].sort_values(["fold", "patient_id"], ignore_index=True)
    return ordered
