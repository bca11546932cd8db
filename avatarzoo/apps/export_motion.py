"""A driver's motion for exports, and an avatar of Gaussians as one PLY a frame."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from avatarzoo.errors import OutputError
from avatarzoo.files import atomic_path
from avatarzoo.geometry.rotations import (
    axis_angle_to_matrix,
    matrix_to_euler,
    matrix_to_quaternion,
    quaternion_to_matrix,
)
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarModule
from avatarzoo.render.gaussians import Gaussians
from avatarzoo.render.ply import ply_bytes

FORMAT = "avatarzoo-sequence-1"
ABOUT = "sequence.json"


class Played(NamedTuple):
    """T rows of parameters of the avatar, place and turn of the head relative to the first frame's camera, pictures a second."""

    params: HeadParams
    fps: float
    facts: dict[str, Any]

    @property
    def turn(self) -> Float[Tensor, "t 3"]:
        """Yaw, pitch and roll, radians."""
        return torch.stack(matrix_to_euler(axis_angle_to_matrix(self.params.rotation)), 1)


def played(module: AvatarModule, driver: Path, seconds: float, progress: bool = True) -> Played:
    """What ``avatarzoo drive`` would have the avatar do, seen from where it rests.

    Raises:
        AvatarZooError: see ``avatarzoo.apps.drive``.
    """
    from avatarzoo.apps.drive import usual_transfer
    from avatarzoo.apps.drive_driver import kind_of, open_driver
    from avatarzoo.apps.drive_motion import motion_of
    from avatarzoo.apps.drive_person import person_of
    from avatarzoo.assets import cache_folder
    from avatarzoo.models.drawing import SIZE

    cache = cache_folder()
    person = person_of(module, module.head, [], None, None, SIZE, cache / "portraits")
    opened = open_driver(
        driver, kind_of(driver), (module, person.state), module.head, cache / "tracks", "only", seconds, None, progress
    )  # fmt: skip
    motion = motion_of(
        opened, person.rest, module.head, module.seen, usual_transfer(module, opened), "driver"
    )
    rest = person.rest.params
    params = motion.params._replace(translation=motion.params.translation - rest.translation)
    return Played(params, opened.fps, opened.facts)


def posed(module: AvatarModule, params: HeadParams) -> Gaussians:
    """Gaussians of one row of parameters, with the head's own motion.

    Raises:
        OutputError: the avatar is not made of Gaussians.
    """
    gaussians = module.gaussians_at(params.to(module.device))
    if gaussians is None:
        raise OutputError(f"{type(module).__name__} is not made of Gaussians; export it as .safetensors.")
    turn = axis_angle_to_matrix(params.rotation.to(gaussians.means))[:, None]
    means = (turn @ gaussians.means[..., None])[..., 0] + params.translation.to(gaussians.means)[:, None]
    quaternions = matrix_to_quaternion(turn @ quaternion_to_matrix(gaussians.quaternions))
    return gaussians._replace(means=means, quaternions=quaternions)


def write_sequence(path: Path, module: AvatarModule, motion: Played, progress: bool = True) -> Path:
    """One PLY a frame and ``sequence.json``, in a zip file or a new folder, by the name: splat editors play numbered PLY files.

    Raises:
        OutputError: the avatar is not made of Gaussians, the folder is not empty, or nothing can be written.
    """
    about = {
        "format": FORMAT, "fps": motion.fps, "frames": motion.params.batch, "driver": motion.facts, **module.made_of,
        "head": module.head.signature, "units": "metres, y up, face towards +z",
    }  # fmt: skip
    files = tqdm(frames(module, motion.params), total=motion.params.batch, unit="frame", disable=not progress)
    text = json.dumps(about, indent=2, ensure_ascii=False)
    if path.suffix == ".zip":
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in files:
                file.writestr(name, data)
            file.writestr(ABOUT, text)
        return path
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path} is there already; name a new folder, or a .zip file.")
    for name, data in files:
        with atomic_path(path / name) as temporary:
            temporary.write_bytes(data)
    with atomic_path(path / ABOUT) as temporary:  # last: a folder without it is not complete
        temporary.write_text(text, encoding="utf-8")
    return path


@torch.no_grad()
def frames(module: AvatarModule, params: HeadParams) -> Iterator[tuple[str, bytes]]:
    """File names and contents."""
    digits = max(4, math.ceil(math.log10(params.batch + 1)))
    for number in range(params.batch):
        yield f"frame_{number:0{digits}d}.ply", ply_bytes(posed(module, params.rows(number)))
