"""Where microns per pixel come from: the file, else the objective, else the slide list; never a guess."""

import math

import pytest

from dml.core.errors import InputError
from dml.slides.resolution import derive, number

FILE = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}
POWER = {"openslide.objective-power": "20"}
OME = {"ome.xml": "true", "openslide.mpp-x": "0.5", "openslide.mpp-y": "0.5"}


def tags(mpp: float) -> dict[str, str]:
    return {"tiff.mpp-x": str(mpp), "tiff.mpp-y": str(mpp)}


@pytest.mark.parametrize(
    ("properties", "stated", "mpp", "source"),
    [
        ({**FILE, "openslide.objective-power": "40"}, 0.25, 0.25, "file"),
        (FILE, None, 0.25, "file"),
        (POWER, 0.5, 0.5, "objective"),
        ({}, 0.4, 0.4, "slide list"),
        ({"openslide.mpp-x": "0.49999999", "openslide.mpp-y": "0.49999999"}, None, 0.5, "file"),
        ({"openslide.mpp-x": "0.25"}, None, 0.25, "file"),
        ({"openslide.objective-power": "unknown"}, 0.4, 0.4, "slide list"),
        (OME, None, 0.5, "OME-XML"),
        ({"ome.xml": "true", **tags(0.5)}, None, 0.5, "OME-XML"),
    ],
)
def test_order(properties: dict[str, str], stated: float | None, mpp: float, source: str) -> None:
    resolution = derive(properties, stated, "a.svs")
    assert (resolution.mpp, resolution.source, resolution.notes) == (mpp, source, ())


@pytest.mark.parametrize("stated", [None, math.nan])
def test_unknown_is_an_error_that_says_what_to_do(stated: float | None) -> None:
    with pytest.raises(InputError, match=r"a\.svs: microns per pixel unknown.*column mpp of the slide list"):
        derive({}, stated, "a.svs")


def test_pixels_that_are_not_square_are_refused_beyond_a_few_per_cent() -> None:
    with pytest.raises(InputError, match=r"not square \(0\.25 x 0\.5 microns\)"):
        derive({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.5"}, None, "a.svs")
    resolution = derive({"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.51"}, None, "a.svs")
    assert resolution.mpp == pytest.approx(0.505)
    assert resolution.notes == ("pixels are not square (0.5 x 0.51 microns): their mean is used",)


@pytest.mark.parametrize("default", [352.778, 264.583, 1000.0])
def test_a_screen_resolution_is_not_taken_for_a_microscope(default: float) -> None:
    properties = {"openslide.mpp-x": str(default), "openslide.mpp-y": str(default)}
    assert derive({**properties, **POWER}, None, "a.tif").source == "objective"
    with pytest.raises(InputError, match=rf"the file says {default:g} microns per pixel, a default of image programs"):
        derive(properties, None, "a.tif")


def test_the_xml_of_an_ome_file_wins_over_its_tags() -> None:
    resolution = derive({**OME, **tags(1.0)}, None, "a.ome.tif")
    assert (resolution.mpp, resolution.source) == (0.5, "OME-XML")
    assert "the TIFF tags say 1 microns per pixel, the OME-XML 0.5" in resolution.notes[0]
    assert derive({**OME, **tags(352.778)}, None, "a.ome.tif").mpp == 0.5


@pytest.mark.parametrize(
    ("properties", "stated", "message"),
    [
        (FILE, 0.5, r"the file says 0\.25 microns per pixel, the slide list says 0\.5"),
        (FILE, 2.5, r"the file says 0\.25 microns per pixel, the slide list says 2\.5"),
        ({"openslide.mpp-x": "0.05"}, 0.5, r"the file says 0\.05 microns per pixel, the slide list says 0\.5"),
        ({**FILE, "openslide.objective-power": "4"}, None, r"the file says 0\.25 .*the objective \(4x\) says 2\.5"),
        (
            {"openslide.mpp-x": "2.5", "openslide.objective-power": "40"},
            None,
            r"says 2\.5 .*objective \(40x\) says 0\.25",
        ),
        (POWER, 0.2, r"the objective \(20x\) says 0\.5 microns per pixel, the slide list says 0\.2"),
    ],
)
def test_a_contradiction_of_two_or_more_names_both(
    properties: dict[str, str], stated: float | None, message: str
) -> None:
    with pytest.raises(InputError, match=message + r".*Set `mpp_from` \(file, objective, slide_list\)"):
        derive(properties, stated, "a.svs")


@pytest.mark.parametrize(("source", "mpp"), [("file", 0.25), ("objective", 2.5), ("slide_list", 0.5)])
def test_the_cohort_can_say_which_source_is_right(source: str, mpp: float) -> None:
    properties = {**FILE, "openslide.objective-power": "4"}
    resolution = derive(properties, 0.5, "a.svs", source)
    assert (resolution.mpp, resolution.source) == (mpp, source.replace("_", " "))
    assert len(resolution.notes) == 2
    with pytest.raises(InputError, match=f"mpp_from is {source}"):
        derive({}, None, "a.svs", source)


def test_a_small_contradiction_of_the_slide_list_is_a_note() -> None:
    resolution = derive(FILE, 0.3, "a.svs")
    assert resolution.mpp == 0.25
    assert resolution.notes[0].startswith("the slide list says 0.3 microns per pixel, the file says 0.25")
    assert derive({**FILE, "openslide.objective-power": "22"}, None, "a.svs").notes == ()


def test_the_lens_of_a_mirax_scanner_is_no_contradiction() -> None:
    mirax = {"openslide.mpp-x": "0.2325", "openslide.vendor": "mirax", **POWER}
    assert derive(mirax, None, "a.mrxs").mpp == 0.2325


@pytest.mark.parametrize("mpp", ["0.05", "0.005"])
def test_finer_than_any_scanner_is_refused(mpp: str) -> None:
    with pytest.raises(InputError, match=rf"the file says {mpp} microns per pixel, which no slide scanner gives"):
        derive({"openslide.mpp-x": mpp, "openslide.mpp-y": mpp}, None, "a.tif")
    assert derive({"openslide.mpp-x": mpp}, 0.5, "a.tif", "slide_list").mpp == 0.5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0,5", 0.5),
        (" 0.5 ", 0.5),
        ("40x", 40),
        ("20 X", 20),
        ("0.25 um", 0.25),
        ("0.25 \u00b5m", 0.25),
        ("", None),
        (None, None),
        ("-1", None),
        ("nan", None),
        ("250 nm", None),
    ],
)
def test_numbers_as_people_write_them(text: str | None, value: float | None) -> None:
    assert number(text) == value
