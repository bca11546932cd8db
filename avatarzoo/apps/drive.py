"""``avatarzoo drive``: a video, a tracked sequence, parameters or a voice moves an avatar into a video file."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatarzoo.credentials import OPTION, OPTION_HELP

if TYPE_CHECKING:
    import numpy as np

    from avatarzoo.apps.drive_driver import Driver, Kind
    from avatarzoo.apps.drive_ground import Composite
    from avatarzoo.apps.drive_motion import Motion, Transfer
    from avatarzoo.apps.drive_person import Person
    from avatarzoo.credentials import Credentials
    from avatarzoo.models.base import AvatarModule
    from avatarzoo.models.drawing import Avatar

FORMAT = "avatarzoo-drive-1"
OPAQUE = 0.99
"""Alpha above which everywhere there is nothing that a background could be seen behind."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo drive",
        description="Move an avatar as a driver does and write a video, with the driver's sound. A driver is a video (file or folder "
        "of frames), a folder of avatarzoo track, an npz file of head parameters, or a voice for methods that speak. Beside the "
        "video lies a JSON file that says what was made of what.",
        epilog="A video is tracked first; tracking that was stopped continues, and finished tracking is found again. Frames without a "
        "face are bridged and counted.",
    )
    p.add_argument("checkpoint", type=Path, help="file written by avatarzoo fit")
    p.add_argument(
        "--with", dest="driver", type=Path, required=True, metavar="DRIVER",
        help="video.mp4, folder, params.npz or speech.wav",
    )  # fmt: skip
    p.add_argument(
        "--out", type=Path, required=True, metavar="FILE",
        help="NAME.mp4; NAME.mov (ProRes 4444, large) keeps transparency",
    )  # fmt: skip
    _add_person(p.add_argument_group("the avatar's person"))
    _add_motion(p.add_argument_group("motion"))
    _add_picture(p.add_argument_group("picture"))
    p.add_argument("--device", default="auto", help="auto (default: a GPU if there is one), cpu or cuda")
    p.add_argument(OPTION, dest="credentials", action="store_false", help=OPTION_HELP)
    p.add_argument("--quiet", action="store_true", help="no progress bars")
    return p


def _add_person(group: Any) -> None:
    who = group.add_mutually_exclusive_group()
    who.add_argument(
        "--image", type=Path, action="append", default=[], metavar="PHOTO",
        help="picture of the person, for methods that reconstruct from pictures; may be repeated",
    )  # fmt: skip
    who.add_argument(
        "--seed", type=int, metavar="N", help="a made-up person, for methods with a generative prior"
    )
    group.add_argument(
        "--rest", type=Path, metavar="FOLDER",
        help="tracked sequence whose median is the avatar at rest (default: the photo, or what the checkpoint saw in training)",
    )  # fmt: skip


def _add_motion(group: Any) -> None:
    group.add_argument(
        "--transfer", choices=("mean", "none"),
        help="mean: the driver's change from its own rest, added to the avatar's rest and kept within what it was trained on "
        "(default, for another person); none: coefficients and pose as they are (default for the very video it was trained on)",
    )  # fmt: skip
    group.add_argument(
        "--camera", choices=("driver", "fixed", "orbit"), default="driver",
        help="driver: the head moves as the driver's (default); fixed: it rests; orbit: it rests and the camera swings round it",
    )  # fmt: skip
    group.add_argument(
        "--person", choices=("only", "largest"), default="only",
        help="only: refuse a driving video with a second face (default); largest: follow the largest face",
    )  # fmt: skip
    group.add_argument(
        "--seconds", type=float, default=math.inf, help="only so much of the driver's beginning"
    )
    group.add_argument(
        "--fps", type=float, help="pictures a second to a voice or to bare parameters (default 25)"
    )
    group.add_argument(
        "--sound", type=Path, metavar="FILE", help="take the sound from here instead of the driver"
    )


def _add_picture(group: Any) -> None:
    group.add_argument("--size", type=int, help="side of the picture (default: the method's, else 512)")
    group.add_argument(
        "--background", default="avatar",
        help="avatar (default: what the method draws), transparent (needs .mov), source (the first photo without its person), a "
        "colour such as white or #20c040, or a picture file",
    )  # fmt: skip


def main(argv: list[str]) -> int:
    p = parser()
    args = p.parse_args(argv)
    if args.size is not None and not 32 <= args.size <= 4096:
        p.error("--size must lie between 32 and 4096.")
    if args.out.suffix.lower() not in (".mp4", ".mov"):
        p.error("--out writes mp4 or mov; name the file so.")
    if args.background == "transparent" and args.out.suffix.lower() != ".mov":
        p.error("--background transparent needs --out NAME.mov; mp4 has no transparency.")
    if not args.seconds > 0 or (args.fps is not None and not 1 <= args.fps <= 240):
        p.error("--seconds must be above 0 and --fps between 1 and 240.")
    from avatarzoo.apps.drive_driver import kind_of
    from avatarzoo.apps.drive_ground import KEPT, SOURCE, TRANSPARENT, plate_named
    from avatarzoo.data.video_source import load_picture

    kind = kind_of(args.driver)  # what is wrong with the files is said before the heavy imports
    for path in args.image:
        load_picture(path)
    named = args.background in (KEPT, TRANSPARENT, SOURCE)
    result = drive(args, kind, None if named else plate_named(args.background))
    for text in result["warnings"]:
        print(f"warning: {text}", file=sys.stderr)
    lost = f", {len(result['lost_frames'])} without a face" if result["lost_frames"] else ""
    print(
        f"Video: {args.out} ({result['frames']} frames{lost}); how it was made: {args.out.with_suffix('.json')}"
    )
    return 0


def drive(args: argparse.Namespace, kind: Kind, plate: np.ndarray | None) -> dict[str, Any]:
    """Everything after the options were read; returns what the JSON file says.

    Raises:
        AvatarZooError: see the parts.
    """
    from avatarzoo.apps.drive_driver import open_driver
    from avatarzoo.apps.drive_ground import SOURCE, composite_on
    from avatarzoo.apps.drive_motion import motion_of
    from avatarzoo.apps.drive_person import person_of, plate_of
    from avatarzoo.apps.live import device
    from avatarzoo.assets import cache_folder
    from avatarzoo.credentials import Credentials
    from avatarzoo.data.video import write_video
    from avatarzoo.files import file_hash
    from avatarzoo.models import load_avatar
    from avatarzoo.models.drawing import Avatar, ground_of, head_on_cpu, picture_size

    module = load_avatar(args.checkpoint, device(args.device))
    made_of = {**module.made_of, "checkpoint_sha256": file_hash(args.checkpoint)}
    credentials = Credentials(made_of) if args.credentials else None
    head, size, cache = head_on_cpu(module), args.size or picture_size(module), cache_folder()
    person = person_of(module, head, args.image, args.seed, args.rest, size, cache / "portraits")
    if args.background == SOURCE:
        plate = plate_of(person)
    driver = open_driver(
        args.driver, kind, (module, person.state), head, cache / "tracks", args.person, args.seconds, args.fps,
        not args.quiet,
    )  # fmt: skip
    transfer = args.transfer or usual_transfer(module, driver)
    motion = motion_of(driver, person.rest, head, module.seen, transfer, args.camera)
    composite = composite_on(args.background, plate, ground_of(module, person.state))
    avatar = Avatar(module, person.state)
    notes: list[str] = list(person.warnings)
    started = time.perf_counter()
    sound = args.sound or driver.sound
    pictures = frames(avatar, motion, composite, args, notes)
    write_video(args.out, pictures, driver.fps, audio_from=sound, credentials=credentials)
    spent = time.perf_counter() - started
    return write_facts(args, module, person, driver, transfer, size, notes, spent, credentials)


def usual_transfer(module: AvatarModule, driver: Driver) -> Transfer:
    """Another person's motion is transferred; that of the video the avatar was trained on is taken as it is."""
    own = module.seen is not None and driver.facts.get("sha256") in module.seen.sources
    return "none" if own else "mean"


def frames(
    avatar: Avatar, motion: Motion, composite: Composite, args: argparse.Namespace, notes: list[str]
) -> Iterator[np.ndarray]:
    """Finished pictures, uint8; what is found out on the way is added to ``notes``."""
    import numpy as np
    from tqdm import tqdm

    transparent = args.out.suffix.lower() == ".mov"
    bar = tqdm(range(motion.params.batch), desc="frames", unit="frame", disable=args.quiet)
    for number in bar:
        rgb, alpha = avatar.draw(*motion.at(number))
        if number == 0 and args.background != "avatar" and alpha.min() > OPAQUE:
            notes.append("The avatar fills the whole picture (no transparency), so its background stays.")
        picture = composite(rgb, alpha)
        if transparent and picture.shape[2] == 3:
            picture = np.dstack([picture, np.full(alpha.shape, 255, np.uint8)])
        yield picture


def write_facts(
    args: argparse.Namespace,
    module: AvatarModule,
    person: Person,
    driver: Driver,
    transfer: Transfer,
    size: int,
    notes: list[str],
    seconds: float,
    credentials: Credentials | None,
) -> dict[str, Any]:
    """The JSON file beside the video: what was made of what, and how."""
    from datetime import UTC, datetime

    from avatarzoo.credentials import recorded
    from avatarzoo.evaluation.results import environment, plain
    from avatarzoo.files import atomic_path, file_hash

    options = {k: v for k, v in vars(args).items() if k not in ("image", "quiet", "credentials")}
    options["seconds"] = args.seconds if math.isfinite(args.seconds) else None
    facts = plain(
        {
            "format": FORMAT,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "output": {"file": args.out.name, "sha256": file_hash(args.out)},
            "method": type(module).__name__,
            "checkpoint": {"file": str(args.checkpoint), "sha256": file_hash(args.checkpoint)},
            "head": module.head.signature,
            "person": person.facts,
            "driver": driver.facts,
            "frames": driver.frames,
            "lost_frames": list(driver.lost),
            "fps": driver.fps,
            "size": size,
            "sound": args.sound or driver.sound,
            "transfer": transfer,
            "projected": module.seen is not None and (driver.neutral is None or transfer == "mean"),
            "options": options,
            "credentials": recorded(credentials),
            "warnings": notes,
            "drawing_seconds": round(seconds, 3),
            **environment(),
            "device": str(module.device),
        }
    )
    with atomic_path(args.out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return facts
