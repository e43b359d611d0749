"""How each site of a cohort, and each cohort of several, differs from the others, as sheets of rules that warn."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from dml.checks.bag_summaries import Sketch, by_patient
from dml.checks.drift import LARGE, Drift, apart, difference, share_drifted
from dml.checks.engine import Rule, Sheet
from dml.config.params import Checks

YES = {"value_set": ["yes"]}
AXES: Mapping[str, str] = {"cohort": "cohort ", "site": ""}
"""Columns of patients that group them, and what stands before a group's name."""
MOST_DISTANT = 0.5
"""Total variation between a site's classes and the others': half of its patients would have to change class."""


def cohort_sites(drifts: Mapping[str, Drift], config: Checks) -> list[Sheet]:
    """Judge genes and labels; no sheet if no site is large enough to be compared."""
    if not drifts:
        return []
    frame = pd.DataFrame([_site(site, drift) for site, drift in drifts.items()])
    frame["genes_alike"] = _yes(frame["genes"] <= config.max_drift)
    frame["labels_alike"] = _yes(frame["label"] < MOST_DISTANT)
    see = "See drift.csv beside the summary; split.group_sites keeps a site in one fold"
    says = f"genes of a site are like the others' (at most {config.max_drift:.0%} differ by {LARGE} deviations)"
    rules = (
        Rule("genes_alike", "among", says, see, YES, "warning"),
        Rule("labels_alike", "among", "labels of a site are spread like the others'", see, YES, "warning"),
    )
    return [Sheet("sites", "patients.parquet", frame, ("site", "patients", "genes", "largest", "label"), rules)]


def feature_sites(sketches: Sequence[Sketch], patients: pd.DataFrame, config: Checks) -> list[Sheet]:
    """Judge the mean features of patients; no sheet if no site is large enough to be compared."""
    ids, means = by_patient(sketches)
    known = patients.set_index("patient_id").reindex(ids)
    rows = [
        _site_of_features(prefix + str(name), (known[axis] == name).to_numpy(), means)
        for axis, prefix in AXES.items()
        if axis in known
        for name, count in known[axis].value_counts().sort_index().items()
        if min(count, len(ids) - count) >= config.min_site_patients
    ]
    if not rows:
        return []
    frame = pd.DataFrame(rows, columns=["site", "patients", "dimensions", "auc"])
    frame["alike"] = _yes(frame["dimensions"] <= config.max_drift)
    says = f"features of a site are like the others' (at most {config.max_drift:.0%} differ by {LARGE} deviations)"
    remedy = "Stain or scanner differ: read results per site, or keep sites together (split.group_sites)"
    rule = Rule("alike", "among", says, remedy, YES, "warning")
    return [Sheet("feature_sites", "features", frame, ("site", "patients", "dimensions", "auc"), (rule,))]


def _site_of_features(name: str, here: Bool[np.ndarray, "p"], means: Float[np.ndarray, "p d"]) -> tuple[object, ...]:
    """Return name, patients, share of dimensions that drifted, and how well a classifier tells the site."""
    share, auc = share_drifted(difference(means[~here], means[here])), apart(means[~here], means[here])
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


def _yes(mask: pd.Series) -> pd.Series:
    return mask.astype(bool).map({True: "yes", False: "no"}).astype(object)
