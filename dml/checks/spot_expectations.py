"""Expectations on the spots of a spatial cohort, once its slides are tiled: inside the image, on tissue, upright."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import oaconvolve

from dml.checks.engine import YES, CheckTable, Expectation, validate, yes_no
from dml.checks.spot_orientation import Orientation, TissueMap, find_orientation
from dml.cohorts.spot_resolution import find_displaced, fit_array
from dml.cohorts.spot_store import SpotTable, read_spots
from dml.cohorts.store_files import read_slides, section_ids
from dml.config.params import Checks
from dml.core.errors import InputError, listed
from dml.core.files import read_parquet
from dml.core.limited_process import call_limited
from dml.slides.reader import open_slide
from dml.slides.tissue import find_tissue, mask_mpp

MAX_MPP_ERROR = 0.1
"""Share by which the resolution of a slide may differ from the one that follows from its spots."""
MIN_RANK = 0.1
"""Correlation of library size and stain density below which a section is reported."""
ONE_SIDED_95 = 1.645
"""Quantile of the normal distribution: a smaller correlation of few spots could be chance, too."""


def check_spots(folder: Path, cohort: str, config: Checks, out: Path, remove_ink: bool = True) -> None:
    """Check the spots of ``data/<cohort>`` against the tissue of its slides.

    Parameters
    ----------
    folder : Path
        The cohort's stores and its tiles.
    cohort : str
        Its name.
    config : Checks
        Thresholds.
    out : Path
        ``reports/<cohort>/checks``: spots.json, spots/summary.txt and spots/docs/index.html are written there.
    remove_ink : bool
        As `tiles.remove_ink`.

    Raises
    ------
    InputError
        If a spot is outside its slide.
    CheckFailed
        Lists each broken rule with section and remedy; the report is written first.
    """
    table = read_spots(folder)
    counts: dict[str, Any] = {"cohort": cohort, "spots": len(table.spots), "sections": len(table.sections)}
    if not len(table.spots):
        validate("spots", [], {**counts, "result": "not a spatial cohort"}, out, config.severity)
        return
    slides = read_section_slides(folder)
    failed = {section: _failure(slides, section) for section in table.sections}
    good = [section for section, reason in failed.items() if not reason]
    for section in good:
        check_inside(table.section(section).spots, section, (slides[section]["width"], slides[section]["height"]))
    rows = [describe_section(table.section(name), name, slides[name], remove_ink) for name in good]
    counts |= {"genes": len(table.genes), "median count of a spot": int(table.spots["n_counts"].median())}
    counts |= {row["section"]: _summarise(row) for row in rows}
    validate("spots", spot_tables(pd.DataFrame(rows), failed, config), counts, out, config.severity)


def read_section_slides(folder: Path) -> dict[str, pd.Series]:
    """Read one tiled slide of each section, by section id: the slide itself, or the first region that was tiled."""
    tiled = read_parquet(folder / "tiles" / "slides.parquet")[0].to_pandas()
    slides = read_slides(folder / "slides.parquet")
    section_of = dict(zip(slides["slide_id"], section_ids(slides), strict=True))
    tiled["section_id"] = tiled["slide_id"].map(section_of)
    tiled["failed"] = tiled["status"] != "ok"
    first: pd.DataFrame = tiled.sort_values(["failed", "slide_id"]).drop_duplicates("section_id")
    return {str(row["section_id"]): row for _, row in first.iterrows()}


def check_inside(spots: pd.DataFrame, section: str, size: tuple[float, float]) -> None:
    """Refuse spots outside the image.

    Raises
    ------
    InputError
        Naming section, spots and positions, and the size of the image.
    """
    pixels = spots[["x_px", "y_px"]].to_numpy(np.float64)
    outside = np.asarray(((pixels < 0) | (pixels >= size)).any(axis=1))
    if not outside.any():
        return
    rows = zip(spots["spot_id"].to_numpy()[outside], pixels[outside], strict=True)
    named = [f"{spot} at {x:.0f}, {y:.0f}" for spot, (x, y) in rows]
    problem = (
        f"{outside.sum()} of {len(spots)} spots of {section} are outside its image of "
        f"{size[0]:.0f} x {size[1]:.0f} px: {listed(named, 3)}"
    )
    remedy = "Is it the image that the positions are in? Else give their scale, or correct the positions"
    raise InputError("spots.parquet", problem, f"{remedy} (`spatial` of the cohort)")


def describe_section(table: SpotTable, section: str, slide: pd.Series, remove_ink: bool) -> dict[str, Any]:
    """Measure how the spots of one section lie on its slide: one row of the table `sections`."""
    spots = table.spots
    steps = fit_array(spots, f"spots of {section}")[:2]
    step = float(np.sqrt(abs(np.linalg.det(steps))))
    radius_px = step * table.spot_diameter_um / table.spacing_um / 2
    path = Path(slide["path"])
    tissue = call_limited(path, map_tissue, path, float(slide["mpp"]), radius_px, remove_ink)
    library_size = spots["n_counts"].to_numpy(np.float64)
    orientation = find_orientation(spots[["x_px", "y_px"]].to_numpy(np.float64), library_size, steps, tissue)
    mpp = table.spacing_um / step
    displaced = find_displaced(spots, section)
    return {
        "section": section, "spots": len(spots), **_measures(orientation),
        "better": orientation.better, "shifted": orientation.shifted, "displaced": len(displaced),
        "examples": listed(displaced, 3),
        "mpp": round(float(slide["mpp"]), 4), "mpp_of_spots": round(mpp, 4),
    }  # fmt: skip


def map_tissue(path: Path, mpp: float, radius_px: float, remove_ink: bool) -> TissueMap:
    """Find the tissue of a slide and average it, and its optical density, over discs of a radius in level-0 pixels."""
    with open_slide(path, mpp, "slide_list") as slide:
        resolution = mask_mpp(slide)
        thumbnail = slide.thumbnail(resolution)
        size = (float(slide.dimensions[0]), float(slide.dimensions[1]))
    px = resolution / mpp
    density = -np.log10(np.maximum(thumbnail, 1).astype(np.float32) / 255).mean(axis=-1)
    mask = find_tissue(thumbnail, remove_ink).mask.astype(np.float32)
    share, mean_density = (_average(values, radius_px / px) for values in (mask, density))
    return TissueMap(share, mean_density, px, size)


def _average(values: np.ndarray, radius: float) -> np.ndarray:
    """Average over discs of a radius in pixels of the map."""
    reach = max(int(radius), 0)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (y**2 + x**2 <= radius**2).astype(np.float32)
    weight = oaconvolve(np.ones_like(values), disc, mode="same")
    return np.asarray(oaconvolve(values, disc, mode="same") / weight)


def spot_tables(sections: pd.DataFrame, failed: Mapping[str, str], config: Checks) -> list[CheckTable]:
    """Return the tables: one row a section that is tiled, and one a section in all."""
    frame = sections.copy()
    if len(frame):
        shifted = frame["shifted"].astype(bool)
        frame["oriented"] = yes_no((frame["better"] == "") | shifted)
        frame["centred"] = yes_no(~shifted)
        frame["on_grid"] = yes_no(frame["displaced"] == 0)
        frame["resolution"] = yes_no((frame["mpp_of_spots"] / frame["mpp"] - 1).abs() <= MAX_MPP_ERROR)
        lowest = np.maximum(MIN_RANK, ONE_SIDED_95 / np.sqrt(np.maximum(frame["spots"] - 3, 1)))
        frame["stain_alike"] = yes_no(~(frame["library_size_rank"].astype(np.float64) < lowest))
    rules = _rules(config)
    keys = ("section", "spots", "better", "score", "best_score", "on_tissue", "empty_on_tissue", "library_size_rank",
            "mpp", "mpp_of_spots", "examples")  # fmt: skip
    slides = pd.DataFrame({"section": list(failed), "reason": list(failed.values())})
    slides["tiled"] = yes_no(slides["reason"] == "")
    rule = Expectation("tiled", "in_set", "every section has a slide that was tiled", "See tiles/slides.parquet", YES)
    tables = [CheckTable("spot_slides", "tiles/slides.parquet", slides, ("section", "reason"), (rule,))]
    return [*tables, CheckTable("sections", "spots.parquet", frame, keys, rules)] if len(frame) else tables


def _rules(config: Checks) -> tuple[Expectation, ...]:
    on_tissue = f"at least {config.min_on_tissue:.0%} of the spots are on tissue"
    look = "Are spots and image of one section? Look at tiles/thumbnails, or lower checks.min_on_tissue"
    transform = "Transform the pixel positions as `better` says, or correct the columns of the spot table"
    spacing = "Correct spatial.spacing_um, or the mpp of the slide ({from: spots} takes it from the spacing)"
    displaced = "Correct these spots: array place and pixels contradict each other"
    alike = f"spots of dense tissue have more counts (rank correlation {MIN_RANK:g} or more, and not by chance)"
    agree = f"spacing and resolution agree within {MAX_MPP_ERROR:.0%}"
    section = "Are these the counts of this section?"
    return (
        Expectation("on_tissue", "between", on_tissue, look, {"min_value": config.min_on_tissue}),
        Expectation("oriented", "in_set", "no mirrored or rotated table fits the tissue better", transform, YES),
        Expectation("centred", "in_set", "no shifted table fits the tissue better", transform, YES, "warning"),
        Expectation("resolution", "in_set", agree, spacing, YES),
        Expectation("on_grid", "in_set", "all spots are near their place on the array", displaced, YES, "warning"),
        Expectation("stain_alike", "in_set", alike, section, YES, "warning", "library_size"),
    )


def _summarise(row: Mapping[str, Any]) -> str:
    return (
        f"{row['spots']} spots, {row['on_tissue']:.0%} on tissue, empty places {row['empty_on_tissue']:.0%}; fit "
        f"{row['score']:g}, best other {row['best_score']:g}; library size and stain {row['library_size_rank']}"
    )


def _measures(orientation: Orientation) -> dict[str, float | None]:
    rank = None if np.isnan(orientation.rank) else round(orientation.rank, 3)
    return {
        "on_tissue": round(orientation.on_tissue, 3),
        "empty_on_tissue": round(orientation.empty_on_tissue, 3),
        "library_size_rank": rank,
        "score": round(orientation.score, 3),
        "best_score": round(orientation.best_score, 3),
    }


def _failure(slides: Mapping[str, pd.Series], section: str) -> str:
    """Return why a section has no tiles, '' if it has."""
    if section not in slides:
        return "not tiled (embed.source: import?)"
    row = slides[section]
    return "" if row["status"] == "ok" else str(row["reason"])
