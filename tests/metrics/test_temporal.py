"""The warped error on motion that is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avatarzoo.metrics.temporal import WarpedError, optical_flow, seen_both_ways, warp, warped_error

SIZE, STEP = 96, 3


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """Five frames of a textured picture that moves 3 pixels to the right each frame."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 16, 24, generator=generator)
    wide = F.interpolate(coarse, (SIZE, SIZE + 48), mode="bicubic")[0].clamp(0, 1)
    return torch.stack([wide[:, :, 30 - STEP * t : 30 - STEP * t + SIZE] for t in range(5)])


def score(prediction: torch.Tensor, reference: torch.Tensor) -> WarpedError:
    metric = WarpedError()
    metric.update(prediction, reference)
    metric.end_clip()
    return metric


def test_flow_finds_the_known_motion(clip: torch.Tensor) -> None:
    flow = optical_flow(clip[0], clip[1])[16:-16, 16:-16]
    assert np.abs(np.median(flow, (0, 1)) - [STEP, 0]).max() < 0.2


def test_warped_error_by_hand() -> None:
    """Moved by one whole pixel, two of six pixels looked at, differences 0.25 and 0.75 in one channel of three."""
    before, after = torch.zeros(2, 3, 2, 3)
    before[0] = torch.tensor([[0.0, 0.5, 1.0], [0.25, 0.75, 0.0]])
    after[0] = torch.tensor(
        [[0.5, 0.75, 0.0], [0.0, 0.0, 0.0]]
    )  # the same row, one pixel to the left, second off by 0.25
    backward = np.zeros((2, 3, 2), np.float32)
    backward[..., 0] = 1
    seen = np.zeros((2, 3), bool)
    seen[0, 1] = seen[1, 0] = True
    assert warp(before, backward)[0, :2, 0].tolist() == [0.5, 1.0]
    assert warped_error(before, after, backward, seen) == pytest.approx((0.25 + 0.75) / 6, abs=1e-7)
    assert np.isnan(warped_error(before, after, backward, seen & False))


def test_occlusion_check_by_hand() -> None:
    """Pixels that come from outside, or whose way there and back differ by more than the limit, are not seen."""
    backward, forward = np.zeros((2, 8, 8, 2), np.float32)
    backward[..., 0], forward[..., 0] = 2, -2
    seen = seen_both_ways(forward, backward)
    assert seen[:, :6].all()
    assert not seen[:, 6:].any()  # their origin lies right of the first frame
    forward[3, 5] = [0, 0]  # the pixel that [3, 3] comes from says it did not move: 4 > 0.01 * 4 + 0.5
    assert not seen_both_ways(forward, backward)[3, 3]


def test_the_reference_is_its_own_measure(clip: torch.Tensor) -> None:
    metric = score(clip, clip)
    assert len(metric.per_image()) == 4
    assert metric.compute() < 0.01
    assert metric.ratio == pytest.approx(1)


def test_flicker_costs_what_it_is(clip: torch.Tensor) -> None:
    """Every other frame darker by 0.1: every pair differs by 0.1."""
    low = clip * 0.5 + 0.25
    flicker = low - 0.1 * (torch.arange(5) % 2)[:, None, None, None]
    assert score(flicker, clip).compute().item() == pytest.approx(0.1, abs=0.01)


def test_a_still_video_of_a_moving_head_loses(clip: torch.Tensor) -> None:
    still = score(clip[:1].expand(5, -1, -1, -1), clip)
    assert still.ratio > 5
    assert (
        score(torch.zeros_like(clip), clip).ratio < 0.01
    )  # flat pictures are unmasked by the ratio alone: far below 1
    assert torch.isnan(score(clip, clip[:1].expand(5, -1, -1, -1) * 0).ratio)


def test_batches_do_not_matter_and_clips_do_not_touch(clip: torch.Tensor) -> None:
    whole, parts = score(clip, clip), WarpedError()
    for part in clip.split(2):
        parts.update(part, part)
    assert torch.equal(whole.per_image(), parts.per_image())
    parts.end_clip()
    parts.update(clip[:1], clip[:1])
    assert len(parts.per_image()) == 4
    parts.reset()
    assert parts.last is None
    assert torch.isnan(parts.reference_value)


def test_broken_pictures_and_empty_masks_are_failures(clip: torch.Tensor) -> None:
    broken = clip.clone()
    broken[2, 0, 0, 0] = torch.nan
    metric = score(broken, clip)
    assert metric.failures == 2
    assert torch.isfinite(metric.compute())
    metric = WarpedError()
    metric.update(clip, clip, torch.zeros(5, 1, SIZE, SIZE))
    assert metric.failures == 4


def test_a_change_of_size_needs_the_end_of_the_clip(clip: torch.Tensor) -> None:
    metric = WarpedError()
    metric.update(clip, clip)
    with pytest.raises(ValueError, match="end_clip"):
        metric.update(clip[..., :48], clip[..., :48])
