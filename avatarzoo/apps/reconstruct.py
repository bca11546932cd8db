"""``avatarzoo reconstruct``: a photo to a drivable avatar of Gaussians."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from avatarzoo.credentials import OPTION, OPTION_HELP
from avatarzoo.files import atomic_path, file_hash

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from avatarzoo.credentials import Credentials
    from avatarzoo.geometry.camera import Camera
    from avatarzoo.heads.base import HeadParams
    from avatarzoo.models.base import AvatarState
    from avatarzoo.models.gaussian_dejavu import GaussianDejaVu, GaussianReconstruction

FORMAT = "avatarzoo-reconstruct-1"
CROP = 512
"""Side of the tracked crop in pixels."""
SIDE_DEGREES = 30.0
"""How far the picture's side views turn."""
DRAWN_TOGETHER = 4


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="avatarzoo reconstruct",
        description="One photo to a head that can be turned and driven (Gaussian Deja-vu's reconstruction): writes "
        "avatar.ckpt (for avatarzoo drive, view, live and export), avatar.safetensors, orbit.mp4, head.ply, preview.png, result.json.",
        epilog="The network that comes with avatarzoo has seen made-up people only: what the photo shows is taken from the photo, "
        "what it hides is guessed, and hair keeps close to the head. For a better avatar train on a video (avatarzoo fit).",
    )
    p.add_argument("photo", type=Path, help="picture with one well visible face")
    p.add_argument("output", type=Path, help="folder to make")
    p.add_argument(
        "--network", type=Path, metavar="FILE",
        help="reconstruction.safetensors of your own training (default: the one that comes with avatarzoo)",
    )  # fmt: skip
    p.add_argument(
        "--person", choices=("only", "largest"), default="only",
        help="only: refuse a photo with a second face (default); largest: take the largest face",
    )  # fmt: skip
    p.add_argument(
        "--head-file", metavar="FILE", help="your own model file, where the network's head needs one"
    )
    p.add_argument(
        "--uv-size", type=int, default=256, metavar="S", help="side of the map of Gaussians (default 256, up to 52,000)"
    )  # fmt: skip
    p.add_argument("--size", type=int, default=384, help="side of the video's pictures (default 384)")
    p.add_argument(
        "--seconds", type=float, default=4.0, help="length of the video, one swing to both sides (default 4)"
    )
    p.add_argument("--fps", type=float, default=15.0, help="pictures a second of the video (default 15)")
    p.add_argument(OPTION, dest="credentials", action="store_false", help=OPTION_HELP)
    return p


def main(argv: list[str]) -> int:
    p = parser()
    args = p.parse_args(argv)
    if not 32 <= args.size <= 2048 or not 64 <= args.uv_size <= 1024:
        p.error("--size must lie between 32 and 2048 and --uv-size between 64 and 1024.")
    if not 0 < args.seconds <= 600 or not 1 <= args.fps <= 120:
        p.error("--seconds must lie between 0 and 600 and --fps between 1 and 120.")
    from avatarzoo.data.video_source import load_picture

    load_picture(args.photo)  # what is wrong with the file is said before the heavy imports
    from avatarzoo.credentials import Credentials
    from avatarzoo.data.video import write_video
    from avatarzoo.models.gaussian_dejavu.handover import as_avatar
    from avatarzoo.models.gaussian_dejavu.reconstruction_files import SMALL_NETWORK, load_reconstruction
    from avatarzoo.render.ply import write_ply

    made_of = {"method": "GaussianReconstruction", "photo_sha256": file_hash(args.photo)}
    credentials = Credentials(made_of) if args.credentials else None
    network = load_reconstruction(args.network or SMALL_NETWORK, args.head_file, args.uv_size)
    portrait = portrait_of(args.photo, network, args.person)
    state = network.reconstruct(portrait.image, portrait.params, portrait.camera)
    state.meta |= {"photo": args.photo.name, "network": network.provenance}
    rest = portrait.params.in_head_frame()
    written = [
        state.save(args.output / "avatar.safetensors"),
        write_checkpoint(as_avatar(network, state), args.output / "avatar.ckpt"),
        write_ply(args.output / "head.ply", network.gaussians_of(state, rest)),
        write_preview(network, state, portrait, args.output / "preview.png", credentials),
        args.output / "orbit.mp4",
    ]
    write_video(written[-1], orbit(network, state, portrait, args), args.fps, credentials=credentials)
    write_facts(args.output / "result.json", args.photo, written, credentials)
    print(f"{', '.join(map(str, written))}; {len(network.uv_map)} Gaussians")
    if args.network is None:
        print("The network has seen made-up people only; what the photo hides is a guess.")
    return 0


def write_checkpoint(avatar: GaussianDejaVu, path: Path) -> Path:
    """A checkpoint as training writes it."""
    import logging

    import lightning as L

    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(avatar)
    with atomic_path(path) as temporary:
        trainer.save_checkpoint(temporary, weights_only=True)
    return path


def write_facts(path: Path, photo: Path, written: list[Path], credentials: Credentials | None) -> None:
    """What was made of what, and whether it says so itself."""
    from avatarzoo.credentials import recorded

    facts = {
        "format": FORMAT,
        "photo": {"file": photo.name, "sha256": file_hash(photo)},
        "written": {p.name: file_hash(p) for p in written},
        "credentials": recorded(credentials),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class Portrait(NamedTuple):
    """A tracked photo.

    Attributes:
        image: RGB in [0, 1], the head on the network's background.
        params: one row, world frame; camera: that the crop was seen by.
    """

    image: Tensor
    params: HeadParams
    camera: Camera


def portrait_of(photo: Path, network: GaussianReconstruction, person: str) -> Portrait:
    """The photo tracked with the network's head, in the cache.

    Raises:
        NoFaceError: no face, or several. MissingAssetError: the tracker's networks are not on this machine.
    """
    from avatarzoo.assets import cache_folder
    from avatarzoo.trackers.portraits import cached_portrait

    sequence = cached_portrait(photo, cache_folder() / "portraits", network.head, None, CROP, person)
    image, mask = sequence.images([0]).float() / 255, sequence.masks([0])[:, None].float() / 255
    ground = float(network.hparams["background"])
    return Portrait(image * mask + ground * (1 - mask), sequence.params.rows([0]), sequence.camera.rows([0]))


def orbit(
    network: GaussianReconstruction, state: AvatarState, portrait: Portrait, args: argparse.Namespace
) -> Iterator[np.ndarray]:
    """uint8 pictures of a camera that swings once to both sides of the resting head."""
    import torch

    from avatarzoo.evaluation.products import ORBIT_SECONDS, orbit_cameras, to_bytes

    count = max(1, round(args.seconds * args.fps))
    camera = portrait.camera.resized(args.size, args.size)
    for numbers in (torch.arange(count) * ORBIT_SECONDS / count).split(DRAWN_TOGETHER):
        params = portrait.params.in_head_frame().rows([0] * len(numbers))
        yield from to_bytes(network.animate(state, params, orbit_cameras(camera, numbers, 1.0)).rgb)


def write_preview(
    network: GaussianReconstruction,
    state: AvatarState,
    portrait: Portrait,
    path: Path,
    credentials: Credentials | None,
) -> Path:
    """The photo, the avatar as the photo shows it, and from the left and the right."""
    import cv2
    import torch

    from avatarzoo.data.video import write_picture
    from avatarzoo.evaluation.products import to_bytes
    from avatarzoo.geometry.camera import Camera, look_at_face

    yaw = torch.deg2rad(torch.tensor([-SIDE_DEGREES, SIDE_DEGREES]))
    distance = float(portrait.camera.world_to_camera[0, :3, 3].norm())
    sides = Camera(
        look_at_face(distance, size=CROP, yaw=yaw).world_to_camera,
        portrait.camera.intrinsics.expand(2, 3, 3),
        portrait.camera.size,
    )
    same = network.animate(state, portrait.params, portrait.camera).rgb
    turned = network.animate(state, portrait.params.in_head_frame().rows([0, 0]), sides).rgb
    pictures = to_bytes(torch.cat([portrait.image, same, turned]))
    return write_picture(path, cv2.hconcat(list(pictures)), credentials)
