"""Cameras, films and meshes of a tri-plane person."""

import math

import numpy as np
import pytest
import torch

from avatarzoo.geometry.mesh import face_normals
from avatarzoo.priors import EG3DConfig, TriPlaneGenerator
from avatarzoo.priors.cameras import frontal_label, orbit_labels, sphere_label
from avatarzoo.priors.surface import density_grid, extract_surface, orbit_frames


def test_frontal_camera_is_the_published_one():
    expected = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]
    torch.testing.assert_close(frontal_label()[0], torch.tensor(expected))


def test_yaw_and_pitch_move_the_camera_as_published():
    label = sphere_label(torch.tensor([0.3, 0.0]), torch.tensor([0.0, -0.3]))
    centres = label[:, :16].reshape(2, 4, 4)[:, :3, 3]
    assert centres[0, 0].item() == pytest.approx(0.798, abs=1e-3)
    assert centres[1, 1].item() == pytest.approx(0.516, abs=1e-3)
    assert math.degrees(math.asin(centres[1, 1] / 2.7)) == pytest.approx(11.0, abs=0.05)
    assert centres.norm(dim=1).tolist() == pytest.approx([2.7, 2.7])


def test_cameras_look_at_the_pivot_upright():
    pose = orbit_labels(7)[:, :16].reshape(-1, 4, 4)
    right, down, forward, centre = (pose[:, :3, i] for i in range(4))
    to_pivot = torch.nn.functional.normalize(torch.tensor([0.0, 0, 0.2]) - centre, dim=1)
    torch.testing.assert_close(forward, to_pivot)
    torch.testing.assert_close(torch.linalg.cross(right, down), forward)
    torch.testing.assert_close(right[:, 1], torch.zeros(7))
    assert (down[:, 1] < 0).all()


class Ball(TriPlaneGenerator):
    """A field that is known: a red ball of radius 0.3 around (0.1, 0, -0.05)."""

    def __init__(self) -> None:
        super().__init__(
            EG3DConfig(
                latent_dim=8,
                code_dim=8,
                plane_resolution=8,
                channel_max=4,
                superresolution="2X",
                neural_resolution=8,
                coarse_samples=4,
                fine_samples=4,
            )
        )

    def query(self, planes, points):
        distance = (points - points.new_tensor([0.1, 0.0, -0.05])).norm(dim=-1)
        red = torch.zeros(*points.shape[:2], 32)
        red[..., 0] = 1
        return 10 + 100 * (0.3 - distance), red


@pytest.fixture(scope="module")
def ball():
    return Ball().eval()


PLANES = torch.zeros(1, 3, 32, 8, 8)


def test_grid_is_indexed_by_x_y_z(ball):
    grid = density_grid(ball, PLANES, 11, chunk=100)
    assert torch.tensor(np.unravel_index(grid.argmax(), grid.shape)).tolist() in ([6, 5, 4], [6, 5, 5])


def test_surface_of_a_ball(ball):
    surface = extract_surface(ball, PLANES, resolution=48)
    distance = (surface.vertices - torch.tensor([0.1, 0.0, -0.05])).norm(dim=1)
    torch.testing.assert_close(distance, torch.full_like(distance, 0.3), atol=2e-3, rtol=0)
    torch.testing.assert_close(surface.colours, torch.tensor([1.0, 0, 0]).expand_as(surface.vertices))
    normals = face_normals(surface.vertices[None], surface.faces)[0]
    outward = surface.vertices[surface.faces].mean(1) - torch.tensor([0.1, 0.0, -0.05])
    assert ((normals * outward).sum(1) > 0).float().mean() > 0.999


def test_surface_that_leaves_the_box_is_closed(ball):
    surface = extract_surface(ball, PLANES, level=-15.0, resolution=16)  # radius 0.55
    edges = torch.cat([surface.faces[:, [i, (i + 1) % 3]] for i in range(3)]).sort(1).values
    assert (edges.unique(dim=0, return_counts=True)[1] == 2).all()
    assert surface.vertices.abs().max() <= 0.5


def test_no_surface_says_what_there_is(ball):
    with pytest.raises(ValueError, match="no surface at level 1000"):
        extract_surface(ball, PLANES, level=1000.0, resolution=8)


def test_orbit_gives_frames(ball):
    frames = list(orbit_frames(ball, torch.zeros(1, ball.backbone.codes, 8), count=2))
    assert [f.shape for f in frames] == [(128, 128, 3)] * 2
    assert frames[0].dtype == np.uint8
    assert not np.array_equal(*frames)
