"""Where microns per pixel come from: the file, else the objective, else the slide list; never a guess."""

import math

import pytest

from dml.core.errors import InputError
from dml.slides.resolution import derive

FILE = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}
POWER = {"openslide.objective-power": "20"}


@pytest.mark.parametrize(
    ("properties", "stated", "mpp", "source"),
    [
        ({**FILE, **POWER}, 0.25, 0.25, "file"),
        (FILE, None, 0.25, "file"),
        (POWER, 0.4, 0.5, "objective"),
        ({}, 0.4, 0.4, "slide list"),
        ({"openslide.mpp-x": "0.49999999", "openslide.mpp-y": "0.49999999"}, None, 0.5, "file"),
        ({"openslide.mpp-x": "0.25"}, None, 0.25, "file"),
        ({"openslide.objective-power": "unknown"}, 0.4, 0.4, "slide list"),
    ],
)
def test_order(properties: dict[str, str], stated: float | None, mpp: float, source: str) -> None:
    found = derive(properties, stated, "a.svs")
    assert (found.mpp, found.source, found.notes) == (mpp, source, ())


@pytest.mark.parametrize("stated", [None, math.nan])
def test_unknown_is_an_error_that_says_what_to_do(stated: float | None) -> None:
    with pytest.raises(InputError, match=r"a\.svs: microns per pixel unknown.*column mpp of the slide list"):
        derive({}, stated, "a.svs")


def test_unequal_axes_are_averaged_and_recorded() -> None:
    found = derive({"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.6"}, None, "a.svs")
    assert found.mpp == pytest.approx(0.55)
    assert found.notes == ("pixels are not square (0.5 x 0.6 microns): their mean is used",)


def test_a_screen_resolution_is_not_taken_for_a_microscope() -> None:
    dpi72 = {"openslide.mpp-x": "352.778", "openslide.mpp-y": "352.778"}
    assert derive({**dpi72, **POWER}, None, "a.tif").source == "objective"
    with pytest.raises(InputError, match=r"the file says 352\.778 microns per pixel, which no microscope gives"):
        derive(dpi72, None, "a.tif")


def test_a_contradicting_slide_list_is_recorded_and_not_used() -> None:
    found = derive(FILE, 0.5, "a.svs")
    assert found.mpp == 0.25
    assert found.notes == ("the slide list says 0.5 microns per pixel, the file 0.25: the file is used",)
