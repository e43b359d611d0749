"""Debian's Chromium before a viewer: starting both, waiting, positions, pixels, and what the browser complained of.

Skipped where /usr/bin/chromium or chromedriver is missing: apt-get install chromium chromium-driver.
"""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import uvicorn
from PIL import Image

from dml.viewer.app import Viewer, make_app
from dml.viewer.guard import Guard
from dml.viewer.server import bind
from tests.dml.viewer.conftest import TOKEN, slide_of

__all__ = ["ActionChains", "By", "webdriver"]
selenium = pytest.importorskip("selenium", reason="the browser tests need selenium")
from selenium import webdriver  # noqa: E402
from selenium.webdriver import ActionChains  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
marks = [
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver (apt)"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of selenium
    pytest.mark.xdist_group("browser"),
]
SIZE = 1300, 820
SECONDS = 60


@contextmanager
def serve(viewer: Viewer) -> Iterator[str]:
    """The viewer as a server on a free port."""
    listener = bind(0)
    port = listener.getsockname()[1]
    config = uvicorn.Config(Guard(make_app(viewer), port, TOKEN), log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@contextmanager
def start_browser(address: str) -> Iterator[webdriver.Chrome]:
    """A browser at the list of slides."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--force-device-scale-factor=1"),
        *("--disable-dev-shm-usage", f"--window-size={SIZE[0]},{SIZE[1]}"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        driver.get(f"{address}?token={TOKEN}")
        yield driver
    finally:
        driver.quit()


def wait(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {SECONDS} s: {what}")


def wait_ready(browser: webdriver.Chrome, state: str = "ready") -> None:
    wait(lambda: browser.execute_script("return document.body.dataset.state") == state, state)


def open_slide_page(browser: webdriver.Chrome, viewer: Viewer, patient: str, query: str, state: str = "ready") -> None:
    browser.execute_script("location.hash = '#/'")
    wait(lambda: browser.find_element(By.ID, "list").is_displayed(), "the list")
    wait_ready(browser)
    browser.execute_script(f"location.hash = '#/slide/{slide_of(viewer, patient).key}{query}'")
    wait(lambda: browser.find_element(By.ID, "slide").is_displayed(), "the slide")
    wait_ready(browser, state)


def position(browser: webdriver.Chrome) -> dict[str, float]:
    """Middle of the view in microns and microns per pixel, as the address says."""
    query = parse_qs(urlsplit(browser.current_url).fragment.partition("?")[2])
    return {name: float(query[name][0]) for name in "xyz"}


def on_screen(browser: webdriver.Chrome, x_um: float, y_um: float) -> tuple[int, int]:
    box = browser.execute_script(
        "const b = document.getElementById('stage').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]"
    )
    at = position(browser)
    return (
        round(box[0] + box[2] / 2 + (x_um - at["x"]) / at["z"]),
        round(box[1] + box[3] / 2 + (y_um - at["y"]) / at["z"]),
    )


def screenshot(browser: webdriver.Chrome) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(browser.get_screenshot_as_png())).convert("RGB"), float)


def settled(browser: webdriver.Chrome) -> np.ndarray:
    """A screenshot once nothing fades in any more: two in a row are the same."""
    shots = [screenshot(browser)]

    def unchanged() -> bool:
        time.sleep(0.2)
        shots.append(screenshot(browser))
        return bool((shots[-1] == shots[-2]).all())

    wait(unchanged, "a still picture")
    return shots[-1]


def complaints(browser: webdriver.Chrome, expected: str = "") -> list[str]:
    """What stands in the console, but for one expected message."""
    messages = [entry["message"] for entry in browser.get_log("browser")]
    return [message for message in messages if not expected or expected not in message]


def asked_addresses(browser: webdriver.Chrome) -> list[str]:
    """Everything the browser asked for."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def stays_here(address: str, asked: list[str]) -> bool:
    return all(url.startswith((address, "data:", "blob:")) for url in asked)
