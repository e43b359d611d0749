"""Published folds: ``splits_<k>.csv`` as MCAT, PORPOISE and CLAM write them, so that numbers are comparable."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from dml.cohorts.splits import NO_INNER_FOLD, UNPAIRED, assign_inner_folds, draw_share, joint_strata, sort_splits
from dml.config.params import Split
from dml.core.errors import InputError, listed
from dml.readers.joins import match_ids
from dml.readers.table_files import column, read_table

logger = logging.getLogger(__name__)


def load_published(
    folder: Path, patients: pd.DataFrame, eligible: set[str], config: Split, seed: int, min_matched: float = 0.5
) -> pd.DataFrame:
    """Read folds with columns train, val and possibly test, each a list of patients.

    Where there is no test part, the published val part was scored: it becomes the test part here, and a validation
    part is drawn from train. Patients who are not eligible have role train in every fold, and so have those that the
    publication does not mention.

    Parameters
    ----------
    folder : Path
        Holds splits_0.csv, splits_1.csv, ...
    patients, eligible, config, seed
        As for `dml.cohorts.splits.make_splits`.
    min_matched : float
        Share of patients (of the smaller side) that files and cohort must have in common.

    Raises
    ------
    InputError
        If there are no such files, their patients are not those of the cohort, or a patient is in two parts of a fold
        or tested in two folds.
    """
    files = {int(m[1]): file for file in folder.glob("*.csv") if (m := re.fullmatch(r"splits_(\d+)\.csv", file.name))}
    if sorted(files) != list(range(len(files))) or not files:
        names = listed(sorted(files.values())) or "none"
        raise InputError(folder, f"no series splits_0.csv, splits_1.csv, ... but {names}", "Correct the folder")
    ordered = patients.sort_values("patient_id", ignore_index=True)
    strata = joint_strata(ordered, config.stratify, len(files))
    rng = np.random.default_rng(seed)
    parts = [_fold(files[k], k, ordered, strata, eligible, config, rng, min_matched) for k in sorted(files)]
    _check_tested_once(folder, parts)
    return sort_splits(pd.concat(parts))


def _fold(
    path: Path, fold: int, patients: pd.DataFrame, strata: np.ndarray, eligible: set[str], config: Split,
    rng: np.random.Generator, min_matched: float,
) -> pd.DataFrame:  # fmt: skip
    parts = _parts(path)
    _check_disjoint(path, parts)
    ids = patients["patient_id"]
    join = match_ids(f"{path.name} to patients", set().union(*parts.values()), ids)
    logger.info("%s: %d of %d and %d patients match", path, join.matched, join.left, join.right)
    if join.share < min_matched or join.hint:
        problem = f"{join.matched} of its {join.left} patients are among the cohort's {join.right}"
        examples = f"unmatched, here and there: {join.format_examples()}"
        raise InputError(path, f"{problem} ({examples})", join.hint or "Are these splits of this cohort?")
    role = np.full(len(ids), "train", dtype=object)
    testable = ids.isin(eligible).to_numpy()
    role[ids.isin(parts["test"] or parts["val"]).to_numpy() & testable] = "test"
    if parts["test"]:
        role[ids.isin(parts["val"]).to_numpy() & testable] = "validation"
    else:
        rest = np.flatnonzero(ids.isin(parts["train"]).to_numpy() & testable)
        if not len(rest):
            problem = "no patient of its column 'train' has both a slide and expression"
            raise InputError(path, problem, "The validation part is drawn from them; fetch the file again")
        role[rest[draw_share(strata[rest], config.validation_share, rng)]] = "validation"
    stratum = np.where(testable, strata, UNPAIRED)
    inner_fold = np.full(len(ids), NO_INNER_FOLD)
    inner_fold[testable] = assign_inner_folds(patients[testable], strata[testable], role[testable], config, rng)
    return pd.DataFrame({"patient_id": ids, "fold": fold, "role": role, "inner_fold": inner_fold, "stratum": stratum})


def _parts(path: Path) -> dict[str, set[str]]:
    frame = read_table(path)
    named = {name: column(frame, path, name).dropna() for name in ("train", "val")}
    named["test"] = frame["test"].dropna() if "test" in frame else pd.Series(dtype=object)
    return {name: {cell.strip() for cell in cells} for name, cells in named.items()}


def _check_disjoint(path: Path, parts: dict[str, set[str]]) -> None:
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        if both := sorted(parts[first] & parts[second]):
            raise InputError(path, f"in {first} and in {second}: {listed(both)}", "Each patient belongs to one part")


def _check_tested_once(folder: Path, parts: Iterable[pd.DataFrame]) -> None:
    tested = pd.concat([part.loc[part["role"] == "test", "patient_id"] for part in parts])
    if tested.duplicated().any():
        again = listed(sorted(set(tested[tested.duplicated()])))
        raise InputError(folder, f"tested in more than one fold: {again}", "These are not k-fold splits")
