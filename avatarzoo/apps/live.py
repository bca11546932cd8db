"""``avatarzoo live``: a camera or a video drives an avatar, picture by picture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatarzoo.credentials import OPTION, OPTION_HELP, Credentials, recorded
from avatarzoo.files import atomic_path, file_hash

if TYPE_CHECKING:
    from avatarzoo.apps.live_avatar import LivePicture
    from avatarzoo.apps.live_meter import Meter
    from avatarzoo.apps.live_sources import Source
    from avatarzoo.models.base import AvatarModule
    from avatarzoo.trackers.live import LiveTracker

UPDATE_SECONDS = 0.5


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo live",
        description="Track a driver's face in a camera or a video and let an avatar do the same. The first second is taken as the "
        "driver's neutral face: look into the camera, mouth closed. Ends with the video, or with Ctrl-C; then prints a JSON "
        "summary (milliseconds of each stage, frames/s, dropped and lost frames) on standard output.",
        epilog="Without an output, the pictures are served as a page on this machine (the address is printed). Nothing leaves it.",
    )
    p.add_argument("--ckpt", type=Path, required=True, help="file written by avatarzoo fit")
    p.add_argument("--source", default="0", help="camera number, video file or folder of frames (default: 0)")
    p.add_argument("--device", default="auto", help="auto (default: a GPU if there is one), cpu or cuda")
    p.add_argument("--size", type=int, help="side of the avatar's picture (default: the method's, else 512)")
    _add_outputs(p.add_argument_group("outputs, any number of them"))
    _add_driving(p.add_argument_group("driving"))
    pace = p.add_argument_group("pace")
    pace.add_argument(
        "--realtime", action="store_true",
        help="play a video at its own pace and drop frames that come too fast (a camera always does)",
    )  # fmt: skip
    pace.add_argument("--loop", action="store_true", help="begin a video again at its end, until Ctrl-C")
    pace.add_argument("--seconds", type=float, default=float("inf"), help="stop after so much of the source")
    pace.add_argument(
        "--retry", type=float, default=60.0, help="seconds to wait for a camera that is gone (default 60)"
    )
    p.add_argument(OPTION, dest="credentials", action="store_false", help=OPTION_HELP)
    p.add_argument("--quiet", action="store_true", help="no live line; messages are still shown")
    return p


def _add_outputs(group: Any) -> None:
    group.add_argument(
        "--output",
        type=Path,
        metavar="FILE.mp4",
        help="video file, complete when it ends, and a JSON file about it",
    )
    group.add_argument(
        "--page", action="store_true", help="web page on 127.0.0.1 (default without an output)"
    )
    group.add_argument("--port", type=int, default=8000, help="of the page (default 8000; 0: any free one)")
    group.add_argument("--window", action="store_true", help="window; needs an OpenCV built with windows")
    group.add_argument("--virtual-camera", action="store_true", help="camera for video calls (extra: live)")
    group.add_argument("--side-by-side", action="store_true", help="the driver to the left of the avatar")
    group.add_argument(
        "--paste-back", action="store_true",
        help="lay the avatar's head over the driver's in the full picture (hair and ears wider than the avatar's stay visible)",
    )  # fmt: skip


def _add_driving(group: Any) -> None:
    group.add_argument(
        "--driving", choices=("relative", "absolute"), default="relative",
        help="relative: the driver's change from the neutral face, on the avatar's neutral face (default; for another person); "
        "absolute: coefficients and pose as they are (for the same person)",
    )  # fmt: skip
    group.add_argument(
        "--identity", choices=("driver", "avatar"), default="driver",
        help="head shape to track with: fitted in the first second, or the avatar's (for the same person)",
    )  # fmt: skip
    group.add_argument(
        "--rest", type=Path, metavar="FOLDER",
        help="tracked sequence of the avatar's person (avatarzoo track): its median pose and expression are the avatar at rest",
    )  # fmt: skip
    for name in ("foreground", "background"):
        group.add_argument(
            f"--{name}-window", type=int, nargs=2, metavar=("X", "Y"), dest=name,
            help=f"corner of the {name}'s window, in the method's cells, where it has windows (StyleAvatar: 32 32 is the "
            "centre at the published size)",
        )  # fmt: skip


def main(argv: list[str]) -> int:
    p = parser()
    args = p.parse_args(argv)
    if args.size is not None and not 32 <= args.size <= 4096:
        p.error("--size must lie between 32 and 4096.")
    if args.output is not None and args.output.suffix.lower() != ".mp4":
        p.error("--output writes mp4; name the file so.")
    from avatarzoo.apps.live_sources import open_source

    source = open_source(args.source, args.loop)  # what is wrong with it is said before the heavy imports
    try:
        print(json.dumps(run(args, source), indent=2))
    finally:
        source.close()
    return 0


def run(args: argparse.Namespace, source: Source) -> dict[str, Any]:
    """Everything between the source and the summary.

    Raises:
        AvatarZooError: see the parts.
    """
    from avatarzoo.apps.live_loop import LiveLoop
    from avatarzoo.apps.live_meter import Meter
    from avatarzoo.models import load_avatar

    module = load_avatar(args.ckpt, device(args.device))
    signer = None
    if args.output is not None and args.credentials:
        signer = Credentials({**module.made_of, "checkpoint_sha256": file_hash(args.ckpt)})
    tracker, draw = assemble(args, module)
    meter = Meter()
    show = LiveLine(meter, args.quiet)
    sinks: list[Any] = []
    try:
        add_sinks(sinks, args, source, meter, signer, show.say)
        sinks.append(show)
        loop = LiveLoop(
            source, tracker, draw, sinks, meter, show.say, args.realtime, args.retry, args.seconds
        )
        meter.begin()
        loop.run()
    finally:
        close_all([*sinks, tracker])
    facts = {
        "source": source.name,
        "method": type(module).__name__,
        "device": str(module.device),
        **meter.summary(),
    }
    if args.output is not None:
        facts["credentials"] = recorded(signer)
        with atomic_path(args.output.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(facts, indent=2) + "\n")
    return facts


def device(name: str) -> str:
    """A torch device.

    Raises:
        UsageError: it is not here.
    """
    import torch

    from avatarzoo.errors import UsageError

    found = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if found else "cpu"
    if name.startswith("cuda") and not found:
        raise UsageError("There is no CUDA device here; leave --device out.")
    return name


def assemble(args: argparse.Namespace, module: AvatarModule) -> tuple[LiveTracker, LivePicture]:
    """Tracker and drawing for an avatar.

    Raises:
        MissingAssetError: the landmark network or the head's landmark embedding is missing.
        UsageError: windows for a method that has none.
        HeadModelMismatchError: ``--rest`` was tracked with another head model.
    """
    from avatarzoo.apps.live_avatar import LivePicture
    from avatarzoo.models.drawing import Avatar, ground_of, head_on_cpu, identity_of, picture_size
    from avatarzoo.trackers.embedding import ensure_embedding
    from avatarzoo.trackers.live import LiveTracker
    from avatarzoo.trackers.live_driving import Driving, framed, rest_of

    state = module.reconstruct()
    windows = {name: getattr(args, name) for name in ("foreground", "background") if getattr(args, name)}
    avatar = Avatar(module, state, windows)
    identity, size = identity_of(state), args.size or picture_size(module)
    head = head_on_cpu(module)
    ensure_embedding(head, progress=not args.quiet)
    rest = framed(head, size, identity=identity)
    if args.rest is not None:
        rest = rest_of(args.rest, head, size, identity)
    known = identity if args.identity == "avatar" else None
    tracker = LiveTracker(head, size, identity=known)
    tracker.solver.warm_up()
    avatar.draw(rest.params, rest.camera)  # what is compiled at first use is ready before the first picture
    relative = args.driving == "relative"
    driving = Driving(head, rest, relative, relative and not args.paste_back, identity is not None)
    return tracker, LivePicture(avatar, driving, args.paste_back, ground_of(module, state), args.side_by_side)


def add_sinks(
    sinks: list[Any],
    args: argparse.Namespace,
    source: Source,
    meter: Meter,
    signer: Credentials | None,
    say: Callable[[str], None],
) -> None:
    """Open the outputs that were asked for; a page if there were none.

    Raises:
        OutputError, UsageError, MissingExtraError: an output is not possible here.
    """
    from avatarzoo.apps.live_page import PageSink
    from avatarzoo.apps.live_sinks import VideoSink, VirtualCameraSink, WindowSink

    if args.window:
        sinks.append(WindowSink())
    if args.virtual_camera:
        sinks.append(VirtualCameraSink(source.fps))
    if args.output is not None:
        sinks.append(VideoSink(args.output, source.fps, signer))
    if args.page or not sinks:
        page = PageSink(args.port, lambda: {"line": meter.line(), **meter.summary()})
        sinks.append(page)
        say(f"open {page.url} to see the avatar; Ctrl-C ends")


def close_all(parts: list[Any]) -> None:
    """Close every part, also when one of them fails; the first error is raised.

    Raises:
        OutputError: a file could not be finished.
    """
    error = None
    for part in parts:
        try:
            part.close()
        except Exception as problem:
            error = error or problem
    if error is not None:
        raise error


class LiveLine:
    """The line that shows how it goes, and messages above it, on standard error."""

    def __init__(self, meter: Meter, quiet: bool) -> None:
        from tqdm import tqdm

        self.meter, self.shown = meter, 0.0
        self.bar = tqdm(bar_format="{desc}", disable=quiet or None, file=sys.stderr, leave=True)
        self.write = tqdm.write

    def say(self, text: str) -> None:
        """A message, with the time; kept for the summary."""
        news = f"{self.meter.elapsed:.1f} s: {text}"
        self.meter.news.append(news)
        self.write(news, file=sys.stderr)

    def show(self, picture: Any, time: float) -> None:
        """Refresh the line now and then."""
        if self.meter.elapsed - self.shown >= UPDATE_SECONDS:
            self.shown = self.meter.elapsed
            self.bar.set_description_str(self.meter.line())

    def close(self) -> None:
        self.bar.close()
