"""The viewer in Chromium: open, zoom, toggle layers, click a tile; pixels against numbers; nothing asked elsewhere."""

import time
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import Normalize

from dml.attribution.attribute import attribute
from dml.inference.maps.slide_map import tile_table
from dml.viewer.app import Viewer
from tests.dml.viewer import browser as chromium
from tests.dml.viewer.browser import (
    SIZE,
    ActionChains,
    By,
    on_screen,
    open_slide_page,
    position,
    screenshot,
    wait,
    wait_ready,
    webdriver,
)
from tests.dml.viewer.conftest import PAINTED, TOKEN, WITHOUT_COORDINATES, WITHOUT_PIXELS, slide_of

pytestmark = chromium.marks


@pytest.fixture(scope="module")
def address(viewer: Viewer) -> Iterator[str]:
    """The viewer as a server on a free port."""
    with chromium.serve(viewer) as address:
        yield address


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[webdriver.Chrome]:
    with chromium.start_browser(address) as driver:
        yield driver


def test_the_list_opens_a_slide(browser: webdriver.Chrome, viewer: Viewer) -> None:
    wait_ready(browser)
    rows = browser.find_elements(By.CSS_SELECTOR, "#rows tr")
    assert len(rows) == 12
    assert TOKEN not in browser.current_url
    image = browser.find_element(By.CSS_SELECTOR, "#rows img")
    wait(lambda: browser.execute_script("return arguments[0].naturalWidth > 0", image), "a thumbnail")
    browser.find_element(By.LINK_TEXT, f"slide-{PAINTED}").click()
    wait(lambda: browser.find_element(By.ID, "slide").is_displayed(), "the slide")
    wait_ready(browser)
    assert browser.find_element(By.ID, "title").text == f"slide-{PAINTED}"
    assert "risk" in browser.find_element(By.ID, "prediction").text
    assert browser.execute_script("return document.getElementById('overlay').dataset.scaleBar").endswith("m")


@pytest.mark.parametrize(
    ("layer", "level", "scale"), [("contribution-total", 0, "PuOr_r"), ("contribution-tumor", 1, "PuOr_r")]
)
def test_the_colour_of_a_pixel_is_that_of_its_number(
    browser: webdriver.Chrome, viewer: Viewer, layer: str, level: int, scale: str
) -> None:
    """The number by the attribution itself, the colour by matplotlib, the pixel by a screenshot."""
    open_slide_page(browser, viewer, PAINTED, f"?x=384&y=384&z=2&level={level}&layers={layer}:1")
    rows = tile_table(attribute(viewer.ensemble.folds, viewer.collection.read_patient(PAINTED).patient), 0)
    rows = rows[rows["mpp"] == sorted(set(rows["mpp"]))[level]]
    signed = {branch: part["contribution"].to_numpy() for branch, part in rows.groupby("branch")}
    signed["difference"] = signed["tumor"] - signed["tme"]
    limit = max(np.quantile(np.abs(values), 0.99) for values in signed.values())
    pixels, tiles = screenshot(browser), rows[rows["branch"] == layer.partition("-")[2]]
    colours = mpl.colormaps[scale](Normalize(-limit, limit)(tiles["contribution"].to_numpy()))[:, :3] * 255
    for (x, y), expected in zip(tiles[["x_um", "y_um"]].to_numpy(), colours, strict=True):
        left, top = on_screen(browser, x, y)
        assert np.abs(pixels[top, left] - expected).max() <= 3, (x, y)


def test_layers_are_toggled_and_faded_by_mouse_and_keys(browser: webdriver.Chrome, viewer: Viewer) -> None:
    open_slide_page(browser, viewer, PAINTED, "?layers=none")
    bare = screenshot(browser)
    browser.find_element(By.ID, "layer-contribution-total").click()
    wait_ready(browser)
    wait(lambda: "contribution-total:0.6" in browser.current_url, "the layer in the address")
    assert "SD of training risk" in browser.find_element(By.ID, "legend").text
    painted = screenshot(browser)
    assert np.abs(painted - bare).mean() > 1
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys("]")
    wait(lambda: "contribution-total:0.7" in browser.current_url, "more opacity")
    body.send_keys("4")  # after tissue and two grids
    wait(lambda: "layers=none" in browser.current_url, "the layer is hidden")
    wait_ready(browser)
    body.send_keys("m")
    wait(lambda: "level=1" in browser.current_url, "the other magnification")
    body.send_keys("2")
    wait(lambda: "grid-0" in browser.current_url, "a grid")
    body.send_keys("g")
    wait(lambda: browser.find_elements(By.CSS_SELECTOR, "#gallery .strip button"), "the gallery")
    body.send_keys("g")
    assert not browser.find_element(By.ID, "gallery").is_displayed()


def test_zoom_moves_the_view_and_the_address_restores_it(browser: webdriver.Chrome, viewer: Viewer) -> None:
    open_slide_page(browser, viewer, PAINTED, "?x=300&y=250&z=0.5&layers=grid-0:1")
    assert position(browser) == pytest.approx({"x": 300, "y": 250, "z": 0.5}, rel=0.01)
    browser.find_element(By.ID, "zoom-in").click()
    wait(lambda: position(browser)["z"] < 0.4, "a closer view")
    wait_ready(browser)
    before, seen = position(browser), screenshot(browser)
    browser.refresh()
    wait_ready(browser)
    assert position(browser) == pytest.approx(before, rel=0.01)
    time.sleep(0.5)  # tiles fade in
    assert np.abs(screenshot(browser) - seen).mean() < 3


def test_a_click_gives_the_numbers_of_the_tile(browser: webdriver.Chrome, viewer: Viewer) -> None:
    open_slide_page(browser, viewer, PAINTED, "?layers=contribution-total:0.6")
    rows = tile_table(attribute(viewer.ensemble.folds, viewer.collection.read_patient(PAINTED).patient), 0)
    tiles = rows[(rows["branch"] == "total") & (rows["mpp"] == 0.5)].reset_index(drop=True)
    chosen = len(tiles) // 2
    left, top = on_screen(browser, *tiles.loc[chosen, ["x_um", "y_um"]])
    ActionChains(browser).move_by_offset(left, top).click().move_by_offset(-left, -top).perform()
    wait(lambda: f"tile={chosen}" in browser.current_url, "the tile in the address")
    wait_ready(browser)
    panel = browser.find_element(By.ID, "tile")
    assert f"Tile {chosen} of {len(tiles)}" in panel.text
    cell = panel.find_element(By.CSS_SELECTOR, "tr[data-branch=total] td:nth-child(2)").text
    assert float(cell.replace("\N{MINUS SIGN}", "-")) == pytest.approx(tiles.loc[chosen, "contribution"], rel=0.01)
    pictures = panel.find_elements(By.TAG_NAME, "img")
    assert len(pictures) == 2
    for picture in pictures:
        wait(lambda p=picture: browser.execute_script("return arguments[0].naturalWidth", p) == 256, "its picture")


def test_maps_without_pixels_and_reasons_without_map(browser: webdriver.Chrome, viewer: Viewer) -> None:
    open_slide_page(browser, viewer, WITHOUT_PIXELS, "?layers=contribution-total:1")
    assert "no pixels" in browser.find_element(By.ID, "subtitle").text
    stage = screenshot(browser)[60:-20, 60 : SIZE[0] - 360]
    assert (stage.max(axis=-1) - stage.min(axis=-1) > 10).any()
    browser.execute_script(f"location.hash = '#/slide/{slide_of(viewer, WITHOUT_COORDINATES).key}'")
    wait(lambda: "without coordinates" in browser.find_element(By.ID, "error").text, "the reason")


def test_no_error_in_the_console_and_no_request_off_this_machine(browser: webdriver.Chrome, address: str) -> None:
    """After all of the above."""
    expected = "the server responded with a status of 404"  # of the slide without pixels and coordinates
    assert chromium.complaints(browser, expected) == []
    asked = chromium.asked_addresses(browser)
    assert len(asked) > 30
    assert chromium.stays_here(address, asked)
