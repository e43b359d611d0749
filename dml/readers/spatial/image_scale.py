"""Which image the positions of spots are in, and how a hexagonal array is laid out: Visium's conventions.

Positions of Space Ranger and of squidpy are pixels of the full-resolution image. Where a cohort's slide is the
downscaled image (hires, lowres), they are multiplied by its scale factor.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat
from scipy.spatial import cKDTree

from dml.core.errors import InputError, listed
from dml.readers.spatial.spatial_format import SpatialFormat

FACTORS: Mapping[str, str] = {"hires": "tissue_hires_scalef", "lowres": "tissue_lowres_scalef"}
"""Scale factor of each downscaled image, as Space Ranger names it."""
_HALF, _ROW = 0.5, 3**0.5 / 2  # columns of a hexagonal array count halves of the spacing; its rows are that far apart


class ScaledFormat(SpatialFormat):
    """A format whose positions are in pixels of the full-resolution image."""

    image: Literal["full", "hires", "lowres"] = Field(
        default="full", description="which image the cohort's slide is: the full-resolution one, or a downscaled one"
    )
    scale: PositiveFloat | None = Field(
        default=None, description="pixels of the slide per pixel of the positions; default: the file's scale factors"
    )

    def read_scale(self, factors: Mapping[str, Any] | None, where: Path | str) -> float:
        """Return pixels of the slide per pixel of the positions.

        Raises
        ------
        InputError
            If the file has no scale factors, or not the one of `image`, and `scale` does not say it.
        """
        if self.scale is not None:
            return self.scale
        if not factors:
            remedy = "Copy scalefactors_json.json of Space Ranger, or say `scale` under `spatial` (1: full resolution)"
            raise InputError(where, "no scale factors: the image that the positions are in is unknown", remedy)
        if self.image == "full":
            return 1.0
        value = factors.get(FACTORS[self.image])
        if not isinstance(value, int | float) or not 0 < float(value) <= 1:
            problem = (
                f"{FACTORS[self.image]} is {value!r}, not above 0 and at most 1; there are {listed(sorted(factors))}"
            )
            raise InputError(where, problem, "Export the scale factors again, or say `scale` under `spatial`")
        return float(value)


def array_places(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return array_x and array_y in units of the spacing; the array is hexagonal if row + column is even everywhere.

    Examples
    --------
    >>> x, y = array_places(np.array([0, 1, 2]), np.array([0, 1, 2]))
    >>> x.tolist(), y.round(2).tolist()
    ([0.0, 0.5, 1.0], [0.0, 0.87, 1.73])
    """
    hexagonal = bool(np.all((rows + columns) % 2 == 0)) and len(set(rows % 2)) > 1
    factors = (_HALF, _ROW) if hexagonal else (1.0, 1.0)
    return columns * factors[0], rows * factors[1]


def places_of_pixels(pixels: np.ndarray) -> np.ndarray:
    """Return positions in units of the step between spots, where a file has no array places: [n, 2]."""
    if len(pixels) < 2:
        return pixels
    nearest = cKDTree(pixels).query(pixels, k=2)[0][:, 1]
    step = float(np.median(nearest))
    return pixels / step if step > 0 else pixels


def make_spots(
    ids: list[str], places: tuple[np.ndarray, np.ndarray], pixels: np.ndarray, on_tissue: np.ndarray
) -> pd.DataFrame:
    """Return the table of spots of a section; `pixels` [n, 2] are those of the slide."""
    return pd.DataFrame(
        {
            "spot_id": ids, "array_x": places[0].astype(np.float64), "array_y": places[1].astype(np.float64),
            "x_px": pixels[:, 0].astype(np.float64), "y_px": pixels[:, 1].astype(np.float64),
            "on_tissue": on_tissue.astype(bool),
        }
    )  # fmt: skip
