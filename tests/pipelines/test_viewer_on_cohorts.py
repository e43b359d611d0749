"""The viewer in Debian's Chromium on what stages made: the demo's slides, and real tissue with measured spots."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import Normalize
from selenium.webdriver import ActionChains

from dml.viewer.app import Viewer
from dml.viewer.model_source import make_viewer
from tests.dml.viewer import browser as chromium
from tests.dml.viewer.browser import By, on_screen, open_slide_page, settled, wait, wait_ready, webdriver
from tests.pipelines.conftest import Workplace, copy_of_the_repository

pytestmark = [*chromium.marks, pytest.mark.slow]
LEFT, RIGHT, TOP, BOTTOM = 240, 720, 160, 760
"""Of the slide on the screen, between the panels."""
TOLERANCE = 4


@contextmanager
def opened(place: Workplace, model: str, cohort: str) -> Iterator[tuple[webdriver.Chrome, Viewer, str]]:
    """`dml view --model MODEL --cohort COHORT`, and a browser before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place.folder)
        viewer = make_viewer(model, cohort)
        try:
            with chromium.serve(viewer) as address, chromium.start_browser(address) as browser:
                wait_ready(browser)
                yield browser, viewer, address
        finally:
            viewer.close()


def check_layer(browser: webdriver.Chrome, viewer: Viewer, layer: str) -> int:
    """Compare the pixel at the middle of each tile on the screen with the tile's number; return how many there were."""
    entry = next(entry for entry in viewer.slides.values() if viewer.map_view(entry, None) is not None)
    made = viewer.map_view(entry, None)
    assert made is not None
    centres = made.slide.layer("total", made.mpps[0])[["x_um", "y_um"]].to_numpy()
    shown = made.layer(layer, 0)
    numbers = np.array([np.nan if value is None else value for value in shown["values"]])
    x, y = np.median(centres[np.isfinite(numbers)], axis=0)
    open_slide_page(browser, viewer, entry.patient_id, f"?x={x:.0f}&y={y:.0f}&z=1.2&level=0&layers={layer}:1")
    pixels, checked = settled(browser), 0
    colours = mpl.colormaps[shown["scale"]](Normalize(shown["low"], shown["high"])(numbers))[:, :3] * 255
    for centre, number, colour in zip(centres, numbers, colours, strict=True):
        left, top = on_screen(browser, *centre)
        if LEFT < left < RIGHT and TOP < top < BOTTOM and np.isfinite(number):
            assert np.abs(pixels[top, left] - colour).max() <= TOLERANCE, (layer, centre)
            checked += 1
    return checked


def check_click(browser: webdriver.Chrome) -> None:
    """A click in the middle of the view names the tile there and its numbers."""
    ActionChains(browser).move_by_offset(480, 460).click().move_by_offset(-480, -460).perform()
    wait(lambda: "tile=" in browser.current_url, "a tile in the address")
    wait_ready(browser)
    assert "Tile " in browser.find_element(By.ID, "tile").text


def check_silence(browser: webdriver.Chrome, address: str) -> None:
    assert chromium.complaints(browser) == []
    assert chromium.stays_here(address, chromium.asked_addresses(browser))


@pytest.mark.xdist_group("small_demo")
def test_the_demo(finished_demo: Workplace) -> None:
    with opened(finished_demo, "models/demo/survival/student", "demo") as (browser, viewer, address):
        assert len(browser.find_elements(By.CSS_SELECTOR, "#rows tr")) == 30
        assert check_layer(browser, viewer, "contribution-total") > 3
        check_click(browser)
        assert check_layer(browser, viewer, "contribution-tumor") > 3
        check_silence(browser, address)


@pytest.fixture(scope="module")
def her2st(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Real sections up to a student of one fold, trained for two epochs."""
    place = copy_of_the_repository(tmp_path_factory.mktemp("her2st") / "repo")
    place.run("dml", "cohort", "import", "her2st", "--source", str(shared_data))
    place.run("dml", "cohort", "use", "her2st")
    place.set("", tasks=["invasive_share"])
    place.set("optimisation", epochs=2, ensemble_size=1)
    place.run("dvc", "repro", "distill_student@invasive_share-0")
    return place


@pytest.mark.data
def test_real_tissue_with_measured_spots(her2st: Workplace) -> None:
    with opened(her2st, "models/her2st/invasive_share/student", "her2st") as (browser, viewer, address):
        assert check_layer(browser, viewer, "contribution-total") > 3
        check_click(browser)
        assert check_layer(browser, viewer, "measured-gene-ERBB2") > 3
        check_silence(browser, address)
