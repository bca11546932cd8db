"""What a person takes home after training: a video beside the source, a PLY, an avatar file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from avatarzoo.credentials import Credentials, recorded
from avatarzoo.data.frames import FrameDataModule, FrameStore, to_float_batch
from avatarzoo.data.video import side_by_side, write_video
from avatarzoo.files import atomic_path
from avatarzoo.geometry.camera import Camera, look_at_face
from avatarzoo.render.ply import write_ply

ORBIT_DEGREES = 35.0
ORBIT_SECONDS = 4.0


class Products(L.Callback):
    """After testing, write ``preview.mp4`` (source, avatar, orbit), ``avatar.ply`` and ``avatar.safetensors``.

    Args:
        preview: write the video. seconds: at most so much of the end of the source is shown.
        ply: write the Gaussians of a neutral face, for methods made of Gaussians.
        state: write the avatar as one safetensors file.
        credentials: videos carry content credentials (C2PA); the result file says if not.
    """

    def __init__(
        self,
        preview: bool = True,
        seconds: float = 12.0,
        ply: bool = True,
        state: bool = True,
        credentials: bool = True,
    ) -> None:
        self.credentials = credentials
        self.preview, self.seconds, self.ply, self.state = preview, seconds, ply, state
        self.predicted: list[np.ndarray] = []

    @torch.no_grad()
    def on_test_end(self, trainer: L.Trainer, module: Any) -> None:
        if not trainer.is_global_zero:
            return
        folder, data = Path(trainer.default_root_dir), trainer.datamodule  # type: ignore[attr-defined]
        state = module.reconstruct()
        if module.consent is not None:
            state.meta["consent"] = module.consent
        if self.state:
            print(f"Avatar: {state.save(folder / 'avatar.safetensors')}")
        neutral = module.head.zeros(1, module.device)._replace(
            identity=data.training_params().identity[:1].to(module.device)
        )
        gaussians = module.gaussians_at(neutral)
        if self.ply and gaussians is not None:
            print(f"PLY: {write_ply(folder / 'avatar.ply', gaussians)}")
        if self.preview:
            target = folder / "preview.mp4"
            frames = preview_frames(module, state, data, self.seconds)
            write_video(target, frames, data.fps, credentials=self.signer(module))
            print(f"Video: {target}")

    def signer(self, module: Any) -> Credentials | None:
        return Credentials(module.made_of) if self.credentials else None

    def on_predict_start(self, trainer: L.Trainer, module: Any) -> None:
        self.predicted = []

    def on_predict_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.predicted += list(to_bytes(outputs.rgb))

    def on_predict_end(self, trainer: L.Trainer, module: Any) -> None:
        if trainer.is_global_zero and self.predicted:
            target = Path(trainer.default_root_dir) / "prediction.mp4"
            fps, signer = trainer.datamodule.fps, self.signer(module)  # type: ignore[attr-defined]
            write_video(target, self.predicted, fps, credentials=signer)
            with atomic_path(target.with_suffix(".json")) as temporary:
                temporary.write_text(json.dumps({"credentials": recorded(signer)}, indent=2) + "\n")
            print(f"Video: {target}")


def to_bytes(rgb: Tensor) -> np.ndarray:
    """``(B, 3, H, W)`` in [0, 1] to ``(B, H, W, 3)`` uint8."""
    return (rgb.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def preview_frames(module: Any, state: Any, data: FrameDataModule, seconds: float) -> Iterator[np.ndarray]:
    """Source, avatar from the source's camera, avatar from a camera that swings round it; the end of the video, held-out part last.

    Of several videos the first is shown, whose person :meth:`AvatarModule.reconstruct` gives.
    """
    video = getattr(data.frames, "video", torch.zeros(len(data.frames)))
    rows = (video == video[0]).nonzero()[:, 0][-int(seconds * data.fps) :]
    batches = tqdm(rows.split(4), desc="Preview video", unit_scale=4, unit="frame", leave=False)
    for chunk in batches:
        yield from _preview_batch(module, state, data.frames, chunk, data)


def _preview_batch(
    module: Any, state: Any, frames: FrameStore, rows: Tensor, data: FrameDataModule
) -> Iterator[np.ndarray]:
    batch = to_float_batch(frames.batch(rows), data.background)
    params, camera = batch["params"].to(module.device), batch["camera"].to(module.device)
    same = module.animate(state, params, camera).rgb
    orbit = module.animate(state, params.in_head_frame(), orbit_cameras(camera, rows, data.fps)).rgb
    yield from side_by_side(to_bytes(batch["image"]), to_bytes(same), to_bytes(orbit))


def orbit_cameras(camera: Camera, rows: Tensor, fps: float) -> Camera:
    """Cameras at the tracking distance that swing left and right of a head at the origin, one per frame number."""
    phase = 2 * torch.pi * rows / (ORBIT_SECONDS * fps)
    yaw = torch.deg2rad(torch.tensor(ORBIT_DEGREES)) * phase.sin()
    distance = float(camera.world_to_camera[0, :3, 3].norm())
    swing = look_at_face(distance, size=camera.size[0], yaw=yaw).to(camera.world_to_camera.device)
    return Camera(swing.world_to_camera, camera.intrinsics, camera.size)
