"""What a run leaves to take home."""

from __future__ import annotations

import math

import torch

from avatarzoo.evaluation.products import ORBIT_DEGREES, ORBIT_SECONDS, orbit_cameras, to_bytes
from avatarzoo.geometry.camera import look_at_face, project


def test_to_bytes():
    rgb = torch.tensor([-0.5, 0.5, 2.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    picture = to_bytes(rgb)
    assert picture.shape == (2, 4, 5, 3)
    assert picture.dtype.name == "uint8"
    assert picture[0, 0, 0].tolist() == [0, 128, 255]


def test_orbit_swings_round_the_head():
    """The origin stays in the middle at the tracking distance; a quarter of the period later the camera is far left."""
    camera = look_at_face(0.8, 25.0, size=64)
    rows = torch.tensor([0, int(ORBIT_SECONDS * 25 / 4), int(ORBIT_SECONDS * 25 / 2)])
    orbit = orbit_cameras(camera, rows, fps=25)
    seen = project(torch.zeros(3, 1, 3), orbit)[:, 0]
    assert torch.allclose(seen, torch.tensor([32, 32, 0.8]).expand(3, 3), atol=1e-3)
    place = -(orbit.world_to_camera[:, :3, :3].mT @ orbit.world_to_camera[:, :3, 3:])[..., 0]
    yaw = torch.atan2(place[:, 0], place[:, 2]) * 180 / math.pi
    assert torch.allclose(yaw.abs(), torch.tensor([0, ORBIT_DEGREES, 0]), atol=0.1)
    assert torch.equal(orbit.intrinsics, camera.intrinsics)


def test_the_preview_shows_the_first_of_several_videos(monkeypatch):
    """reconstruct() gives the first person, so the source beside it is the first video, up to its end."""
    from types import SimpleNamespace

    from avatarzoo.evaluation import products

    shown = []
    monkeypatch.setattr(
        products, "_preview_batch", lambda m, s, f, rows, d: shown.extend(rows.tolist()) or []
    )
    frames = type("Frames", (), {"__len__": lambda self: 50, "video": torch.tensor([0] * 30 + [1] * 20)})()
    list(products.preview_frames(None, None, SimpleNamespace(frames=frames, fps=10), seconds=1.0))
    assert shown == list(range(20, 30))
