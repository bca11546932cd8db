"""Frames a second that reach a browser of ``avatarzoo view``: drawing, JPEG, viser's web socket; one slider and the camera move.

The browser is a thread that asks for what it would ask for and counts the pictures that come; what a real one spends on showing
them is its own machine's. With two browsers each gets about half.

    python benchmarks/speed/view.py [--checkpoint avatar.ckpt] [--gaussians 24000] [--size 512] [--threads 2] [--browsers 1]
"""

from __future__ import annotations

import argparse
import math
import threading
import time
from pathlib import Path

import torch

from avatarzoo.apps.view_server import ViewServer
from avatarzoo.apps.view_stage import Sitter, Studio
from avatarzoo.evaluation.results import environment
from avatarzoo.models import GaussianDejaVu, load_avatar
from avatarzoo.models.base import AvatarModule
from avatarzoo.models.drawing import identity_of
from avatarzoo.optional import require
from avatarzoo.trackers.live_driving import framed

ASKED = 60
"""Requests a second, as a hand on the mouse makes them."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, help="a personalised avatar; default: an untrained one")
    parser.add_argument("--gaussians", type=int, default=24000, help="of the untrained one, at least so many")
    parser.add_argument("--size", type=int, default=512, help="picture side in pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--browsers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    module = load_avatar(args.checkpoint) if args.checkpoint else untrained(args.gaussians)
    state = module.reconstruct()
    rest = framed(module.head, args.size, identity=identity_of(state))
    studio = Studio([Sitter("avatar", module, state, module.head, rest)])
    found = module.gaussians_at(rest.params)
    server = ViewServer(studio, "127.0.0.1", 0, args.size, 25.0)
    browsers = [Browser(server.port, studio.fov) for _ in range(args.browsers)]
    rates, spent = measured(browsers, args.seconds)
    busy = [page.rate.milliseconds for page in server.pages.values()]
    server.close()
    machine = environment()
    what = "" if found is None else f"{found.means.shape[1]} Gaussians, "
    print(f"{machine['device']}, {args.threads} threads, torch {machine['versions']['torch']}")
    print(
        f"{type(module).__name__}, {what}{args.size} x {args.size}, {args.browsers} browsers, {args.seconds:.0f} s"
    )
    for number, (rate, each) in enumerate(zip(rates, busy), 1):
        print(f"browser {number}: {rate:6.1f} frames/s, {each:.1f} ms to draw one")
    print(f"one core's work for a picture, all threads together: {1000 * spent:.1f} ms")


def untrained(least: int) -> AvatarModule:
    """With expression blendmaps, and at least so many Gaussians."""
    size = 120
    while len(GaussianDejaVu(uv_size=size).uv_map) < least:
        size += 4
    module = GaussianDejaVu(uv_size=size)
    module.stage.fill_(2)
    return module.eval()


def measured(browsers: list[Browser], seconds: float) -> tuple[list[float], float]:
    """Pictures a second of each, while all ask; and seconds of processor time for a picture, which other programs do not change."""
    for browser in browsers:
        browser.ask(0.0)
    time.sleep(3.0)  # first pictures, and what is prepared once
    before, begun, worked = [b.pictures for b in browsers], time.perf_counter(), time.process_time()
    while (now := time.perf_counter() - begun) < seconds:
        for browser in browsers:
            browser.ask(now)
        time.sleep(1 / ASKED)
    counts = [b.pictures - n for b, n in zip(browsers, before)]
    return [n / now for n in counts], (time.process_time() - worked) / max(1, sum(counts))


class Browser:
    """Asks for pictures and counts them."""

    def __init__(self, port: int, fov: float) -> None:
        from websockets.sync.client import connect

        version, self.fov, self.pictures = require("viser", "view").__version__, fov, 0
        self.slider: str | None = None
        self.socket = connect(f"ws://127.0.0.1:{port}", subprotocols=[f"viser-v{version}"], max_size=None)
        threading.Thread(target=self.count, daemon=True).start()

    def count(self) -> None:
        import msgspec
        import zstandard

        for data in self.socket:
            size = int.from_bytes(data[8:16], "little")
            window = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data[16 : 16 + size]))
            for message in window["messages"]:
                self.pictures += message["type"] == "BackgroundImageMessage"
                if message["type"] == "GuiSliderMessage" and self.slider is None:
                    self.slider = message["uuid"]

    def ask(self, now: float) -> None:
        """The first slider and the camera swing."""
        turn, half = 0.5 * math.sin(now), 0.25 * math.sin(now)
        self.send(
            "ViewerCameraMessage", wxyz=(0.0, math.cos(half), 0.0, -math.sin(half)),
            position=(100 * math.sin(turn), 0.0, 100 * math.cos(turn)), fov=self.fov, near=0.1, far=1000.0,
            image_height=720, image_width=720, look_at=(0.0, 0.0, 0.0), up_direction=(0.0, 1.0, 0.0),
        )  # fmt: skip
        if self.slider is not None:
            self.send("GuiUpdateMessage", uuid=self.slider, updates={"value": 0.5 + 0.5 * math.sin(2 * now)})

    def send(self, kind: str, **fields: object) -> None:
        import msgspec

        self.socket.send(msgspec.msgpack.encode({"type": kind, **fields}))


if __name__ == "__main__":
    main()
