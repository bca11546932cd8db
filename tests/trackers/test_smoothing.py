"""Smoothing of head motion, cuts and lost stretches; gaze in closed form; the box-constrained quadratic."""

import numpy as np
import pytest
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from avatarzoo.trackers import landmark_groups as groups
from avatarzoo.trackers import smoothing, solver
from avatarzoo.trackers.gaze import eye_rotations, turned_irises
from avatarzoo.trackers.priors import split_side
from avatarzoo.trackers.weak_perspective import scaled_pose


def test_fill_interpolates_and_holds_the_ends():
    values = np.array([[0.0], [1.0], [0.0], [0.0], [4.0], [9.0]])
    valid = np.array([False, True, False, False, True, False])
    assert smoothing.fill(values, valid)[:, 0].tolist() == [1, 1, 2, 3, 4, 4]


def test_runs_end_at_lost_frames_and_cuts():
    landmarks = np.random.default_rng(0).normal(0, 1, (1, 478, 2)) * 40 + 256
    landmarks = np.repeat(landmarks, 20, 0)
    landmarks[:, groups.FOREHEAD], landmarks[:, groups.CHIN] = (256, 150), (256, 350)
    landmarks[12:] += 60.0
    landmarks[5:7] = np.nan
    valid = np.isfinite(landmarks).all((1, 2))
    assert [(r.start, r.stop) for r in smoothing.runs(landmarks, valid)] == [(0, 5), (7, 12), (12, 20)]


def test_smoothing_keeps_quadratic_motion_and_damps_noise():
    t = np.linspace(-1, 1, 60)
    vectors = np.stack([0.2 * t**2, 0.3 * t, 0 * t], 1)
    moves = np.stack([t, t**2, 1 - t], 1)
    rotations = Rotation.from_rotvec(vectors).as_matrix()
    turned, moved = smoothing.smooth_pose(rotations, moves, [slice(0, 60)], 25.0)
    assert np.abs(moved - moves).max() < 1e-12
    assert np.abs(turned - rotations).max() < 1e-3
    noise = np.random.default_rng(1).normal(0, 0.01, moves.shape)
    _, calm = smoothing.smooth_pose(rotations, moves + noise, [slice(0, 60)], 25.0)
    assert (calm - moves)[5:-5].std() < 0.6 * noise.std()


def test_stretches_do_not_leak_into_each_other():
    moves = np.concatenate([np.zeros((15, 3)), np.ones((15, 3))])
    eye = np.repeat(np.eye(3)[None], 30, 0)
    _, moved = smoothing.smooth_pose(eye, moves, [slice(0, 15), slice(15, 30)], 25.0)
    assert np.abs(moved - moves).max() < 1e-12


@pytest.mark.parametrize(("x", "n"), [(9.0, 9), (10.8, 11), (0.2, 1), (4.0, 5)])
def test_odd(x, n):
    assert smoothing.odd(x) == n


def test_box_descent_equals_a_bounded_least_squares_solver():
    rng = np.random.default_rng(2)
    tables, sides = rng.normal(size=(5, 40, 12)), rng.normal(size=(5, 40))
    low, high = np.full((5, 12), -0.05), np.full((5, 12), 0.1)
    x = np.zeros((5, 12))
    gradients = np.einsum("tij,ti->tj", tables, sides)
    solver.box_descent(tables.transpose(0, 2, 1) @ tables, gradients, low, high, x)
    for k in range(5):
        expected = lsq_linear(tables[k], sides[k], (low[k], high[k]), tol=1e-12).x
        assert np.abs(x[k] - expected).max() < 1e-3
    assert ((x == low) | (x == high)).any()


def test_gaze_finds_the_turn_of_the_eyes():
    rng = np.random.default_rng(4)
    eyes = np.array([[0.031, 0.03, 0.04], [-0.031, 0.03, 0.04]])
    points = rng.normal(0, 0.03, (6, 478, 3))
    for eye, iris in zip(eyes, (groups.IRIS_LEFT, groups.IRIS_RIGHT)):
        points[:, iris] = eye + [0.0, 0.0, 0.0115]
    turns = np.zeros((6, 6))
    turns[:, [0, 1, 3, 4]] = rng.uniform(-0.35, 0.35, (6, 4))
    rotation = Rotation.from_rotvec(rng.normal(0, 0.2, (6, 3))).as_matrix() * np.array([1, -1, -1])[:, None]
    translation = np.array([0.01, 0.02, 0.9]) + rng.normal(0, 0.01, (6, 3))
    seen = turned_irises(points, eyes, turns) @ rotation.transpose(0, 2, 1) + translation[:, None]
    pixels = 1400 * seen[..., :2] / seen[..., 2:] + 256
    found = eye_rotations(points, eyes, pixels, rotation, translation, 1400.0, 256.0)
    # a turn about the line of sight does not show; directions must agree
    again = turned_irises(points, eyes, found)
    for iris in (groups.IRIS_LEFT, groups.IRIS_RIGHT):
        expected = turned_irises(points, eyes, turns)[:, iris[0]]
        assert np.abs(again[:, iris[0]] - expected).max() < 1e-6


def test_scaled_pose_is_exact_for_a_weak_camera():
    rng = np.random.default_rng(5)
    points = rng.normal(0, 0.05, (4, 478, 3))
    rotation = Rotation.from_rotvec(rng.normal(0, 0.3, (4, 3))).as_matrix()
    pixels = 1500 * points @ rotation.transpose(0, 2, 1)[..., :2] + [200, 300]
    pose = scaled_pose(points, pixels, groups.landmark_weights())
    assert np.abs(pose.rotation - rotation).max() < 1e-9
    assert np.abs(pose.scale - 1500).max() < 1e-6
    assert np.abs(pose.offset - [200, 300]).max() < 1e-6


def test_split_side():
    assert split_side("eyeBlink_L") == ("eyeBlink", "L")
    assert split_side("eyeBlinkRight") == ("eyeBlink", "R")
    assert split_side("jawLeft") == ("jawLeft", "")
    assert split_side("mouthClose") == ("mouthClose", "")
