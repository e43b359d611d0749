"""The resolution that follows from spots: closed forms, rotation, outliers, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dml.cohorts.spot_resolution import find_displaced, fit_array, fit_mpp
from dml.cohorts.stores import build_cohort
from dml.core.errors import ConfigError, InputError
from tests.dml.cohorts.test_spots import describe
from tests.spatial_sections import make_section, write_st


def grid(step_x: float = 250.0, step_y: float = 250.0, angle: float = 0.0, shear: float = 0.0) -> pd.DataFrame:
    x, y = (axis.ravel().astype(float) for axis in np.meshgrid(np.arange(2, 12), np.arange(5, 13)))
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = x * step_x + y * step_y * shear, y * step_y
    ids = [f"{a:.0f}x{b:.0f}" for a, b in zip(x, y, strict=True)]
    pixels = {"x_px": cos * u - sin * v + 91, "y_px": sin * u + cos * v - 17}
    return pd.DataFrame({"spot_id": ids, "array_x": x, "array_y": y, **pixels})


@given(step=st.floats(20, 2000), angle=st.floats(-3.2, 3.2), mirrored=st.booleans())
def test_the_resolution_is_spacing_over_step_whatever_the_rotation(step: float, angle: float, mirrored: bool) -> None:
    spots = grid(step, step, angle)
    if mirrored:
        spots["x_px"] = 5000 - spots["x_px"]
    assert fit_mpp(spots, 200, "spots") == pytest.approx(200 / step, rel=1e-5)


def test_steps_that_differ_little_are_averaged_and_beyond_three_per_cent_refused() -> None:
    assert fit_mpp(grid(250, 250 * 1.02), 200, "spots") == pytest.approx(0.8 / np.sqrt(1.02), rel=1e-5)
    with pytest.raises(InputError) as error:
        fit_mpp(grid(250, 260), 200, "spots of A1")
    assert str(error.value) == (
        "spots of A1: a step of the array is 250.0 px along x and 260.0 px along y. Are array places and pixels in the "
        "right columns, and the image not stretched? Else give mpp as a number"
    )
    with pytest.raises(InputError, match="at 84 degrees"):
        fit_mpp(grid(shear=0.1, step_y=250 / np.sqrt(1.01)), 200, "spots of A1")


def test_a_few_wrong_positions_move_nothing_and_are_named() -> None:
    spots = grid()
    spots.loc[[3, 40, 66], "x_px"] += [4000, -900, 150]
    spots[["x_px", "y_px"]] += np.random.default_rng(0).normal(0, 4, (len(spots), 2))
    assert fit_mpp(spots, 200, "spots") == pytest.approx(0.8, rel=3e-3)
    assert find_displaced(spots, "spots") == spots["spot_id"][[3, 40, 66]].tolist()
    np.testing.assert_allclose(fit_array(spots, "spots")[2], (91, -17), atol=10)


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 1, 2, 3, 4]])
def test_too_few_spots_or_one_line_give_no_resolution(rows: list[int]) -> None:
    with pytest.raises(InputError, match=f"{len(rows)} spots are too few, or on one line"):
        fit_mpp(grid().iloc[rows], 200, "spots")


def test_a_hexagonal_array_has_the_spacing_of_its_neighbours() -> None:
    row, col = (axis.ravel() for axis in np.meshgrid(np.arange(8), np.arange(16), indexing="ij"))
    even = (row + col) % 2 == 0
    x, y = col[even] / 2, row[even] * 3**0.5 / 2
    spots = pd.DataFrame({"array_x": x, "array_y": y, "x_px": x * 180, "y_px": y * 180})
    assert fit_mpp(spots, 100, "spots") == pytest.approx(100 / 180, rel=1e-5)


def test_what_the_description_cannot_mean_is_refused(tmp_path: Path) -> None:
    write_st(tmp_path, make_section())
    folder = {"folder": "images", "patient_id": "P1", "mpp": {"from": "spots", "spacing_um": 100}}
    spots = pd.DataFrame({"section_id": ["B1"]})
    with pytest.raises(ConfigError, match=r"spacing_um is 100, spatial\.spacing_um 200"):
        build_cohort(describe(tmp_path, slides={"folder": folder}), spots)
    with pytest.raises(InputError, match=r"no spots of A1\. Run: dvc repro spots"):
        build_cohort(describe(tmp_path), spots)
    with pytest.raises(InputError, match="no spots to take the resolution from"):
        build_cohort(describe(tmp_path))


def test_a_number_needs_no_spots(tmp_path: Path) -> None:
    write_st(tmp_path, make_section())
    folder = {"folder": "images", "patient_id": "P1", "mpp": 0.69}
    assert build_cohort(describe(tmp_path, slides={"folder": folder})).slides["mpp"].tolist() == [0.69]
