"""Folds on which teachability is measured: the cohort's, and folds whose test sites are not learned from."""

from typing import Literal

import numpy as np
import pandas as pd

from dml.cohorts.splits import make_splits
from dml.config import params as config

Protocol = Literal["patients", "sites"]
"""Folds of patients whose sites are also learned from, or folds of unseen sites."""
UNKNOWN_SITE = "unknown"


def has_unseen_sites(splits: pd.DataFrame, patients: pd.DataFrame) -> bool:
    """Whether no site of a fold's test patients has learning patients among those that are tested in other folds."""
    site = patients.set_index("patient_id")["site"]
    eligible = set(splits.loc[splits["role"] == "test", "patient_id"])
    rows = splits[splits["patient_id"].isin(eligible)]
    return not any(
        set(site[part.loc[part["role"] == "test", "patient_id"]])
        & set(site[part.loc[part["role"] != "test", "patient_id"]])
        for _, part in rows.groupby("fold")
    )


def list_protocols(
    splits: pd.DataFrame, patients: pd.DataFrame, params: config.Params
) -> list[tuple[Protocol, pd.DataFrame | None, str]]:
    """Return the folds of each protocol, or None and why there are none.

    A cohort whose own folds keep sites apart has the protocol of sites only.
    """
    if has_unseen_sites(splits, patients):
        return [("sites", splits, "")]
    if not params.teachability.unseen_sites:
        return [("patients", splits, ""), ("sites", None, "teachability.unseen_sites is false")]
    tested = set(splits.loc[splits["role"] == "test", "patient_id"])
    sites = set(patients.loc[patients["patient_id"].isin(tested), "site"]) - {UNKNOWN_SITE}
    n_folds = splits["fold"].nunique()
    if len(sites) < 2 * n_folds:
        return [("patients", splits, ""), ("sites", None, f"{len(sites)} known sites for {n_folds} folds")]
    grouped = params.split.model_copy(update={"group_sites": True})
    by_site = _without_test_sites(make_splits(patients, tested, n_folds, grouped, params.seed), patients)
    return [("patients", splits, ""), ("sites", by_site, "")]


def _without_test_sites(splits: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """Remove patients who are only learned from and are of a site that the fold tests."""
    site = splits["patient_id"].map(patients.set_index("patient_id")["site"])
    tested = splits.assign(site=site)[splits["role"] == "test"].groupby("fold")["site"].agg(set)
    seen = [s in tested[f] and s != UNKNOWN_SITE for s, f in zip(site, splits["fold"], strict=True)]
    return splits[~(np.array(seen, bool) & (splits["role"] != "test").to_numpy())].reset_index(drop=True)
