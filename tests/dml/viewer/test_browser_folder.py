"""`dml view --slides FOLDER` in Debian's Chromium: plain images, a slide of OpenSlide, and a real Aperio slide."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from dml.core.errors import ConfigError
from dml.encoders import registry as encoders
from dml.slides.reader import open_slide
from dml.viewer.app import Viewer
from dml.viewer.model_source import make_viewer
from tests import painted
from tests.dml.viewer import browser as chromium
from tests.dml.viewer.browser import By, on_screen, open_slide_page, screenshot, wait, wait_ready, webdriver
from tests.dml.viewer.conftest import slide_of
from tests.trained_models import ENCODER, write_folds

pytestmark = chromium.marks
CMU = "slides/cmu-1-small-region.svs"
Opened = tuple[webdriver.Chrome, Viewer, str]


def fill(folder: Path, kind: str, real: Path | None) -> float | None:
    """Write or copy the files of a folder; return the resolution that `--mpp` states."""
    folder.mkdir()
    if kind == "images":
        painted.write_image(folder / "photo.png", painted.tissue_pixels(1800, 1500))
        painted.write_image(folder / "scan.jpg", painted.tissue_pixels(1600, 1400, seed=1))
        return 0.5
    if real is None:
        painted.write_slide(folder / "photo.tif", painted.tissue_pixels(1800, 1500))
    else:
        shutil.copy(real, folder / "photo.svs")
    return None


@pytest.fixture(params=["images", "slide", pytest.param("aperio", marks=pytest.mark.data)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    real = request.getfixturevalue("shared_data") / CMU if request.param == "aperio" else None
    if real is not None and not real.exists():
        pytest.skip(f"{real} is not there")
    encoders.register(painted.fake_card(ENCODER))
    mpp = fill(tmp_path / "scans", request.param, real)
    model = write_folds(tmp_path / "models/demo/survival/student", "student")
    viewer = make_viewer(str(model), slides=tmp_path / "scans", mpp=mpp)
    with ExitStack() as stack:
        stack.callback(viewer.close)
        address = stack.enter_context(chromium.serve(viewer))
        yield stack.enter_context(chromium.start_browser(address)), viewer, address


def test_files_of_a_folder_are_encoded_drawn_and_explained(opened: Opened) -> None:
    """The pixel under a tile's middle is the file's, with the layer off; with it on, it has the layer's colour."""
    browser, viewer, address = opened
    wait_ready(browser)
    rows = browser.find_elements(By.CSS_SELECTOR, "#rows tr")
    assert len(rows) == len(viewer.slides)
    image = rows[0].find_element(By.CSS_SELECTOR, "img")
    wait(lambda: browser.execute_script("return arguments[0].naturalWidth > 0", image), "a thumbnail")
    entry = slide_of(viewer, "photo")
    open_slide_page(browser, viewer, "photo", "?layers=none")
    assert "risk" in browser.find_element(By.ID, "prediction").text
    view = viewer.map_view(entry, None)
    assert view is not None
    content = view.layer("contribution-total", 0)
    tiles = view.slide.layer("total", view.mpps[0])
    assert len(tiles) > 10
    middle = tiles.iloc[len(tiles) // 2]
    x, y = float(middle["x_um"]), float(middle["y_um"])
    open_slide_page(browser, viewer, "photo", f"?x={x}&y={y}&z=1&layers=none")
    assert entry.file is not None
    with open_slide(entry.file, entry.stated_mpp) as slide:
        side = 60 / slide.mpp
        expected = slide.read(round(x / slide.mpp - side / 2), round(y / slide.mpp - side / 2), (60, 60), 1.0)
    left, top = on_screen(browser, x, y)
    wait(lambda: near(screenshot(browser)[top - 30 : top + 30, left - 30 : left + 30], expected), "the file's pixels")
    open_slide_page(browser, viewer, "photo", f"?x={x}&y={y}&z=1&layers=contribution-total:1")
    value = content["values"][len(tiles) // 2]
    index = int((value - content["low"]) / (content["high"] - content["low"]) * 256)
    colour = content["colours"][min(255, max(0, index))]
    shown = screenshot(browser)[top, left]
    assert np.abs(shown - [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).max() <= 3
    asked = chromium.asked_addresses(browser)
    assert any("deepzoom" in url for url in asked)
    assert chromium.stays_here(address, asked)
    assert chromium.complaints(browser) == []


def near(shown: np.ndarray, expected: np.ndarray) -> bool:
    """The mean colour of a patch of 60 microns, within what scaling and JPEG change."""
    return bool(np.abs(shown.mean((0, 1)) - expected.mean((0, 1))).max() < 4)


def test_the_resolution_of_images_is_said_and_of_a_cohort_not_asked(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    painted.write_image(folder / "photo.png", painted.tissue_pixels(300, 300))
    model = str(write_folds(tmp_path / "student", "student"))
    stated = [
        entry.stated_mpp
        for mpp in (0.25, None)
        for entry in make_viewer(model, slides=folder, mpp=mpp).collection.entries()
    ]
    assert stated == [0.25, None]
    with pytest.raises(ConfigError, match="--mpp is of --slides"):
        make_viewer(model, cohort="demo", mpp=0.5)
