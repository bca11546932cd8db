"""Draws the pictures of the documentation from a quickstart avatar: made-up people only. Needs the extra view, and chromium.

avatarzoo fit -c configs/quickstart.yaml
python docs/pictures.py runs/quickstart/avatar.ckpt
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from avatarzoo import cli
from avatarzoo.apps.export_page import write_page
from avatarzoo.apps.view import parser, studio_of
from avatarzoo.apps.view_server import ViewServer
from avatarzoo.data.multiview_procedural import draw_person
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.video import read_frames
from avatarzoo.models import load_avatar

IMAGES = Path(__file__).parent / "images"
CLOSE = "document.querySelectorAll('[class*=Notification-close]').forEach(button => button.click())"
"""What viser says about browsers without a graphics card."""
ACTORS = {"me": 0, "driver": 5}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("checkpoint", type=Path, help="of configs/quickstart.yaml")
    args = p.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, seed in ACTORS.items():
            ProceduralActor(seed=seed, size=384).write_video(work / f"{name}.mp4", 40)
        tracking(work)
        driving(args.checkpoint, work)
        photo(work)
        live(args.checkpoint, work)
        in_a_browser(args.checkpoint, work)


def save(name: str, picture: np.ndarray, side: int) -> None:
    """As ``images/name.jpg``, so wide."""
    height = round(picture.shape[0] * side / picture.shape[1])
    small = cv2.resize(picture, (side, height), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(IMAGES / f"{name}.jpg"), small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def run(*args: object) -> None:
    assert cli.main([str(a) for a in args]) == 0


def tracking(work: Path) -> None:
    """What track writes to be judged by."""
    run("track", work / "me.mp4", work / "tracked", "--head", "procedural", "--quiet")
    save("tracking", cv2.imread(str(work / "tracked" / "preview.jpg"))[..., ::-1], 800)


def driving(checkpoint: Path, work: Path) -> None:
    """A driver above, the avatar below."""
    run(
        "drive",
        checkpoint,
        "--with",
        work / "driver.mp4",
        "--out",
        work / "out.mp4",
        "--size",
        256,
        "--quiet",
    )
    above, below = (list(read_frames(work / name)) for name in ("driver.mp4", "out.mp4"))
    chosen = np.linspace(0, len(below) - 1, 5).round().astype(int)
    columns = [np.vstack([cv2.resize(above[i], (256, 256)), below[i]]) for i in chosen]
    save("driving", np.hstack(columns), 800)


def photo(work: Path) -> None:
    """A picture of somebody made up, and the head that one picture gives."""
    views = draw_person(11, 1, 1, 384)
    picture = views.images[0].permute(1, 2, 0).numpy()
    cv2.imwrite(str(work / "photo.png"), picture[..., ::-1])
    run("reconstruct", work / "photo.png", work / "photo", "--seconds", 2)
    frames = list(read_frames(work / "photo" / "orbit.mp4"))
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) * 0.75, 4)]
    save("photo", np.hstack([cv2.resize(picture, (384, 384)), *chosen]), 900)


def live(checkpoint: Path, work: Path) -> None:
    """The driver to the left of the avatar."""
    out = work / "live.mp4"
    run(
        "live",
        "--ckpt",
        checkpoint,
        "--source",
        work / "driver.mp4",
        "--output",
        out,
        "--side-by-side",
        "--quiet",
    )
    save("live", list(read_frames(out))[-6], 700)


def in_a_browser(checkpoint: Path, work: Path) -> None:
    """The viewer, and an exported page."""
    window = browser()
    try:
        args = parser().parse_args([str(checkpoint), "--size", "256", "--device", "cpu"])
        studio, fps, size = studio_of(args, None)
        server = ViewServer(studio, "127.0.0.1", 0, size, fps)
        shoot(window, f"http://127.0.0.1:{server.port}", "viewer", lambda w: w.execute_script(CLOSE), 25)
        server.close()
        page = write_page(work / "avatar.html", load_avatar(checkpoint))
        shoot(window, page.as_uri(), "page", lambda w: w.execute_script("avatar.set('', 'Smile', 0.6)"), 8)
    finally:
        window.quit()


def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    flags = (
        "headless=new",
        "no-sandbox",
        "use-angle=swiftshader",
        "enable-unsafe-swiftshader",
        "window-size=1100,760",
        "force-device-scale-factor=0.8",
    )
    for flag in flags:
        options.add_argument(f"--{flag}")
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    window.set_page_load_timeout(120)
    return window


def shoot(window, address: str, name: str, act: Callable, seconds: float) -> None:
    """A browser without a graphics card needs time."""
    from selenium.common.exceptions import TimeoutException

    window.get(address)
    time.sleep(seconds)
    act(window)
    for _ in range(6):
        try:
            time.sleep(5)
            taken = window.get_screenshot_as_png()
            break
        except TimeoutException:
            continue
    picture = cv2.imdecode(np.frombuffer(taken, np.uint8), cv2.IMREAD_COLOR)
    save(name, picture[..., ::-1], 900)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
