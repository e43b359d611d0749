"""Spots of a painted section in Debian's Chromium: the colour of a pixel against what was counted at its spot."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from matplotlib.colors import Normalize

from dml.cohorts.spot_store import read_spots
from dml.core.files import write_parquet
from dml.data.cohort_store import CohortStore
from dml.inference.ensemble import Ensemble
from dml.training.model_store import ModelStore
from dml.viewer.app import Viewer
from dml.viewer.slide_collection import CohortSlides
from tests import painted_sections
from tests.dml.viewer import browser as chromium
from tests.dml.viewer.browser import By, on_screen, open_slide_page, settled, wait, wait_ready, webdriver
from tests.painted_sections import DIAMETER_UM, SLIDE_MPP

pytestmark = chromium.marks
GENE, REGION, SECTION = "EPCAM", "S1-r00", "S1"
LAYER = f"measured-gene-{GENE}"
COARSE, TILE_UM = 1, 200.0
"""The level at which a tile has one spot in its middle."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CohortStore:
    """The painted sections, their slides where a cohort's raw files lie."""
    root = tmp_path_factory.mktemp("sections")
    store = painted_sections.write_cohort(root)
    store.raw_folder.parent.mkdir(parents=True)
    (root / "slides").rename(store.raw_folder)
    slides = store.slides()
    slides["path"] = [str(store.raw_folder / Path(path).name) for path in slides["path"]]
    write_parquet(store.slides_path, pa.Table.from_pandas(slides, preserve_index=False))
    return store


@pytest.fixture(scope="module")
def viewer(store: CohortStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    models = ModelStore(tmp_path_factory.mktemp("models"))
    (fold,) = painted_sections.train_folds(store, models, (0,))
    ensemble = Ensemble((fold,))
    viewer = Viewer(CohortSlides(store, ensemble.spec), ensemble, "student")
    yield viewer
    viewer.close()


@pytest.fixture(scope="module")
def address(viewer: Viewer) -> Iterator[str]:
    with chromium.serve(viewer) as address:
        yield address


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[webdriver.Chrome]:
    with chromium.start_browser(address) as driver:
        yield driver


def counted(store: CohortStore) -> pd.Series:
    """Log expression of the gene at each spot of the section, by its position in microns; counted here once more."""
    section = read_spots(store.folder).section(SECTION)
    counts = section.counts.toarray()
    values = np.log1p(1e4 * counts[:, section.genes.index(GENE)] / counts.sum(1))
    return pd.Series(values, index=pd.MultiIndex.from_frame((section.spots[["x_px", "y_px"]] * SLIDE_MPP).round(3)))


def test_a_pixel_has_the_colour_of_what_was_counted_at_its_spot(
    browser: webdriver.Chrome, viewer: Viewer, store: CohortStore
) -> None:
    view = f"?x=350&y=350&z=1.5&level={COARSE}"
    open_slide_page(browser, viewer, REGION, f"{view}&layers=none")
    bare = settled(browser)
    box = browser.find_element(By.ID, f"layer-{LAYER}")
    assert "Measured at the spots" in browser.find_element(By.ID, "layers").text
    box.click()
    wait(lambda: f"{LAYER}:0.6" in browser.current_url, "the layer in the address")
    legend = browser.find_element(By.ID, "legend").text
    assert "counts per 10,000" in legend
    assert GENE in legend
    open_slide_page(browser, viewer, REGION, f"{view}&layers={LAYER}:1")
    pixels = settled(browser)
    entry = next(entry for entry in viewer.slides.values() if entry.slide_id == REGION)
    made = viewer.map_view(entry, None)
    assert made is not None
    centres = made.slide.layer("total", made.mpps[COARSE])[["x_um", "y_um"]].to_numpy()
    known = counted(store)
    values = np.array([known.get(tuple(np.round(centre, 3)), np.nan) for centre in centres])
    with_spot = np.isfinite(values)
    assert 0 < with_spot.sum() < len(values)
    low, high = np.quantile(values[with_spot], [0.01, 0.99])
    colours = mpl.colormaps["inferno"](Normalize(low, high)(values))[:, :3] * 255
    for centre, has_spot, colour in zip(centres, with_spot, colours, strict=True):
        left, top = on_screen(browser, *centre)
        expected = colour if has_spot else bare[top, left]
        assert np.abs(pixels[top, left] - expected).max() <= 3, centre


def test_the_spots_themselves_are_a_layer_that_is_hidden_again(browser: webdriver.Chrome, viewer: Viewer) -> None:
    view = f"?x=350&y=350&z=1.5&level={COARSE}"
    open_slide_page(browser, viewer, REGION, f"{view}&layers=none")
    bare = settled(browser)
    box = browser.find_element(By.ID, "layer-measured-spots")
    box.click()
    wait(lambda: "measured-spots:0.6" in browser.current_url, "the layer in the address")
    wait_ready(browser)
    ticks = browser.find_elements(By.CSS_SELECTOR, "#legend .ticks span")
    assert float(ticks[-1].text) == pytest.approx(np.pi * (DIAMETER_UM / 2) ** 2 / TILE_UM**2, rel=0.02)
    assert np.abs(settled(browser) - bare).mean() > 1
    box.click()
    wait(lambda: "layers=none" in browser.current_url, "the layer is hidden")
    wait_ready(browser)
    assert np.abs(settled(browser)[150:-40, 220:740] - bare[150:-40, 220:740]).max() <= 3


def test_nothing_complains_and_nothing_is_asked_elsewhere(
    browser: webdriver.Chrome, viewer: Viewer, address: str
) -> None:
    """Also where another process ran the tests above."""
    open_slide_page(browser, viewer, REGION, f"?x=350&y=350&z=1.5&level={COARSE}&layers={LAYER}:1")
    asked = chromium.asked_addresses(browser)
    assert any(LAYER in url for url in asked)
    assert chromium.stays_here(address, asked)
    assert chromium.complaints(browser) == []
