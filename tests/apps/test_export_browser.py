"""The exported page in a real browser: it draws what avatarzoo draws, offline."""

from __future__ import annotations

import base64
import shutil

import cv2
import numpy as np
import pytest
import torch

from avatarzoo.apps.export_page import write_page
from avatarzoo.apps.view_controls import changed, controls_of
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.models import GaussianDejaVu

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SIZE = 96
POSES = (
    {},
    {("", "Smile"): 0.7, ("", "Open mouth"): 0.5, ("", "Turn head"): 20.0},
    {
        ("Eyes", "Close left"): 0.5,
        ("", "Look sideways"): 20.0,
        ("Neck", "Turn"): 10.0,
        ("Jaw joint", "Open"): 10.0,
    },
)
READY = "const done = arguments[0]; avatar.ready.then(() => done('')).catch(e => done(String(e)));"
DRAW = """
avatar.camera({ size: [arguments[1], arguments[1]] });
for (const [folder, label, value] of arguments[0]) avatar.set(folder, label, value);
return avatar.draw();
"""


@pytest.fixture
def browser():
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("chromium and its driver are not here: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "use-angle=swiftshader", "enable-unsafe-swiftshader"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield window
    window.quit()


def avatar():
    """In stage 2, so that blendmaps act."""
    torch.manual_seed(0)
    module = GaussianDejaVu(uv_size=48, n_blendmaps=3).eval()
    with torch.no_grad():
        module.identity.normal_(std=0.3)
        module.global_delta.normal_(std=0.2)
        module.blend_residual.normal_(std=0.2)
        module.gate.weight.normal_()
        module.stage.fill_(2)
    return module


def test_the_page_draws_what_we_draw(browser, tmp_path):
    module = avatar()
    browser.get(write_page(tmp_path / "a.html", module).as_uri())
    assert browser.execute_async_script(READY) == ""
    assert browser.title == "a"
    controls, bounds = controls_of(module.head), module.head.expression_bounds
    pictures = []
    for values in POSES:
        browser.execute_script("reset()")
        sliders = [[*key, value] for key, value in values.items()]
        coded = browser.execute_script(DRAW, sliders, SIZE).partition(",")[2]
        drawn = cv2.imdecode(np.frombuffer(base64.b64decode(coded), np.uint8), cv2.IMREAD_COLOR_RGB).astype(
            int
        )
        params = changed(module.head.zeros(1), values, controls, bounds)
        with torch.no_grad():
            ours = module.animate(module.reconstruct(), params, look_at_face(size=SIZE)).rgb[0]
        expected = (ours * 255).round().permute(1, 2, 0).numpy()
        off = np.abs(drawn - expected).max(2)
        assert np.mean(off > 2) < 0.0005, values  # the same order, the same tiles: see the card of the method
        assert off.mean() < 0.5, values
        pictures.append(drawn)
    assert np.abs(pictures[0] - pictures[1]).max() > 50
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
