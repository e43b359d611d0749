"""Expectations on sites (and on the parts of a merged cohort): each is like the others; they only warn."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from dml.checks.bag_summaries import BagSummary, patient_means
from dml.checks.drift import LARGE_D, Drift, classifier_auc, difference, share_drifted
from dml.checks.engine import YES, CheckTable, Expectation, yes_no
from dml.config.params import Checks

AXES: Mapping[str, str] = {"cohort": "cohort ", "site": ""}
"""Columns of patients that group them, and what stands before a group's name."""
MAX_DISTANCE = 0.5
"""Total variation between a site's classes and the others': half of its patients would have to change class."""


def cohort_sites(drifts: Mapping[str, Drift], config: Checks) -> list[CheckTable]:
    """Return the table of genes and labels; none if no site is large enough to be compared."""
    if not drifts:
        return []
    frame = pd.DataFrame([_site(site, drift) for site, drift in drifts.items()])
    frame["genes_alike"] = yes_no(frame["genes"] <= config.max_drift)
    frame["labels_alike"] = yes_no(frame["label"] < MAX_DISTANCE)
    see = "See drift.csv beside the summary; split.group_sites keeps a site in one fold"
    alike = f"genes of a site are like the others' (at most {config.max_drift:.0%} differ by {LARGE_D} deviations)"
    rules = (
        Expectation("genes_alike", "in_set", alike, see, YES, "warning"),
        Expectation("labels_alike", "in_set", "labels of a site are distributed like the others'", see, YES, "warning"),
    )
    return [CheckTable("sites", "patients.parquet", frame, ("site", "patients", "genes", "largest", "label"), rules)]


def feature_sites(summaries: Sequence[BagSummary], patients: pd.DataFrame, config: Checks) -> list[CheckTable]:
    """Return the table of patients' mean features; none if no site is large enough to be compared."""
    ids, means = patient_means(summaries)
    rows_of = patients.set_index("patient_id").reindex(ids)
    rows = [
        _site_of_features(prefix + str(name), (rows_of[axis] == name).to_numpy(), means)
        for axis, prefix in AXES.items()
        if axis in rows_of
        for name, count in rows_of[axis].value_counts().sort_index().items()
        if min(count, len(ids) - count) >= config.min_site_patients
    ]
    if not rows:
        return []
    frame = pd.DataFrame(rows, columns=["site", "patients", "dimensions", "auc"])
    frame["alike"] = yes_no(frame["dimensions"] <= config.max_drift)
    alike = f"features of a site are like the others' (at most {config.max_drift:.0%} differ by {LARGE_D} deviations)"
    remedy = "Stain or scanner differ: read results per site, or keep sites together (split.group_sites)"
    rule = Expectation("alike", "in_set", alike, remedy, YES, "warning")
    return [CheckTable("feature_sites", "features", frame, ("site", "patients", "dimensions", "auc"), (rule,))]


def _site_of_features(name: str, here: Bool[np.ndarray, "p"], means: Float[np.ndarray, "p d"]) -> tuple[object, ...]:
    """Return name, patients, share of dimensions that drifted, and how well a classifier tells the site."""
    share, auc = share_drifted(difference(means[~here], means[here])), classifier_auc(means[~here], means[here])
    return name, int(here.sum()), round(share, 3), None if auc is None else round(auc, 3)


def _site(site: str, drift: Drift) -> dict[str, object]:
    distances = drift.labels["distance"].dropna()
    return {
        "site": site,
        "patients": int(max([0, *drift.numbers["known_b"], *drift.labels["known_b"]])),
        "genes": round(drift.drifted, 3),
        "largest": " ".join(f"{row.gene} {row.d:+.1f}" for row in drift.genes.head(3).itertuples()),
        "label": round(float(distances.max()), 3) if len(distances) else 0.0,
    }
