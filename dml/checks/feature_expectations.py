"""Expectations on the features of a cohort: one encoder, one width, finite, not empty, no slide of two patients."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dml.checks.bag_summaries import BagSummary, summarise_bag
from dml.checks.engine import YES, CheckTable, Expectation, yes_no
from dml.checks.near_duplicates import near_duplicate_bags
from dml.checks.site_expectations import feature_sites
from dml.checks.token_sketch import Sketches
from dml.config.params import Checks
from dml.core.errors import DmlError
from dml.data.feature_store import bag_path, is_finite, read_features

UNREADABLE: dict[str, Any] = {
    "encoder": None,
    "width": None,
    "finite": None,
    "tokens": None,
    "content": None,
    "summary": None,
}


def describe_bags(folder: Path, encoder: str, manifest: pd.DataFrame) -> pd.DataFrame:
    """Read every bag whose status in the manifest is ok once, and describe it.

    Returns
    -------
    DataFrame
        The manifest's rows with readable (yes or the reason), encoder, width, tokens, finite, content (a hash of the
        vectors, to detect a slide that was submitted twice), and summary (`BagSummary` of finite vectors of a patient).
    """
    good = manifest[manifest["status"] == "ok"].reset_index(drop=True)
    named = zip(good["slide_id"], good["patient_id"], good["mpp"], strict=True)
    sketches = Sketches(float(good["mpp"].min()))
    rows = [
        _describe(bag_path(folder, encoder, mpp, slide), slide, patient, mpp, sketches) for slide, patient, mpp in named
    ]
    described = pd.DataFrame(rows, columns=["readable", *UNREADABLE], dtype=object)
    return pd.concat([good, described], axis=1)


def feature_tables(
    bags: pd.DataFrame, manifest: pd.DataFrame, patients: pd.DataFrame, folder: Path, encoder: str, config: Checks
) -> list[CheckTable]:
    """Return the tables of the features: one row a bag, the share of failed slides, and the sites."""
    good = bags[(bags["readable"] == "yes") & (bags["finite"] == "yes")]
    usual = good["width"].mode()
    same = good[good["width"] == usual.iloc[0]] if len(usual) else good
    mpp = float(same["mpp"].min()) if len(same) else 0.0
    summaries: list[BagSummary] = list(same.loc[np.isclose(same["mpp"].astype(float), mpp), "summary"].dropna())
    near = near_duplicate_bags(summaries, lambda slide: read_features(bag_path(folder, encoder, mpp, slide))[0].numpy())
    tables = [_bags(bags, set(patients["patient_id"]), encoder, near), _failed(manifest, config)]
    return tables + feature_sites(summaries, patients, config)


def _describe(path: Path, slide: str, patient: str | None, mpp: float, sketches: Sketches) -> dict[str, Any]:
    try:
        tokens, _, meta = read_features(path)
    except (DmlError, OSError, ValueError, KeyError) as error:
        return {"readable": f"no: {error}", **UNREADABLE}
    values = tokens.numpy()
    finite = is_finite(values)
    whole = finite and values.ndim == 2 and len(values) > 0 and pd.notna(patient)
    return {
        "readable": "yes",
        "encoder": meta.get("encoder"),
        "width": int(values.shape[1]) if values.ndim == 2 else None,
        "finite": "yes" if finite else "no",
        "tokens": len(values),
        "content": hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest(),
        "summary": summarise_bag(slide, str(patient), values, sketches.of(values, mpp)) if whole else None,
    }


def _bags(bags: pd.DataFrame, patients: set[str], encoder: str, near: Mapping[str, str]) -> CheckTable:
    frame = bags.drop(columns="summary")
    frame["patient_known"] = yes_no(frame["patient_id"].isin(patients))
    copy = pd.Series(_twins(frame), index=frame.index, dtype=object)
    alike = pd.Series([near.get(slide, "") for slide in frame["slide_id"]], index=frame.index, dtype=object)
    frame["twin"] = copy.where(copy != "", alike)
    frame["distinct"] = yes_no(copy == "")
    frame["unlike_others"] = yes_no((alike == "") | (copy != ""))  # a copy is reported once
    widths = frame["width"].dropna()
    usual = int(widths.mode().iloc[0]) if len(widths) else 0
    frame["usual_width"] = [None if pd.isna(w) else ("yes" if w == usual else "no") for w in frame["width"]]
    again, source = "Delete the files and extract or import these slides again", "Correct the cohort description"
    twice = "One slide was submitted for two patients; list the wrong one under `exclude`"
    near_copies = "no two patients have nearly the same features (half of the tokens or more)"
    leak = "Look at both slides: one tissue under two names leaks from training to test; `exclude` one"
    expectations = (
        Expectation("readable", "in_set", "every bag can be read", again, YES),
        Expectation("encoder", "in_set", f"all features are of encoder {encoder}", again, {"value_set": [encoder]}),
        Expectation("usual_width", "in_set", f"all vectors are {usual} wide", again, YES),
        Expectation("finite", "in_set", "no NaN or Inf in features", again, YES),
        Expectation("tokens", "between", "no empty bag", again, {"min_value": 1}),
        Expectation("patient_known", "in_set", "every slide belongs to a known patient", source, YES),
        Expectation("distinct", "in_set", "no two patients have the same features", twice, YES),
        Expectation("unlike_others", "in_set", near_copies, leak, YES, "warning"),
    )
    return CheckTable("bags", "features", frame, ("slide_id", "patient_id", "mpp", "twin"), expectations)


def _twins(bags: pd.DataFrame) -> list[str]:
    """Name for each bag the slide of another patient with the same vectors, or ''."""
    slides: dict[str, list[tuple[str, str]]] = {}
    rows = list(zip(bags["content"], bags["slide_id"], bags["patient_id"], strict=True))
    for content, slide, patient in rows:
        if pd.notna(content):
            slides.setdefault(content, []).append((str(slide), patient))
    same = {content: sorted(group) for content, group in slides.items() if len(group) > 1}
    return [next((s for s, p in same.get(content, ()) if p != patient), "") for content, _, patient in rows]


def _failed(manifest: pd.DataFrame, config: Checks) -> CheckTable:
    failures = manifest[manifest["status"] != "ok"]
    failed = failures["slide_id"].nunique()
    share = failed / max(1, manifest["slide_id"].nunique())
    reasons = "; ".join(f"{n} x {reason}" for reason, n in failures["reason"].value_counts().head(3).items())
    row = {"failed": failed, "share": round(share, 4), "allowed": config.max_failed_slides, "reasons": reasons}
    frame = pd.DataFrame([{**row, "few": "yes" if share <= config.max_failed_slides else "no"}])
    remedy = "See reason in features/manifest.parquet, or raise checks.max_failed_slides"
    expectation = Expectation("few", "in_set", "few slides failed", remedy, YES)
    return CheckTable("embedding", "features/manifest.parquet", frame, tuple(row), (expectation,))
