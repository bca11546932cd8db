import pytest
import torch

from avatarzoo.networks.haar import double_bands, haar_merge, haar_split, halve_bands
from avatarzoo.networks.ops import blur, resampling_filter, upsample


def test_bands_of_one_block():
    """Each band is the signed sum of a block's pixels over two; channels lie within bands."""
    block = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 4.0]]]])
    assert haar_split(block).flatten().tolist() == [5.5, 2.0, -2.5, -2.0, -1.5, -2.0, 0.5, 2.0]


def test_merge_undoes_split_and_lengths_stay():
    x = torch.randn(2, 3, 8, 16, dtype=torch.float64)
    bands = haar_split(x)
    assert bands.shape == (2, 12, 4, 8)
    torch.testing.assert_close(haar_merge(bands), x)
    torch.testing.assert_close(haar_split(haar_merge(bands)), bands)
    torch.testing.assert_close(bands.square().sum(), x.square().sum())


def test_resampling_is_that_of_the_picture():
    x, kernel = torch.randn(1, 3, 16, 16), resampling_filter()
    torch.testing.assert_close(
        haar_merge(halve_bands(haar_split(x), kernel)), blur(x, kernel, padding=1, stride=2)
    )
    torch.testing.assert_close(haar_merge(double_bands(haar_split(x), kernel)), upsample(x, kernel))


@pytest.mark.parametrize("function", [haar_split, haar_merge])
def test_gradient_is_the_inverse(function):
    """The transform is orthonormal."""
    x = torch.randn(1, 4, 4, 4, requires_grad=True)
    y = function(x)
    (slope,) = torch.autograd.grad(y, x, y.detach())
    torch.testing.assert_close(slope, x.detach())
