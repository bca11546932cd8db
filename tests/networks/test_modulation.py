import pytest
import torch
import torch.nn.functional as F

from avatarzoo.networks import SynthesisLayer, ToRGB, modulated_convolution, resampling_filter, upfirdn

FORMS = ["auto", "fused", "grouped", "scaled"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("demodulate", [True, False])
def test_forms_follow_the_paper(form, demodulate):
    x, weight, style = torch.randn(3, 5, 6, 6), torch.randn(4, 5, 3, 3), torch.rand(3, 5) + 0.5
    bias = torch.randn(4)
    y = modulated_convolution(x, weight, style, demodulate, form=form, gain=1.3, bias=bias)
    for i in range(3):
        own = weight * style[i][None, :, None, None]  # equation 1
        if demodulate:
            own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()  # equation 3
        expected = 1.3 * F.conv2d(x[i : i + 1], own, padding=1) + bias[:, None, None]
        torch.testing.assert_close(y[i : i + 1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_doubling_is_zero_stuffing_convolution_and_filter(form):
    x, weight, style = torch.randn(2, 5, 6, 7), torch.randn(4, 5, 3, 3), torch.rand(2, 5) + 0.5
    kernel = resampling_filter()
    y = modulated_convolution(x, weight, style, demodulate=False, up=2, kernel=kernel, form=form)
    scaled = x * style[:, :, None, None]
    stuffed = upfirdn(scaled, torch.ones(1, 1), up=2, padding=(2, 1, 2, 1))
    # a transposed convolution applies the mirrored weight
    expected = upfirdn(F.conv2d(stuffed, weight.flip(2, 3)), kernel, padding=(1, 1, 1, 1), gain=4)
    torch.testing.assert_close(y, expected, atol=2e-5, rtol=1e-4)


def test_half_precision_does_not_overflow():
    x, weight, style = 8 * torch.randn(2, 64, 4, 4), torch.randn(8, 64, 3, 3), 3000 * torch.rand(2, 64)
    exact = modulated_convolution(x, weight, style, form="scaled")
    half = modulated_convolution(x.half(), weight, style, form="scaled")
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), exact, atol=0.1, rtol=0.02)


@pytest.mark.parametrize("form", FORMS[1:])
def test_second_derivatives(form):
    x, weight, style = (torch.randn(*s, dtype=torch.float64) for s in ((2, 2, 3, 3), (2, 2, 3, 3), (2, 2)))
    inputs = [t.requires_grad_() for t in (x, weight, style)]
    kernel = resampling_filter().double()
    call = lambda *a: modulated_convolution(*a, up=2, kernel=kernel, form=form)  # noqa: E731
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs, gen_non_contig_grad_outputs=False)


def test_layer_adds_noise_bias_and_bends():
    layer = SynthesisLayer(5, 4, 8, resolution=6, clamp=0.9)
    layer.noise_strength.data.fill_(0.7)
    layer.bias.data.normal_()
    x, code = torch.randn(2, 5, 6, 6), torch.randn(2, 8)
    y = modulated_convolution(x, layer.weight, layer.style(code))
    for noise, extra in (("const", 0.7 * layer.noise), ("none", 0)):
        bent = F.leaky_relu(y + extra + layer.bias[:, None, None], 0.2) * 2**0.5
        torch.testing.assert_close(layer(x, code, noise), bent.clamp(-0.9, 0.9), atol=1e-5, rtol=1e-4)
    drawn = [layer(x, code, "random", torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_picture_layer_does_not_demodulate():
    layer, x, code = ToRGB(16, 3, 8), torch.randn(2, 16, 4, 4), torch.randn(2, 8)
    style = layer.style(code) / 4
    expected = torch.einsum("oi,bi,bihw->bohw", layer.weight[..., 0, 0], style, x)
    torch.testing.assert_close(layer(x, code), expected, atol=1e-5, rtol=1e-4)


def test_constant_weights_export():
    layer = SynthesisLayer(5, 4, 8, resolution=12, up=2)
    layer.form = "scaled"
    example = (torch.randn(2, 5, 6, 6), torch.randn(2, 8))
    program = torch.export.export(layer.eval(), example)
    torch.testing.assert_close(program.module()(*example), layer(*example))
