"""Microns per pixel of slides from their spots: the known spacing in microns over the measured step in pixels."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from dml.cohorts.description import CohortDescription
from dml.core.errors import ConfigError, InputError, listed
from dml.readers.raw_files import SpotSpacing

MAX_ANISOTROPY = 0.03
"""Share by which the steps along the two axes of an array may differ, and the cosine of the angle between them."""
MAX_SHIFT = 0.5
"""Distance from its array place, in steps, from which a spot is reported."""
_FEWEST = 4  # spots that a fit needs
_SOFT = 0.05  # steps; residuals beyond it count less and less


def fill_resolution(slides: pd.DataFrame, description: CohortDescription, spots: pd.DataFrame | None) -> pd.DataFrame:
    """Return the slides with `mpp` from their spots, where the description says ``mpp: {from: spots}``.

    Parameters
    ----------
    slides : DataFrame
        As `slide_table.build_slides` returns them.
    description : CohortDescription
        Of the cohort.
    spots : DataFrame or None
        As spots.parquet holds them.

    Raises
    ------
    ConfigError
        If the cohort has no `spatial`, or says two different spacings.
    InputError
        If a slide has too few spots, or their steps along x and y differ by more than 3 %.
    """
    source = None if description.slides is None else description.slides.table or description.slides.folder
    if source is None or not isinstance(source.mpp, SpotSpacing):
        return slides
    if description.spatial is None:
        raise ConfigError("slides: mpp: {from: spots} is for a cohort with `spatial`")
    spacing = description.spatial.spacing_um
    if source.mpp.spacing_um not in (None, spacing):
        raise ConfigError(f"slides: mpp: spacing_um is {source.mpp.spacing_um:g}, spatial.spacing_um {spacing:g}")
    if spots is None or not len(spots):
        raise InputError("spots.parquet", "no spots to take the resolution from", "Run: dvc repro spots")
    by_section = dict(tuple(spots.groupby("section_id")))
    if absent := [slide for slide in slides["slide_id"] if slide not in by_section]:
        raise InputError("spots.parquet", f"no spots of {listed(absent)}", "Run: dvc repro spots")
    values = [fit_mpp(by_section[slide], spacing, f"spots of {slide}") for slide in slides["slide_id"]]
    return slides.assign(mpp=values)


def fit_mpp(spots: pd.DataFrame, spacing_um: float, where: str | Path) -> float:
    """Fit pixel positions to array positions by an affine map that outliers hardly move; return microns per pixel.

    Parameters
    ----------
    spots : DataFrame
        Of one section: array_x, array_y (in units of the spacing), x_px, y_px.
    spacing_um : float
        Distance between neighbouring spots in microns.
    where : str or Path
        For messages.

    Raises
    ------
    InputError
        If there are too few spots, the steps along x and y differ by more than 3 % or are not at a right angle.

    Examples
    --------
    >>> grid = pd.DataFrame({"array_x": [1, 2, 1, 2], "array_y": [1, 1, 2, 2]}, dtype=float)
    >>> fit_mpp(grid.assign(x_px=grid["array_x"] * 250, y_px=grid["array_y"] * 250), 200, "spots")
    0.8
    """
    steps = fit_array(spots, where)[:2]
    x_step, y_step = (float(np.linalg.norm(step)) for step in steps)
    cosine = float(abs(steps[0] @ steps[1]) / (x_step * y_step))
    if abs(x_step / y_step - 1) > MAX_ANISOTROPY or cosine > MAX_ANISOTROPY:
        problem = f"a step of the array is {x_step:.1f} px along x and {y_step:.1f} px along y"
        if cosine > MAX_ANISOTROPY:
            problem += f", at {np.degrees(np.arccos(cosine)):.0f} degrees"
        remedy = (
            "Are array places and pixels in the right columns, and the image not stretched? Else give mpp as a number"
        )
        raise InputError(where, problem, remedy)
    return float(f"{spacing_um / np.sqrt(x_step * y_step):.6g}")


def fit_array(spots: pd.DataFrame, where: str | Path) -> NDArray[np.float64]:
    """Return the step along array_x, the step along array_y, and the origin, in pixels: [3, 2].

    Raises
    ------
    InputError
        If there are fewer than four spots, or all lie on one line.
    """
    places = np.column_stack([spots[["array_x", "array_y"]].to_numpy(np.float64), np.ones(len(spots))])
    pixels = spots[["x_px", "y_px"]].to_numpy(np.float64)
    centred = places[:, :2] - places[:, :2].mean(axis=0) if len(spots) else places[:, :2]
    if len(spots) < _FEWEST or np.linalg.matrix_rank(centred) < 2:
        problem = f"{len(spots)} spots are too few, or on one line: no resolution follows from them"
        raise InputError(where, problem, "Give mpp as a number or column under `slides`")
    start = np.linalg.lstsq(places, pixels, rcond=None)[0]
    step = max(float(np.linalg.norm(start[0])), 1e-9)

    def residuals(flat: np.ndarray) -> np.ndarray:
        return np.asarray((places @ flat.reshape(3, 2) * step - pixels).ravel() / step)

    fit = least_squares(residuals, (start / step).ravel(), loss="cauchy", f_scale=_SOFT)
    return np.asarray(fit.x.reshape(3, 2) * step)


def find_displaced(spots: pd.DataFrame, where: str | Path) -> list[str]:
    """Return the ids of spots whose pixels are more than half a step from where their array place is."""
    array = fit_array(spots, where)
    places = np.column_stack([spots[["array_x", "array_y"]].to_numpy(np.float64), np.ones(len(spots))])
    distance = np.linalg.norm(places @ array - spots[["x_px", "y_px"]].to_numpy(np.float64), axis=1)
    limit = MAX_SHIFT * min(np.linalg.norm(array[0]), np.linalg.norm(array[1]))
    return [str(name) for name in spots["spot_id"].to_numpy()[distance > limit]]
