"""The CUDA backends: what they hand to the libraries (stand-ins, on the CPU), and their pictures where there is a GPU."""

import sys
import types
from typing import NamedTuple

import pytest
import torch

from avatarzoo.errors import MissingExtraError
from avatarzoo.geometry.camera import Camera, look_at_face, project
from avatarzoo.render import Gaussians, rasterize_gaussians, splat_gsplat, splat_inria

N, HEIGHT, WIDTH = 7, 20, 30


def scene(sets: int) -> Gaussians:
    r = torch.Generator().manual_seed(0)
    quaternions = torch.nn.functional.normalize(torch.randn(sets, N, 4, generator=r), dim=-1)
    means, scales = 0.05 * torch.randn(sets, N, 3, generator=r), 0.01 * torch.rand(sets, N, 3, generator=r)
    return Gaussians(
        means, quaternions, scales, torch.rand(sets, N, generator=r), torch.rand(sets, N, 3, generator=r)
    )


def cameras(batch: int) -> Camera:
    view = look_at_face(size=WIDTH, yaw=torch.linspace(-0.3, 0.3, batch))
    shift = torch.tensor([[0, 0, 1.5], [0, 0, -(WIDTH - HEIGHT) / 2], [0, 0, 0]])
    return Camera(view.world_to_camera, view.intrinsics + shift, (HEIGHT, WIDTH))


@pytest.mark.parametrize(("sets", "batch"), [(1, 1), (1, 3), (3, 3)])
def test_gsplat_gets_one_call_with_the_right_shapes(monkeypatch, sets, batch):
    calls = []

    def rasterization(**arguments):
        calls.append(arguments)
        lead = arguments["viewmats"].shape[:-2]
        rgb = torch.arange(batch * HEIGHT * WIDTH * 3.0).reshape(*lead, HEIGHT, WIDTH, 3)
        return rgb, torch.full((*lead, HEIGHT, WIDTH, 1), 0.25), {}

    monkeypatch.setitem(sys.modules, "gsplat", types.SimpleNamespace(rasterization=rasterization))
    g, view = scene(sets), cameras(batch)
    rgb, alpha = splat_gsplat.render(g, view)
    (call,) = calls
    lead, views = ((), (batch,)) if sets == 1 else ((sets,), (sets, 1))
    assert call["means"].shape == (*lead, N, 3)
    assert call["quats"].shape == (*lead, N, 4)
    assert call["scales"].shape == (*lead, N, 3)
    assert call["opacities"].shape == (*lead, N)
    assert call["colors"].shape == (*lead, N, 3)
    assert call["viewmats"].shape == (*views, 4, 4)
    assert call["Ks"].shape == (*views, 3, 3)
    assert torch.equal(call["viewmats"].reshape(-1, 4, 4), view.world_to_camera)
    settings = {
        k: call[k]
        for k in ("width", "height", "near_plane", "eps2d", "sh_degree", "packed", "rasterize_mode")
    }
    assert settings == {
        "width": WIDTH, "height": HEIGHT, "near_plane": 0.2, "eps2d": 0.3,
        "sh_degree": None, "packed": False, "rasterize_mode": "classic",
    }  # fmt: skip
    assert rgb.shape == (batch, 3, HEIGHT, WIDTH)
    assert alpha.shape == (batch, 1, HEIGHT, WIDTH)
    assert (
        rgb[batch - 1, 1, 2, 5] == ((batch - 1) * HEIGHT * WIDTH + 2 * WIDTH + 5) * 3 + 1
    )  # channels moved, not mixed


class OldSettings(NamedTuple):
    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: torch.Tensor
    scale_modifier: float
    viewmatrix: torch.Tensor
    projmatrix: torch.Tensor
    sh_degree: int
    campos: torch.Tensor
    prefiltered: bool
    debug: bool


class NewSettings(NamedTuple):
    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: torch.Tensor
    scale_modifier: float
    viewmatrix: torch.Tensor
    projmatrix: torch.Tensor
    sh_degree: int
    campos: torch.Tensor
    prefiltered: bool
    debug: bool
    antialiasing: bool


@pytest.mark.parametrize("settings_type", [OldSettings, NewSettings])
@pytest.mark.parametrize("sets", [1, 2])
def test_inria_gets_its_own_camera_convention(monkeypatch, settings_type, sets):
    calls = []

    class GaussianRasterizer:
        def __init__(self, raster_settings):
            self.settings = raster_settings

        def __call__(
            self, means3D, means2D, opacities, shs=None, colors_precomp=None, scales=None, rotations=None
        ):
            calls.append((self.settings, means3D, means2D, opacities, colors_precomp, scales, rotations))
            rgb = colors_precomp.mean(0)[:, None, None].expand(3, HEIGHT, WIDTH)
            radii = torch.ones(N)
            return (rgb, radii) if settings_type is OldSettings else (rgb, radii, rgb[:1])

    fake = types.SimpleNamespace(
        GaussianRasterizationSettings=settings_type, GaussianRasterizer=GaussianRasterizer
    )
    monkeypatch.setitem(sys.modules, "diff_gaussian_rasterization", fake)
    g, view = scene(sets), cameras(2)
    rgb, alpha = splat_inria.render(g, view)
    assert rgb.shape == (2, 3, HEIGHT, WIDTH)
    assert alpha.shape == (2, 1, HEIGHT, WIDTH)
    assert (alpha == 1).all()
    torch.testing.assert_close(rgb[1, :, 0, 0], g.colors[-1].mean(0))
    assert len(calls) == 4  # colour and alpha, twice

    settings, means, means2d, opacities, _, scales, rotations = calls[2]
    assert torch.equal(means, g.means[-1])
    assert means2d.shape == (N, 3)
    assert opacities.shape == (N, 1)
    assert torch.equal(scales, g.scales[-1])
    torch.testing.assert_close(rotations, g.quaternions[-1])
    # its kernels multiply row vectors: p_clip = (x, y, z, 1) @ projmatrix, pixel = ((ndc + 1) * size - 1) / 2
    points = torch.cat([means, torch.ones(N, 1)], 1)
    clip = points @ settings.projmatrix
    ndc = clip[:, :2] / clip[:, 3:]
    pixels = ((ndc + 1) * torch.tensor([WIDTH, HEIGHT]) - 1) / 2
    seen = project(means[None], view[1:])[0]
    torch.testing.assert_close(pixels, seen[:, :2] - 0.5, atol=1e-3, rtol=0)
    torch.testing.assert_close((points @ settings.viewmatrix)[:, 2], seen[:, 2])
    assert settings.tanfovx == pytest.approx(WIDTH / (2 * float(view.intrinsics[1, 0, 0])))
    assert settings.tanfovy == pytest.approx(HEIGHT / (2 * float(view.intrinsics[1, 1, 1])))
    assert settings.debug is False
    assert settings.sh_degree == 0
    assert settings.bg.abs().max() == 0
    torch.testing.assert_close(
        torch.cat([settings.campos, torch.ones(1)]) @ settings.viewmatrix, torch.tensor([0, 0, 0, 1.0])
    )


@pytest.mark.parametrize(
    ("module", "package", "says"),
    [
        (splat_gsplat, "gsplat", r"avatarzoo\[cuda\]"),
        (splat_inria, "diff_gaussian_rasterization", "graphdeco-inria"),
    ],
)
def test_missing_library_says_what_to_do(monkeypatch, module, package, says):
    monkeypatch.setitem(sys.modules, package, None)  # import raises ImportError
    with pytest.raises(MissingExtraError, match=says):
        module.render(scene(1), cameras(1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("backend", "package"), [("gsplat", "gsplat"), ("inria", "diff_gaussian_rasterization")]
)
@pytest.mark.parametrize("sets", [1, 2])
def test_picture_and_gradients_on_cuda(backend, package, sets):
    pytest.importorskip(package)
    results = []
    for device, choice, dtype in (("cuda", backend, torch.float32), ("cpu", "torch", torch.float64)):
        leaves = Gaussians(*(x.to(device, dtype).requires_grad_() for x in scene(sets)))
        out = rasterize_gaussians(leaves, cameras(2).to(device), backend=choice)
        (out.rgb**2).sum().backward()
        results.append((out.rgb.detach().cpu().double(), [x.grad.cpu().double() for x in leaves]))
    (rgb, grads), (expected, expected_grads) = results
    assert (rgb - expected).abs().max() < 2 / 255
    for x, y in zip(grads, expected_grads):
        assert (x - y).norm() < 0.05 * y.norm()
