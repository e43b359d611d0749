"""What the features of a cohort must be: one encoder, one width, finite, not empty, each slide's own patient's."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.checks.bag_summaries import read_sketches
from dml.checks.cohort_expectations import YES
from dml.checks.engine import Rule, Sheet
from dml.checks.near_duplicates import near_duplicates
from dml.checks.site_expectations import feature_sites
from dml.config.params import Checks
from dml.core.errors import DmlError
from dml.data.feature_store import bag_path, read_features

UNREAD: dict[str, Any] = {"encoder": None, "width": None, "finite": None, "tokens": None, "content": None}


def inspect(folder: Path, encoder: str, manifest: pd.DataFrame) -> pd.DataFrame:
    """Open every bag of the manifest that is said to be ok, and describe it.

    Returns
    -------
    DataFrame
        The manifest's rows with readable (yes or the reason), encoder, width, tokens, finite, and content (a hash of
        the vectors, to find a slide that was handed in twice).
    """
    good = manifest[manifest["status"] == "ok"].reset_index(drop=True)
    named = zip(good["slide_id"], good["mpp"], strict=True)
    paths = [bag_path(folder, encoder, mpp, slide) for slide, mpp in named]
    described = pd.DataFrame([_describe(path) for path in paths], columns=["readable", *UNREAD], dtype=object)
    return pd.concat([good, described], axis=1)


def sheets(
    bags: pd.DataFrame, manifest: pd.DataFrame, patients: pd.DataFrame, folder: Path, encoder: str, config: Checks
) -> list[Sheet]:
    """Lay out the sheets of the features: of each bag, of the share of failed slides, and of the sites."""
    good = bags[(bags["readable"] == "yes") & (bags["finite"] == "yes")]
    usual = good["width"].mode()
    same = good[good["width"] == usual.iloc[0]] if len(usual) else good
    mpp = float(same["mpp"].min()) if len(same) else 0.0
    sketches = read_sketches(folder, encoder, same, mpp)
    near = near_duplicates(sketches, lambda slide: read_features(bag_path(folder, encoder, mpp, slide))[0].numpy())
    laid = [_bags(bags, set(patients["patient_id"]), encoder, near), _failed(manifest, config)]
    return laid + feature_sites(sketches, patients, config)


def _describe(path: Path) -> dict[str, Any]:
    try:
        tokens, _, meta = read_features(path)
    except (DmlError, OSError, ValueError, KeyError) as error:
        return {"readable": f"no: {error}", **UNREAD}
    values = tokens.numpy()
    return {
        "readable": "yes",
        "encoder": meta.get("encoder"),
        "width": int(values.shape[1]) if values.ndim == 2 else None,
        "finite": "yes" if np.isfinite(values).all() else "no",
        "tokens": len(values),
        "content": hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest(),
    }


def _bags(bags: pd.DataFrame, known: set[str], encoder: str, near: Mapping[str, str]) -> Sheet:
    frame = bags.copy()
    frame["patient_known"] = np.where(frame["patient_id"].isin(known), "yes", "no")
    frame["twin"] = _twins(frame)
    frame["own"] = np.where(frame["twin"] == "", "yes", "no")
    alike = pd.Series([near.get(slide, "") for slide in frame["slide_id"]], index=frame.index, dtype=object)
    frame["apart"] = np.where((alike == "") | (frame["own"] == "no"), "yes", "no")  # a copy is reported once
    frame["twin"] = frame["twin"].where(frame["own"] == "no", alike)
    widths = frame["width"].dropna()
    usual = int(widths.mode().iloc[0]) if len(widths) else 0
    frame["usual_width"] = [None if pd.isna(w) else ("yes" if w == usual else "no") for w in frame["width"]]
    again = "Delete the files and extract or import these slides again"
    rules = (
        Rule("readable", "among", "every bag can be read", again, YES),
        Rule("encoder", "among", f"all features are of encoder {encoder}", again, {"value_set": [encoder]}),
        Rule("usual_width", "among", f"all vectors are {usual} wide", again, YES),
        Rule("finite", "among", "no NaN or Inf in features", again, YES),
        Rule("tokens", "within", "no empty bag", again, {"min_value": 1}),
        Rule("patient_known", "among", "every slide belongs to a known patient", "Correct the cohort description", YES),
        Rule(
            "own",
            "among",
            "no two patients have the same features",
            "One slide was handed in for two patients; list the wrong one under `exclude`",
            YES,
        ),
        Rule(
            "apart",
            "among",
            "no two patients have nearly the same features (half of the tokens or more)",
            "Look at both slides: one tissue under two names leaks from training to test; `exclude` one",
            YES,
            "warning",
        ),
    )
    return Sheet("bags", "features", frame, ("slide_id", "patient_id", "mpp", "twin"), rules)


def _twins(bags: pd.DataFrame) -> list[str]:
    """Name for each bag the slide of another patient with the same vectors, or ''."""
    twins = []
    groups = {
        key: rows
        for key, rows in bags.dropna(subset=["content"]).groupby("content")
        if rows["patient_id"].nunique() > 1
    }
    for _, bag in bags.iterrows():
        same = groups.get(bag["content"])
        others = [] if same is None else sorted(same.loc[same["patient_id"] != bag["patient_id"], "slide_id"])
        twins.append(str(others[0]) if others else "")
    return twins


def _failed(manifest: pd.DataFrame, config: Checks) -> Sheet:
    failed = manifest.loc[manifest["status"] != "ok", "slide_id"].nunique()
    share = failed / max(1, manifest["slide_id"].nunique())
    reasons = "; ".join(
        f"{n} x {reason}"
        for reason, n in manifest.loc[manifest["status"] != "ok", "reason"].value_counts().head(3).items()
    )
    row = {"failed": failed, "share": round(share, 4), "allowed": config.max_failed_slides, "reasons": reasons}
    frame = pd.DataFrame([{**row, "few": "yes" if share <= config.max_failed_slides else "no"}])
    rule = Rule(
        "few",
        "among",
        "few slides failed",
        "See reason in features/manifest.parquet, or raise checks.max_failed_slides",
        YES,
    )
    return Sheet("embedding", "features/manifest.parquet", frame, tuple(row), (rule,))
