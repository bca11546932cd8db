"""``avatarzoo view``: avatars of any method in a browser page, with sliders, playback, pictures and videos to keep."""

from __future__ import annotations

import argparse
import math
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from avatarzoo.credentials import OPTION, OPTION_HELP

if TYPE_CHECKING:
    from avatarzoo.apps.drive_driver import Kind
    from avatarzoo.apps.view_server import ViewServer
    from avatarzoo.apps.view_stage import Sitter, Studio

LOCAL = "127.0.0.1"
SIZES = (64, 2048)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo view",
        description="Show avatars in a browser: turn them with the mouse, move their faces with sliders, play a driving video, keep "
        "pictures and videos. Every browser that opens the page has its own camera and sliders.",
        epilog="From another machine: ssh -L 8080:localhost:8080 MACHINE, and open http://localhost:8080 here; or --host 0.0.0.0, "
        "which lets everybody in your network see the avatars.",
    )
    p.add_argument(
        "checkpoints", type=Path, nargs="+", metavar="avatar.ckpt", help="written by avatarzoo fit"
    )
    who = p.add_argument_group("people").add_mutually_exclusive_group()
    who.add_argument(
        "--image", type=Path, action="append", default=[], metavar="PHOTO",
        help="picture of the person, for methods that reconstruct from pictures; may be repeated",
    )  # fmt: skip
    who.add_argument(
        "--seed", type=int, metavar="N", help="a made-up person, for methods with a generative prior"
    )
    motion = p.add_argument_group("motion")
    motion.add_argument(
        "--with", dest="driver", type=Path, metavar="DRIVER",
        help="what plays: video.mp4, a folder of avatarzoo track, params.npz, or a voice for methods that speak",
    )  # fmt: skip
    motion.add_argument(
        "--transfer", choices=("mean", "none"), help="of the driver's motion; see avatarzoo drive --help"
    )
    motion.add_argument(
        "--person", choices=("only", "largest"), default="only", help="in a driving video with several faces"
    )
    motion.add_argument(
        "--seconds", type=float, default=math.inf, help="only so much of the driver's beginning"
    )
    page = p.add_argument_group("page")
    page.add_argument(
        "--host", default=LOCAL, help="address to listen on; default: this machine only; 0.0.0.0: every one"
    )
    page.add_argument("--port", type=int, default=8080, help="default 8080; 0 takes a free one")
    page.add_argument("--size", type=int, help="side of a picture at first (default: the method's, else 512)")
    page.add_argument(OPTION, dest="credentials", action="store_false", help=OPTION_HELP)
    p.add_argument("--device", default="auto", help="auto (default: a GPU if there is one), cpu or cuda")
    return p


def main(argv: list[str]) -> int:
    p = parser()
    args = p.parse_args(argv)
    if args.size is not None and not SIZES[0] <= args.size <= SIZES[1]:
        p.error(f"--size must lie between {SIZES[0]} and {SIZES[1]}.")
    if not 0 <= args.port <= 65535 or not args.seconds > 0:
        p.error("--port must lie between 0 and 65535 and --seconds above 0.")
    from avatarzoo.apps.drive_driver import kind_of
    from avatarzoo.apps.view_server import check_address
    from avatarzoo.data.video_source import load_picture
    from avatarzoo.optional import require

    require("viser", "view")
    check_address(args.host, args.port)
    kind = None if args.driver is None else kind_of(args.driver)  # mistakes are said before the heavy imports
    for path in args.image:
        load_picture(path)
    server = serve(args, kind)
    print(f"Open {address(args.host, server.port)} in a browser; Ctrl-C ends.", flush=True)
    try:
        wait()
    except KeyboardInterrupt:
        print("Closed.", file=sys.stderr)
    finally:
        server.close()
    return 0


def wait() -> None:
    """For ever."""
    threading.Event().wait()


def address(host: str, port: int) -> str:
    """What people type."""
    return f"http://{socket.gethostname() if host in ('0.0.0.0', '::') else host}:{port}"


def serve(args: argparse.Namespace, kind: Kind | None) -> ViewServer:
    """Load everything, draw once, and open the page.

    Raises:
        AvatarZooError: see the parts.
    """
    from avatarzoo.apps.view_server import ViewServer

    studio, fps, size = studio_of(args, kind)
    return ViewServer(studio, args.host, args.port, size, fps)


def studio_of(args: argparse.Namespace, kind: Kind | None) -> tuple[Studio, float, int]:
    """The avatars, the rate of their motion and the side of their pictures.

    Raises:
        UsageError: pictures for methods that all keep their person. The rest as in ``drive``.
    """
    from avatarzoo.apps.live import device
    from avatarzoo.apps.view_stage import Studio
    from avatarzoo.credentials import Credentials
    from avatarzoo.errors import UsageError
    from avatarzoo.files import file_hash
    from avatarzoo.models import load_avatar
    from avatarzoo.models.drawing import picture_size

    modules = [load_avatar(path, device(args.device)) for path in args.checkpoints]
    if (args.image or args.seed is not None) and not any(m.takes_pictures for m in modules):
        raise UsageError("These avatars keep their person in the checkpoint; leave --image and --seed out.")
    made_of = [
        {**m.made_of, "checkpoint_sha256": file_hash(path)} for m, path in zip(modules, args.checkpoints)
    ]
    credentials = Credentials({"avatars": made_of}) if args.credentials else None
    size = args.size or picture_size(modules[0])
    named = zip(modules, names(args.checkpoints))
    found = [sitter_of(module, name, args, kind, size) for module, name in named]
    fps = next((fps for _, fps in found if fps), 0.0)
    return Studio([sitter for sitter, _ in found], credentials), fps, size


def names(paths: list[Path]) -> list[str]:
    """For people: file names where they tell avatars apart, else with as much of their folders as is needed."""
    if len(set(paths)) < len(paths):
        return [f"{number}. {path.stem}" for number, path in enumerate(paths, 1)]
    parts = [p.resolve().with_suffix("").parts for p in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        short = ["/".join(p[-depth:]) for p in parts]
        if len(set(short)) == len(short):
            return short
    return [str(p) for p in paths]


def sitter_of(
    module, name: str, args: argparse.Namespace, kind: Kind | None, size: int
) -> tuple[Sitter, float]:
    """One avatar with its driver, and the driver's rate (zero without)."""
    from avatarzoo.apps.drive import usual_transfer
    from avatarzoo.apps.drive_driver import open_driver, tracked
    from avatarzoo.apps.drive_motion import motion_of
    from avatarzoo.apps.drive_person import person_of
    from avatarzoo.apps.view_stage import Sitter
    from avatarzoo.assets import cache_folder
    from avatarzoo.data.sequence import TrackedSequence
    from avatarzoo.models.drawing import head_on_cpu

    head, cache = head_on_cpu(module), cache_folder()
    images, seed = (args.image, args.seed) if module.takes_pictures else ([], None)
    person = person_of(module, head, images, seed, None, size, cache / "portraits")
    for text in person.warnings:
        print(f"warning: {text}", file=sys.stderr)
    photo = (
        person.pictures[0].images([0])[0].permute(1, 2, 0).contiguous().numpy() if person.pictures else None
    )
    sitter = Sitter(name, module, person.state, head, person.rest, photo)
    if kind is None:
        return sitter, 0.0
    tracks = cache / "tracks"
    driver = open_driver(args.driver, kind, (module, person.state), head, tracks, args.person, args.seconds)
    transfer = args.transfer or usual_transfer(module, driver)
    sitter.motion = motion_of(driver, person.rest, head, module.seen, transfer, "driver")
    sitter.sound = driver.sound
    if kind == "video":
        sitter.driver = tracked(args.driver, head, tracks, args.person, args.seconds, progress=False)
    elif kind == "sequence":
        folder = args.driver if args.driver.is_dir() else args.driver.parent
        sitter.driver = TrackedSequence.open(folder)
    return sitter, driver.fps
