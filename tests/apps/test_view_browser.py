"""``avatarzoo view`` in a real browser: Debian's chromium without a window, driven by its own driver."""

from __future__ import annotations

import io
import os
import shutil
import signal
import time

import numpy as np
import pytest
from PIL import Image

from avatarzoo.apps.view_server import ViewServer
from avatarzoo.apps.view_stage import Sitter, Studio
from avatarzoo.models.drawing import identity_of
from avatarzoo.trackers.live_driving import framed

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SIZE = 128
CANVAS, BELOW = 130, 75
"""Columns left of the panel, and rows below what the page says about software rendering; pixels of half scale."""


@pytest.fixture(scope="module")
def programs():
    """Paths of chromium and its driver."""
    pytest.importorskip("viser", reason="the extra view is not installed")
    pytest.importorskip("selenium", reason="selenium (development dependencies) is not installed")
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if None in found:
        pytest.skip("there is no chromium here; install it with: apt-get install chromium chromium-driver")
    return found


@pytest.fixture(scope="module")
def browse(programs, tmp_path_factory):
    """Opens a browser window at an address; downloads go to ``window.downloads``."""
    from selenium import webdriver

    opened = []

    def window(address):
        options = webdriver.ChromeOptions()
        options.binary_location = programs[0]
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
            "--window-size=600,480", "--force-device-scale-factor=0.5",
        ):  # fmt: skip
            options.add_argument(argument)
        downloads = tmp_path_factory.mktemp("downloads")
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
        driver.downloads = downloads
        driver.set_page_load_timeout(120)
        opened.append(driver)
        driver.get(address)
        return driver

    yield window
    for driver in opened:
        driver.quit()


@pytest.fixture(scope="module")
def server(live_avatar):
    _, module = live_avatar
    state = module.reconstruct()
    rest = framed(module.head, SIZE, identity=identity_of(state))
    made = ViewServer(Studio([Sitter("cloud", module, state, module.head, rest)]), "127.0.0.1", 0, SIZE, 25.0)
    yield made
    made.close()


@pytest.fixture(scope="module")
def address(server):
    return f"http://127.0.0.1:{server.port}"


def seen(window) -> np.ndarray:
    """What is left of the panel."""
    picture = Image.open(io.BytesIO(window.get_screenshot_as_png())).convert("RGB")
    return np.asarray(picture)[:, :CANVAS].astype(int)


def wait(reached, seconds: float = 90.0) -> None:
    from selenium.common.exceptions import TimeoutException

    def there() -> bool:
        try:
            return bool(reached())
        except TimeoutException:  # a browser without a graphics card on a busy machine
            return False

    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline, "the browser did not get there"
        time.sleep(0.3)


def shows_the_avatar(window) -> bool:
    return bool(np.ptp(seen(window)[BELOW:]) > 150)


def number_box(window, label: str):
    """The field beside a slider."""
    from selenium.webdriver.common.by import By

    path = f"//*[normalize-space(text())='{label}']/following::input[@type='text' or @inputmode][1]"
    found: list = []
    wait(lambda: found.extend(window.find_elements(By.XPATH, path)) or found)
    return found[0]


def button(window, label: str):
    from selenium.webdriver.common.by import By

    return window.find_element(By.XPATH, f"//button[contains(., '{label}')]")


def type_into(box, text: str) -> None:
    from selenium.webdriver.common.keys import Keys

    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(text, Keys.ENTER)


@pytest.fixture(scope="module")
def window(browse, address):
    made = browse(address)
    wait(lambda: shows_the_avatar(made))
    return made


def test_the_page_loads_and_a_slider_moves_the_picture(window):
    assert "Open mouth" in window.page_source
    before = seen(window)
    type_into(number_box(window, "Turn head"), "40")
    wait(lambda: np.abs(seen(window) - before)[BELOW:].mean() > 4)


def test_a_drag_moves_the_camera(window):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    before = seen(window)
    canvas = window.find_element(By.TAG_NAME, "canvas")
    ActionChains(window).move_to_element(canvas).click_and_hold().move_by_offset(60, 0).release().perform()
    wait(lambda: np.abs(seen(window) - before)[BELOW:].mean() > 4)


def test_a_picture_is_saved(window):
    button(window, "Save picture").click()
    wait(lambda: list(window.downloads.glob("cloud-*.png")))
    (path,) = window.downloads.glob("cloud-*.png")
    assert Image.open(path).size == (SIZE, SIZE)


def test_two_browsers_and_one_is_killed(window, browse, address, server):
    before = seen(window)
    other = browse(address)
    wait(lambda: shows_the_avatar(other))
    assert len(server.pages) == 2
    os.kill(other.capabilities["goog:processID"], signal.SIGKILL)
    wait(lambda: len(server.pages) == 1)
    type_into(number_box(window, "Turn head"), "-40")
    wait(lambda: np.abs(seen(window) - before)[BELOW:].mean() > 4)
