"""Drivers, motion, grounds, and what pictures of people are told about."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from avatarzoo.apps.drive_driver import Driver, kind_of, of_parameters
from avatarzoo.apps.drive_ground import composite_on, filling, plate_named
from avatarzoo.apps.drive_motion import motion_of, orbit
from avatarzoo.errors import BadSequenceError, BadVideoError, HeadModelMismatchError
from avatarzoo.geometry.camera import look_at_face, project
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadParams
from avatarzoo.heads.transfer import median
from avatarzoo.models.seen import Seen
from avatarzoo.trackers.live_driving import Rest


@pytest.fixture(scope="module")
def head():
    return load_head("procedural")


@pytest.fixture
def rest(head):
    """An avatar that rests with a slight smile, turned a little, seen by its own camera."""
    params = head.zeros(1)
    params.expression[0, 3], params.rotation[0, 1], params.identity[0, 0] = 0.2, 0.1, 1.5
    return Rest(params, look_at_face(1.1, size=64))


@pytest.fixture
def driver(head):
    """9 frames: the jaw opens from 0.1 to 0.5, the head turns from -0.4 to 0.4."""
    params = head.zeros(9)
    params.expression[:, 0] = torch.linspace(0.1, 0.5, 9)
    params.rotation[:, 1] = torch.linspace(-0.4, 0.4, 9)
    return Driver(params, median(params), look_at_face(0.8, size=128), 30.0, None, (2, 7), {})


# ---- motion --------------------------------------------------------------------------------------------------------------


def test_another_person_moves_relative_to_rest(head, rest, driver):
    motion = motion_of(driver, rest, head, None, "mean", "driver")
    params, camera = motion.at(4)  # the median: both at rest
    torch.testing.assert_close(params.expression, rest.params.expression)
    torch.testing.assert_close(params.rotation, rest.params.rotation, atol=1e-5, rtol=0)
    assert (params.identity == rest.params.identity).all()
    assert camera.size == (64, 64)
    torch.testing.assert_close(camera.world_to_camera, rest.camera.world_to_camera)
    last = motion.at(8)[0]
    torch.testing.assert_close(last.expression[0, 0], torch.tensor(0.2))
    torch.testing.assert_close(last.rotation[0, 1], torch.tensor(0.5), atol=1e-4, rtol=0)


def test_the_same_person_is_taken_as_it_is(head, rest, driver):
    motion = motion_of(driver, rest, head, None, "none", "driver")
    params, camera = motion.at(8)
    torch.testing.assert_close(params.expression, driver.params.expression[8:])
    torch.testing.assert_close(params.rotation, driver.params.rotation[8:])
    torch.testing.assert_close(camera.world_to_camera, driver.camera.world_to_camera)
    assert camera.size == (64, 64)


def test_transferred_faces_stay_in_the_range_of_training(head, rest, driver):
    low, high = (HeadParams(*(torch.full((1, x.shape[1]), v) for x in rest.params)) for v in (0.0, 0.12))
    seen = Seen(rest.params, low, high, rest.camera)
    kept = motion_of(driver, rest, head, seen, "mean", "driver").params
    assert kept.expression.max() == pytest.approx(0.12)
    as_it_is = motion_of(driver, rest, head, seen, "none", "driver").params
    assert as_it_is.expression.max() == pytest.approx(0.5)


@pytest.mark.parametrize("path", ["fixed", "orbit"])
def test_a_resting_head_still_has_expressions(head, rest, driver, path):
    motion = motion_of(driver, rest, head, None, "mean", path)
    assert (motion.params.rotation == rest.params.rotation).all()
    assert motion.params.expression[:, 0].std() > 0.05
    assert motion.camera.batch == (1 if path == "fixed" else 9)


def test_the_orbit_keeps_the_head_where_it_is_in_the_picture(head, rest):
    camera = orbit(rest, head, torch.linspace(0, 4, 17))
    vertices = head(rest.params)[0]
    middle = (vertices.amin(0) + vertices.amax(0)) / 2
    seen = project(middle.expand(17, 1, 3), camera)[:, 0]
    torch.testing.assert_close(seen, seen[:1].expand(17, 3), atol=1e-3, rtol=0)
    turned = camera.world_to_camera[4, :3, :3] @ camera.world_to_camera[12, :3, :3].T
    assert math.degrees(math.acos((float(turned.trace()) - 1) / 2)) == pytest.approx(70, abs=0.5)
    torch.testing.assert_close(camera.world_to_camera[0], rest.camera.world_to_camera[0])


def test_the_beginning_of_a_driver(driver):
    short = driver.first(0.2)
    assert short.frames == 6
    assert short.lost == (2,)
    assert driver.first(100).frames == 9


# ---- parameters ----------------------------------------------------------------------------------------------------------


def test_a_trackers_file_brings_its_camera_and_rest(head, tmp_path, driver):
    arrays = {k: x.numpy() for k, x in driver.params._asdict().items()}
    valid = np.ones(9, bool)
    valid[5:] = False
    camera = {"world_to_camera": driver.camera.world_to_camera, "intrinsics": driver.camera.intrinsics}
    np.savez(tmp_path / "p.npz", valid=valid, landmarks=np.zeros((9, 4, 2)), **arrays, **camera)
    assert kind_of(tmp_path / "p.npz") == "parameters"
    read = of_parameters(tmp_path / "p.npz", head, 25.0)
    assert read.camera.size == (128, 128)
    assert read.lost == (5, 6, 7, 8)
    torch.testing.assert_close(read.neutral.expression[0, 0], torch.tensor(0.2))


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"x": np.zeros((3, 2))}, BadSequenceError, "none of the arrays"),
        ({"jaw": np.zeros((3, 4))}, HeadModelMismatchError, "4 numbers of jaw"),
        (
            {"jaw": np.zeros((3, 3)), "eyes": np.zeros((4, 6))},
            BadSequenceError,
            "eyes must be finite and 3 x 6",
        ),
        ({"jaw": np.full((3, 3), np.nan)}, BadSequenceError, "finite"),
        ({"jaw": np.zeros(3)}, BadSequenceError, "3 x 3"),
    ],
)
def test_bad_parameters(head, tmp_path, arrays, error, message):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(error, match=message):
        of_parameters(tmp_path / "p.npz", head, 25.0)


def test_what_is_no_driver(head, tmp_path):
    (tmp_path / "p.npz").write_bytes(b"PK no arrays")
    with pytest.raises(BadSequenceError, match=r"numpy\.savez"):
        of_parameters(tmp_path / "p.npz", head, 25.0)
    (tmp_path / "notes.txt").write_text("no video")
    for name in ("notes.txt", "missing.mp4", "missing.npz"):
        with pytest.raises(BadVideoError):
            kind_of(tmp_path / name)


# ---- grounds -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn():
    """A red head with soft edges on a white ground."""
    alpha = np.clip((20 - np.hypot(*(np.mgrid[:64, :64] - 32))) / 4, 0, 1).astype(np.float32)
    red = np.broadcast_to(np.float32([0.8, 0.1, 0.1]), (64, 64, 3))
    return red * alpha[..., None] + (1 - alpha[..., None]), alpha


def test_grounds_are_exchanged_without_a_rim(drawn):
    rgb, alpha = drawn
    over = composite_on("navy", plate_named("navy"), 1.0)(rgb, alpha).astype(int)
    wanted = 255 * (alpha[..., None] * [0.8, 0.1, 0.1]) + (1 - alpha[..., None]) * [0, 0, 128]
    assert np.abs(over - wanted).max() <= 1
    clear = composite_on("transparent", None, 1.0)(rgb, alpha)
    assert clear.shape == (64, 64, 4)
    edge = (alpha > 0.2) & (alpha < 0.9)
    assert np.abs(clear[edge][:, :3].astype(int) - [204, 26, 26]).max() <= 2
    assert (composite_on("avatar", None, 1.0)(rgb, alpha)[0, 0] == 255).all()


def test_a_filmed_background_is_covered(drawn):
    rgb, alpha = drawn
    over = composite_on("black", plate_named("black"), None)(rgb, alpha)
    assert over[0, 0].max() == 0
    assert np.abs(over[32, 32].astype(int) - [204, 26, 26]).max() <= 1


def test_a_picture_fills_whatever_its_shape(tmp_path):
    from PIL import Image

    plate = np.zeros((30, 90, 3), np.uint8)
    plate[:, 30:60] = 200
    Image.fromarray(plate).save(tmp_path / "back.png")
    whole = filling(plate_named(str(tmp_path / "back.png")), (64, 64))
    assert whole.shape == (64, 64, 3)
    assert whole[5:-5, 5:-5].min() > 0.7
