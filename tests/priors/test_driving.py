"""Masks of driving maps; the hole is compared with a search pixel by pixel."""

from collections import deque

import torch

from avatarzoo.priors.driving import enclosed, look_up, read_driving


def flood(mask: torch.Tensor) -> torch.Tensor:
    """Enclosed pixels of one mask by breadth-first search from the corner."""
    height, width = mask.shape
    open_ = ~mask
    seen, waiting = torch.zeros_like(mask), deque([(0, 0)] if open_[0, 0] else [])
    while waiting:
        i, j = waiting.popleft()
        if not (0 <= i < height and 0 <= j < width) or seen[i, j] or not open_[i, j]:
            continue
        seen[i, j] = True
        waiting += [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
    return open_ & ~seen


def spiral(size: int) -> torch.Tensor:
    """A wall whose only passage winds to the middle."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    for ring in range(1, size // 2, 2):
        mask[ring : size - ring, [ring, size - ring - 1]] = True
        mask[[ring, size - ring - 1], ring : size - ring] = True
        gap = (ring, ring + 2) if ring // 2 % 2 else (size - ring - 1, size - ring - 3)
        mask[gap] = False
    return mask


def test_holes_are_those_of_a_flood_fill():
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(60, 12, 17, generator=generator)
    masks = [random > level for level in (0.4, 0.5, 0.6)]
    for mask in (*torch.cat(masks), spiral(24)):
        assert torch.equal(enclosed(mask[None])[0], flood(mask))
    assert any(flood(mask).any() for mask in masks[1])


def test_nothing_is_reached_from_a_covered_corner():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, 0] = True
    assert torch.equal(enclosed(mask), ~mask)


def test_upper_mouth_is_trusted_and_the_lower_is_not():
    maps = torch.zeros(2, 256, 256, 3)
    maps[:, 40:220, 40:220, 2] = 0.7
    maps[0, 80:100, 100:150] = 0.2
    driving = read_driving(maps)
    hole = torch.zeros(256, 256)
    hole[80:100, 100:150] = 1
    assert torch.equal(driving.hole[0, 0], hole)
    assert not driving.hole[1].any()
    assert torch.equal(driving.filled[0], driving.alpha[1])
    upper = torch.cat([torch.zeros(87, 256), hole[87:]])
    assert torch.equal(driving.trusted[0, 0], driving.alpha[0, 0] + upper)


def test_texture_is_seen_where_the_map_looks():
    texture = torch.rand(1, 3, 8, 8)
    line = (2 * torch.arange(8) + 1) / 8 - 1
    places = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    maps = torch.cat([places.flip(1), torch.ones(8, 8, 1)], -1)[None]
    torch.testing.assert_close(look_up(texture, read_driving(maps), 8), texture.flip(3))
