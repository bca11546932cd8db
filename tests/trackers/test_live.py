"""The live tracker: causal smoothing, one face followed among several, identity and neutral face from the first second."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatarzoo.geometry.camera import look_at_face, project
from avatarzoo.heads import load_head
from avatarzoo.trackers.live import LiveTracker, whole
from avatarzoo.trackers.live_faces import FaceFollower, Sighting
from avatarzoo.trackers.live_filters import OneEuro, PoseFilter
from avatarzoo.trackers.live_solver import LiveSolver

FPS = 25
SIZE = 256


# ---- filters -------------------------------------------------------------------------------------------------------


def test_one_euro_calms_noise_and_follows_steps():
    noise = np.random.default_rng(0).normal(0, 0.01, (200, 3))
    still = OneEuro(1.0, 1.0)
    out = np.stack([still(x, k / FPS) for k, x in enumerate(noise)])
    assert out[50:].std() < 0.5 * noise[50:].std()
    step = OneEuro(1.0, 10.0)
    for k in range(20):
        step(np.zeros(1), k / FPS)
    after = [step(np.ones(1), (20 + k) / FPS)[0] for k in range(5)]
    assert after[0] > 0.4
    assert after[-1] > 0.95


def test_one_euro_does_not_depend_on_the_frame_rate():
    ends = []
    for fps in (20, 40):
        filtered = OneEuro(1.0, 0.0)
        filtered(np.zeros(1), 0.0)
        ends.append([filtered(np.ones(1), k / fps)[0] for k in range(1, fps // 2 + 1)][-1])
    assert abs(ends[0] - ends[1]) < 0.03


def test_pose_filter_calms_a_trembling_head_and_keeps_a_turning_one():
    rng = np.random.default_rng(1)
    turns = Rotation.from_rotvec(rng.normal(0, 0.003, (150, 3)))
    still, out = PoseFilter(), []
    for k, turn in enumerate(turns):
        out.append(still.pose(turn.as_matrix(), np.zeros(3), k / FPS)[0])
    calm = Rotation.from_matrix(np.stack(out)[30:]).as_rotvec().std()
    assert calm < 0.6 * turns[30:].as_rotvec().std()
    moving, angle = PoseFilter(), 0.0
    for k in range(50):
        angle = k / FPS  # one radian a second
        turned = moving.pose(Rotation.from_rotvec([0, angle, 0]).as_matrix(), np.zeros(3), k / FPS)[0]
    assert angle - Rotation.from_matrix(turned).as_rotvec()[1] < 0.05


# ---- following one face ----------------------------------------------------------------------------------------------


class Stage:
    """Stands in for both networks: faces are grey discs with centre ``(x, y)`` and height h, painted by their number."""

    def __init__(self):
        self.tracked = None
        self.restarts = 0

    def picture(self, *faces, size=(240, 320)):
        out = np.zeros((*size, 3), np.uint8)
        for k, (x, y, h) in enumerate(faces):
            out[int(y - h / 2) : int(y + h / 2), int(x - h / 2) : int(x + h / 2)] = 50 * (k + 1)
        return out

    def boxes(self, picture):
        found = []
        for grey in (50, 100):
            rows, columns = np.nonzero(picture[..., 0] == grey)
            if len(rows) > 100:
                found.append((columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1))
        return np.array(found, np.float32).reshape(-1, 4)

    def face(self, box):
        angle = np.linspace(0, 2 * np.pi, 478, endpoint=False)
        points = np.stack([np.sin(angle), np.cos(angle)], 1)
        points[10], points[152] = (0, -1), (0, 1)
        return (points * box[2:] / 2 + box[:2] + box[2:] / 2).astype(np.float32)


class Landmarker(Stage):
    """Like FaceMesh: goes on with a face it tracks, else takes the largest; blind for faces that are small in the picture."""

    def __init__(self, smallest=0.0):
        super().__init__()
        self.smallest = smallest

    def restart(self):
        self.tracked = None

    def detect(self, picture):
        boxes = self.boxes(picture)
        boxes = boxes[boxes[:, 3] >= self.smallest * picture.shape[0]]
        if not len(boxes):
            self.tracked = None
            return np.zeros((0, 478, 3), np.float32)
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        if self.tracked is not None:
            near = np.linalg.norm(centres - self.tracked, axis=1)
            if near.min() > 30:
                self.tracked = None
                return np.zeros((0, 478, 3), np.float32)
            k = near.argmin()
        else:
            k = boxes[:, 3].argmax()
        self.tracked = centres[k]
        points = self.face(boxes[k])
        return np.concatenate([points, np.zeros((478, 1), np.float32)], 1)[None]

    def close(self):
        pass


class Detector(Stage):
    def detect(self, picture):
        return self.boxes(picture)

    def close(self):
        pass


@pytest.fixture
def follower():
    return FaceFollower(landmarker=Landmarker(), detector=Detector())


def follow(follower, pictures, start=0.0):
    return [follower(picture, start + k / FPS) for k, picture in enumerate(pictures)]


def where(sighting):
    return sighting.landmarks.mean(0)


def test_a_larger_second_face_is_counted_and_not_followed(follower):
    paint = Stage().picture
    follow(follower, [paint((80, 120, 60))] * 10)
    seen = follow(follower, [paint((80, 120, 60), (230, 120, 100))] * 40, 0.4)
    assert all(abs(where(s)[0] - 80) < 3 for s in seen)
    assert seen[-1].people == 2
    assert seen[0].people == 1
    gone = follow(follower, [paint((80, 120, 60))] * 40, 2.0)
    assert gone[-1].people == 1


def test_the_stranger_is_refused_while_the_driver_hides_and_the_driver_found_again(follower):
    paint = Stage().picture
    follow(follower, [paint((80, 120, 60), (230, 120, 100))] * 20)
    # the network's first choice is the larger face
    assert where(follow(follower, [paint((80, 120, 60), (230, 120, 100))], 0.8)[0])[0] > 200
    other = FaceFollower(landmarker=Landmarker(), detector=Detector())
    follow(other, [paint((80, 120, 60))] * 20)
    hidden = follow(other, [paint((0, 0, 0), (230, 120, 100))] * 25, 0.8)
    assert all(np.isnan(s.landmarks).all() for s in hidden)
    back = follow(other, [paint((90, 120, 60), (230, 120, 100))] * 20, 1.8)
    assert abs(where(back[-1])[0] - 90) < 3
    assert not any(s.newcomer for s in back)


def test_after_patience_another_face_becomes_the_driver_once(follower):
    paint = Stage().picture
    follow(follower, [paint((80, 120, 60))] * 10)
    later = follow(follower, [paint((0, 0, 0), (230, 120, 100))] * 80, 0.4)
    assert np.isnan(later[20].landmarks).all()
    assert where(later[-1])[0] > 200
    assert sum(s.newcomer for s in later) == 1


def test_a_small_face_is_found_and_followed_in_a_window_that_moves_along():
    paint = Stage().picture
    follower = FaceFollower(landmarker=Landmarker(smallest=0.3), detector=Detector())
    seen = follow(follower, [paint((80 + 2 * k, 120, 40)) for k in range(90)])
    assert follower.window is not None
    assert follower.window[0] > 100
    assert all(abs(where(s)[0] - 80 - 2 * k) < 3 for k, s in enumerate(seen))


def test_pictures_of_another_size_begin_afresh(follower):
    paint = Stage().picture
    follow(follower, [paint((80, 120, 60))] * 5)
    seen = follow(follower, [paint((400, 300, 150), size=(480, 640))] * 5, 0.2)
    assert abs(where(seen[-1])[0] - 400) < 3
    assert seen[-1].size == (480, 640)


# ---- solving ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head():
    return load_head("procedural")


@pytest.fixture(scope="module")
def film(head):
    """Landmarks of a known person: one second neutral, then a turn and an opening mouth; true parameters."""
    frames = 60
    generator = torch.Generator().manual_seed(3)
    identity = 0.5 * torch.randn(1, head.n_identity, generator=generator)
    params = head.zeros(frames)._replace(identity=identity.expand(frames, -1).clone())
    late = torch.linspace(0, 1, frames - 30)
    params.expression[30:, head.expression_names.index("jawOpen")] = 0.5 * late
    params.rotation[30:, 1] = 0.3 * late
    params.translation[:, 1] = -0.03
    with torch.no_grad():
        points = head.landmark_points(head(params))
    pixels = project(points, look_at_face(1.0, 20.0, SIZE))[..., :2].double().numpy()
    pixels += np.random.default_rng(0).normal(0, 0.1, pixels.shape)
    return params, pixels


def run(solver, pixels):
    return [solver(points, k / FPS) for k, points in enumerate(pixels)]


def test_solver_follows_pose_and_expression(head, film):
    _, pixels = film
    solver = LiveSolver(head, SIZE)
    found = run(solver, pixels)
    assert solver.calibrated
    last, neutral = found[-1], solver.neutral
    assert last.error < 0.6
    jaw = head.expression_names.index("jawOpen")
    assert 0.25 < float(last.params.expression[0, jaw] - neutral.expression[0, jaw]) < 0.75
    turned = float(last.params.rotation[0, 1] - neutral.rotation[0, 1])
    assert abs(turned - 0.3) < 0.05
    same = torch.cat([s.params.identity for s in found[-20:]])
    assert torch.equal(same, same[:1].expand_as(same))


def test_a_known_identity_is_kept(head, film):
    truth, pixels = film
    solver = LiveSolver(head, SIZE, identity=truth.identity[:1])
    found = run(solver, pixels)
    assert torch.allclose(found[-1].params.identity, truth.identity[:1], atol=1e-5)
    solver.begin()
    assert torch.allclose(run(solver, pixels[:3])[-1].params.identity, truth.identity[:1], atol=1e-5)


def test_scattered_points_are_no_face(head, film):
    pixels = film[1]
    solver = LiveSolver(head, SIZE)
    run(solver, pixels[:30])
    scattered = pixels[30] + np.random.default_rng(1).normal(0, 15, pixels[30].shape)
    assert solver(scattered, 30 / FPS) is None
    assert solver(pixels[31], 31 / FPS).error < 1


class Scripted:
    """A follower that says what it was told."""

    def __init__(self, sightings):
        self.sightings = iter(sightings)

    def __call__(self, picture, time):
        return next(self.sightings)

    def close(self):
        pass


def sighting(points, size=(SIZE, SIZE), people=1, newcomer=False):
    return Sighting(points, size, people, newcomer)


LOST = np.full((478, 2), np.nan)


def track(head, sightings):
    tracker = LiveTracker(head, SIZE, follower=Scripted(sightings))
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    return [tracker.update(picture, k / FPS) for k in range(len(sightings))], tracker


def test_tracker_says_what_happens(head, film):
    pixels = film[1]
    script = [sighting(p) for p in pixels[:12]]
    script += [sighting(LOST, people=0)] * 3
    script += [sighting(p, people=2) for p in pixels[12:15]]
    script += [sighting(p, newcomer=k == 0) for k, p in enumerate(pixels[15:18])]
    fits, _ = track(head, script)
    news = {k: " ".join(fit.news) for k, fit in enumerate(fits) if fit.news}
    assert "found" in news[0]
    assert "lost" in news[12]
    assert "found" in news[15]
    assert "second person" in news[15]
    assert "another face" in news[18]
    assert sorted(news) == [0, 12, 15, 18]
    held = fits[12]
    assert not held.valid
    assert np.isnan(held.error)
    assert torch.equal(held.params.rotation, fits[11].params.rotation)


def test_nothing_is_seen_at_first(head):
    fits, _ = track(head, [sighting(LOST, size=(200, 300), people=0)] * 2)
    assert fits[0].neutral is None
    assert fits[0].crop.size == SIZE
    assert torch.equal(fits[0].crop.matrix, whole((200, 300), SIZE).matrix)


def test_a_new_picture_size_does_not_move_the_driver(head, film):
    """The same face, filmed at twice the size and beside where it was: relative motion goes on where it stopped."""
    pixels = film[1]
    wide = [sighting(2 * p + [100, 40], size=(700, 900)) for p in pixels[35:40]]
    fits, _ = track(head, [sighting(p) for p in pixels[:35]] + wide)
    assert any("changed from 256 x 256 to 900 x 700" in text for text in fits[35].news)
    moved = [fit.params.translation - fit.neutral.translation for fit in fits]
    assert (moved[35] - moved[34]).norm() < 0.004
    assert (fits[35].params.rotation - fits[34].params.rotation).norm() < 0.06
    assert all(fit.error < 1 for fit in fits[35:])


# ---- real pictures ---------------------------------------------------------------------------------------------------


@pytest.mark.media
def test_a_real_face_and_a_second_one(head):
    from avatarzoo.data.video import read_frames

    media = os.environ.get("AVATARZOO_MEDIA")
    if not media:
        pytest.skip("AVATARZOO_MEDIA is not set")
    tracker = LiveTracker(head, SIZE)
    first = read_frames(Path(media) / "video" / "obama_oval_450p25_20s.mp4")
    other = read_frames(Path(media) / "video" / "hdtf_aoc_512p25_8s.mp4")
    fits = []
    for k, (him, her) in enumerate(zip(first, other)):
        stage = np.zeros((512, 962, 3), np.uint8)
        stage[:450, :450] = him
        if k >= 20:
            stage[:, 450:] = her
        fits.append(tracker.update(stage, k / FPS))
        if k == 60:
            break
    tracker.close()
    assert all(fit.valid for fit in fits)
    assert max(np.nanmax(fit.landmarks[:, 0]) for fit in fits) < 450
    assert fits[-1].people == 2
    assert any("second person" in text for fit in fits for text in fit.news)
    assert np.median([fit.error for fit in fits[30:]]) < 1.5
