"""Rows of tables about the stores: cohorts, patients, slides, features."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from dml.core.errors import DmlError, InputError, listed
from dml.core.files import read_parquet

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


def cohorts(descriptions: Path, current: str) -> list[Row]:
    """List the described cohorts: imported, built, number of patients."""
    return [
        {
            "cohort": path.stem,
            "current": "yes" if path.stem == current else "",
            "raw_files": "yes" if (Path("data/raw") / path.stem).exists() else "no",
            "patients": _count(Path("data") / path.stem / "patients.parquet"),
            "reports": len(list((Path("reports") / path.stem).glob("*/metrics.json"))),
        }
        for path in sorted(descriptions.glob("*.yaml"))
    ]


def summary(folder: Path) -> list[Row]:
    """Count what a cohort's stores hold.

    Raises
    ------
    InputError
        If the cohort was not built.
    """
    table, metadata = read_parquet(folder / "patients.parquet")
    rows = table.to_pandas()
    known = rows["survival_days"].notna() & rows["event"].notna()
    numbers = {
        "patients": len(rows),
        "sites": rows["site"].nunique(),
        "with survival": int(known.sum()),
        "deaths": int(rows.loc[known, "event"].astype(bool).sum()),
        "median follow-up in days (reverse Kaplan-Meier)": _follow_up(rows[known]),
        "with age": int(rows["age"].notna().sum()),
        "with expression": _count(folder / "expression.parquet"),
        "slides": _count(folder / "slides.parquet"),
        **_slide_options(folder / "slides.parquet"),
    }
    for label, classes in metadata.get("classes", {}).items():
        if not classes:
            numbers |= {f"with {label}": int(rows[label].notna().sum())}
            continue
        counts = rows[label].value_counts()
        numbers |= {f"{label} = {name}": int(counts.get(name, 0)) for name in classes}
    return [{"what": name, "number": value} for name, value in numbers.items()] + _features(folder / "features")


def _slide_options(path: Path) -> dict[str, int]:
    """Count slides of which only fields are cut, and those whose tiles may be finer than the image."""
    if not path.exists():
        return {}
    table = read_parquet(path)[0]
    named = {"slides cut inside fields": "fields_px", "slides that may be interpolated (slides.upsample)": "upsample"}
    there = {name: table[column].to_pylist() for name, column in named.items() if column in table.schema.names}
    return {name: sum(bool(value) for value in values) for name, values in there.items()}


def _follow_up(known: "pd.DataFrame") -> int | None:
    """Median follow-up by the reverse Kaplan-Meier method; None if it is not reached."""
    import numpy as np

    from dml.evaluation.metrics.kaplan_meier import kaplan_meier

    if known.empty:
        return None
    curve = kaplan_meier(known["survival_days"].to_numpy(float), ~known["event"].to_numpy(bool))
    below = np.flatnonzero(curve.survival <= 0.5)
    return round(float(curve.days[below[0]])) if len(below) else None


def _features(features: Path) -> list[Row]:
    manifest = features / "manifest.parquet"
    if not manifest.exists():
        return []
    status = read_parquet(manifest, ["slide_id", "status"])[0].to_pandas().drop_duplicates()
    return [
        {"what": f"slides embedded: {name}", "number": int(n)} for name, n in status["status"].value_counts().items()
    ]


def feature_files(features: Path) -> list[Path]:
    """Every feature file of a cohort.

    Raises
    ------
    InputError
        If there is none.
    """
    files = sorted(features.glob("*/*/*.parquet"))
    if not files:
        raise InputError(features, "no features", "Make them: dvc repro extract_features")
    return files


def chosen_files(features: Path, slides: list[str] | None) -> list[Path]:
    """Feature files of some slides, or of all.

    Raises
    ------
    InputError
        If a slide has none.
    """
    files = feature_files(features)
    absent = sorted(set(slides or ()) - {file.stem for file in files})
    if absent:
        raise InputError(features, f"no features of {listed(absent)}", "Known slides are in manifest.parquet")
    return [file for file in files if not slides or file.stem in slides]


def feature_sets(features: Path) -> list[Row]:
    """List encoders and resolutions with number of slides, tiles, and size."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for file in feature_files(features):
        groups.setdefault((file.parent.parent.name, file.parent.name), []).append(file)
    return [
        {
            "encoder": encoder,
            "mpp": mpp,
            "slides": len(files),
            "tiles": sum(pq.read_metadata(file).num_rows for file in files),
            "megabytes": round(sum(file.stat().st_size for file in files) / 2**20),
        }
        for (encoder, mpp), files in groups.items()
    ]


def slide_features(features: Path, slide: str) -> list[Row]:
    """Describe the feature files of one slide.

    Raises
    ------
    InputError
        If the slide has none.
    """
    files = [file for file in feature_files(features) if file.stem == slide]
    if not files:
        raise InputError(features, f"no features of slide {slide}", "Known slides are in manifest.parquet")
    return [{"file": str(file), "tiles": pq.read_metadata(file).num_rows, **_metadata(file)} for file in files]


def _metadata(file: Path) -> Row:
    metadata = read_parquet(file, columns=[])[1]
    return {name: metadata.get(name) for name in ("patient_id", "width", "mpp", "tile_um", "weights", "fingerprint")}


def problem(file: Path) -> str:
    """Describe what is wrong with a feature file; empty if nothing is."""
    from dml.data.feature_store import read_features

    try:
        meta = read_features(file, finite=True)[2]
    except (DmlError, OSError, ValueError, KeyError) as error:
        return " ".join(str(error).split())
    return _location_problem(file, meta)


def _location_problem(file: Path, meta: Mapping[str, Any]) -> str:
    described = (str(meta["encoder"]), f"{float(meta['mpp']):g}", str(meta["slide_id"]))
    location = (file.parent.parent.name, file.parent.name, file.stem)
    return "" if described == location else f"its metadata say {'/'.join(described)}"


def _count(path: Path) -> int | None:
    return pq.read_metadata(path).num_rows if path.exists() else None
