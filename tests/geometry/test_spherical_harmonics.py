"""Harmonics: orthonormal by quadrature; irradiance against the integral it stands for."""

import math

import pytest
import torch

from avatarzoo.geometry import spherical_harmonics as sh


@pytest.fixture(scope="module")
def sky() -> tuple[torch.Tensor, torch.Tensor]:
    """Directions and quadrature weights (Gauss-Legendre by equal angles), exact for low degrees."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(24)
    y, w = torch.from_numpy(nodes), torch.from_numpy(weights)
    angle = torch.arange(48, dtype=torch.float64) * 2 * math.pi / 48
    ring = (1 - y**2).sqrt()[:, None]
    directions = torch.stack([ring * angle.sin(), y[:, None].expand(-1, 48), ring * angle.cos()], -1)
    return directions.reshape(-1, 3), (w[:, None] * 2 * math.pi / 48).expand(-1, 48).reshape(-1)


def test_basis_is_orthonormal(sky):
    directions, weights = sky
    basis = sh.sh_basis(directions)
    assert torch.allclose(basis.T @ (basis * weights[:, None]), torch.eye(9, dtype=torch.float64), atol=1e-12)
    assert basis[0, 0].item() == pytest.approx(0.28209479177387814, abs=1e-12)
    assert torch.equal(sh.sh_basis(directions, 1), basis[:, :4])


def test_order_and_signs():
    x, y, z = sh.sh_basis(torch.eye(3), 1)
    assert x[3] > 0
    assert y[1] > 0
    assert z[2] > 0
    diagonal = sh.sh_basis(torch.tensor([[1.0, 1.0, 0.0]]) / math.sqrt(2))[0]
    assert diagonal[4] > 0
    assert diagonal[5] == diagonal[7] == 0
    assert sh.sh_basis(torch.tensor([[1.0, 0.0, 0.0]]))[0, 8] > 0


def test_irradiance_is_the_clamped_cosine_integral(sky):
    directions, weights = sky
    g = torch.Generator().manual_seed(0)
    light = torch.randn(9, 3, generator=g, dtype=torch.float64)
    normals = torch.nn.functional.normalize(torch.randn(6, 3, generator=g, dtype=torch.float64), dim=-1)
    radiance = sh.sh_basis(directions) @ light
    cosine = (normals @ directions.T).clamp_min(0)
    expected = (cosine * weights) @ radiance / math.pi
    assert torch.allclose(sh.irradiance(normals, light), expected, atol=0.01)


def test_uniform_light_shows_its_colour():
    color = torch.tensor([[0.2, 0.5, 0.9]])
    normals = torch.nn.functional.normalize(
        torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    assert torch.allclose(
        sh.irradiance(normals, sh.ambient_light(color)), color[:, None].expand(1, 5, 3), atol=1e-6
    )
    batched = sh.irradiance(normals.expand(4, 5, 3), sh.ambient_light(color.expand(4, 3)))
    assert batched.shape == (4, 5, 3)


def test_rgb_round_trip_and_bad_order():
    rgb = torch.rand(10, 3, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(sh.sh0_to_rgb(sh.rgb_to_sh0(rgb)), rgb, atol=1e-6)
    assert sh.rgb_to_sh0(torch.tensor(0.5)) == 0
    assert sh.rgb_to_sh0(torch.tensor(1.0)).item() == pytest.approx(0.5 / 0.28209479)
    with pytest.raises(ValueError, match="orders 0 to 2"):
        sh.sh_basis(torch.eye(3), 3)
