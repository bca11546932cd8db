"""Batches of several frames of each person; clips are numbers, so that rows can be told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatarzoo.data.clip_pairs import Frames
from avatarzoo.data.person_frames import HeldOutPeople, PersonFramesDrawer, checked
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.procedural import ProceduralHead


class Numbers:
    """Clips of 5 and more frames; picture (c, n) is filled with 10 c + n."""

    head_signature, described = {}, {}

    def __init__(self, clips: int = 3) -> None:
        self.clips, self.head = clips, ProceduralHead()

    def __len__(self) -> int:
        return self.clips

    def numbers(self, clip: int) -> np.ndarray:
        return np.arange(5 + clip)

    def frames(self, clip: int, rows: torch.Tensor) -> Frames:
        values = (10 * clip + rows).byte()[:, None, None]
        images = values[:, None].expand(-1, 3, 4, 4)
        camera = look_at_face(size=4).rows(torch.zeros(len(rows), dtype=torch.long))
        return Frames(images, values.expand(-1, 4, 4), self.head.zeros(len(rows)), camera)


def shown(part: dict) -> torch.Tensor:
    return part["image"][:, 0, 0, 0]


def test_rows_are_grouped_by_person_and_begin_with_the_first_source():
    batch = PersonFramesDrawer(Numbers(), 2, 4, 4, 3, seed=0)(0)
    source, target = shown(batch["source"]).view(2, 4), shown(batch["target"]).view(2, 3)
    assert batch["people"] == 2
    for group in (source, target):
        assert all(len((row // 10).unique()) == 1 for row in group)
    assert torch.equal(source[:, 0], target[:, 0])
    assert all(len(row.unique()) == 4 for row in source)
    assert torch.equal(batch["source"]["video"].view(2, 4)[:, 0], source[:, 0].long() // 10)
    assert torch.equal(batch["source"]["index"], shown(batch["source"]).long() % 10)


def test_batches_are_functions_of_their_number():
    one, other = (PersonFramesDrawer(Numbers(), 2, 4, 1, 2, seed=3) for _ in range(2))
    list(map(one, range(3)))
    for step in (5, 2):
        a, b = one(step), other(step)
        assert torch.equal(shown(a["source"]), shown(b["source"]))
    counts = {len(shown(one(step)["source"])) // 2 for step in range(30)}
    assert counts == {1, 2, 3, 4}


def test_processes_share_a_batch():
    alone = PersonFramesDrawer(Numbers(4), 4, 2, 2, 1, seed=1)(7)
    halves = [PersonFramesDrawer(Numbers(4), 2, 2, 2, 1, 1, rank, 2)(7) for rank in (0, 1)]
    whole = shown(alone["source"]).view(4, 2)
    for rank, half in enumerate(halves):
        assert torch.equal(shown(half["source"]).view(2, 2), whole[rank::2])


def test_short_clips_repeat_frames():
    batch = PersonFramesDrawer(Numbers(1), 1, 9, 9, 1, seed=0)(0)
    assert len(shown(batch["source"])) == 9


def test_held_out_people_show_late_frames():
    first = next(iter(HeldOutPeople(Numbers(), 2, 2)))
    assert shown(first["source"]).tolist() == [0, 2]
    assert shown(first["target"]).tolist() == [3, 4]


@pytest.mark.parametrize("numbers", [(0, 0, 1), (2, 3, 1), (2, 1, 0)])
def test_numbers_must_make_sense(numbers):
    with pytest.raises(UsageError, match="fewest"):
        checked(*numbers)
