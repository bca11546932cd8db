import numpy as np
import pytest
import scipy.signal
import torch

from avatarzoo.networks import EqualLinear, resampling_filter, resize, upfirdn, upsample
from avatarzoo.networks.ops import activate, blur, normalise_moment, prepare


def upfirdn_by_scipy(x, kernel, up, down, padding, gain):
    """The definition, one channel at a time."""
    left, right, top, bottom = padding
    out = []
    for plane in x.reshape(-1, *x.shape[-2:]).numpy():
        stuffed = np.zeros((plane.shape[0] * up, plane.shape[1] * up))
        stuffed[::up, ::up] = plane
        padded = np.pad(stuffed, ((max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))))
        rows = slice(max(-top, 0), padded.shape[0] - max(-bottom, 0))
        padded = padded[rows, max(-left, 0) : padded.shape[1] - max(-right, 0)]
        out.append(scipy.signal.convolve2d(padded, kernel.numpy() * gain, "valid")[::down, ::down])
    return torch.from_numpy(np.stack(out)).reshape(*x.shape[:2], *out[0].shape).float()


@pytest.mark.parametrize(
    ("up", "down", "padding"),
    [(1, 1, (0, 0, 0, 0)), (2, 1, (2, 1, 3, 0)), (1, 2, (1, 1, 1, 1)), (2, 3, (-1, 2, 4, -2))],
)
def test_upfirdn_follows_its_definition(up, down, padding):
    x, kernel = torch.randn(2, 3, 7, 6), torch.randn(4, 3)
    expected = upfirdn_by_scipy(x, kernel, up, down, padding, 1.5)
    torch.testing.assert_close(upfirdn(x, kernel, up, down, padding, 1.5), expected, atol=2e-5, rtol=1e-5)


def test_shortcuts_equal_upfirdn():
    x, kernel = torch.randn(2, 3, 6, 5), torch.randn(4, 4)
    torch.testing.assert_close(upsample(x, kernel), upfirdn(x, kernel, up=2, padding=(2, 1, 2, 1), gain=4))
    expected = upfirdn(x, kernel, down=2, padding=(1, 1, 1, 1), gain=3) + torch.arange(3.0)[:, None, None]
    torch.testing.assert_close(blur(x, kernel, 1, stride=2, gain=3, bias=torch.arange(3.0)), expected)


def test_doubling_keeps_a_constant_inside():
    doubled = upsample(torch.ones(1, 1, 8, 8), resampling_filter())
    torch.testing.assert_close(doubled[..., 1:-1, 1:-1], torch.ones(1, 1, 14, 14))


def test_equal_linear_scales_weight_and_bias():
    layer = EqualLinear(16, 3, rate=0.01, bias=2.0)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.4)
    x = torch.randn(5, 16)
    expected = x @ (layer.weight * 0.01 / 4).t() + 2.0
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("gradients", [True, False])
def test_activation_bends_and_clamps(gradients):
    x = torch.tensor([-10.0, -1.0, 0.5, 9.0]).reshape(1, 1, 2, 2).requires_grad_(gradients)
    with torch.set_grad_enabled(gradients):
        y = activate(x * 1, clamp=1.5)
    assert y.flatten().tolist() == pytest.approx([-1.5, -0.2, 0.5, 1.5])
    if gradients:
        (slope,) = torch.autograd.grad(y.sum(), x)
        assert slope.flatten().tolist() == pytest.approx([0, 0.2, 1, 0])


def test_moment_is_one_and_resize_is_antialiased():
    torch.testing.assert_close(normalise_moment(torch.randn(4, 64)).square().mean(1), torch.ones(4))
    line = torch.zeros(1, 1, 16, 16)
    line[..., 0] = 1  # between the places that plain bilinear sampling by four looks at
    small = resize(line, 4)
    assert small.mean().item() == pytest.approx(1 / 16, rel=0.3)
    assert resize(line, 4, antialias=False).abs().max() == 0
    assert resize(small, 4) is small


def test_half_precision_only_where_it_is_usable():
    x = torch.randn(1, 4, 2, 2)
    assert prepare(x, torch.float16).dtype == prepare(x, None).dtype == torch.float32
    assert prepare(x, torch.bfloat16).dtype == torch.bfloat16
    assert prepare(x, None).is_contiguous(memory_format=torch.channels_last)
