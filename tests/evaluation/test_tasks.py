"""Which pictures a task shows and asks for; on footage whose pictures say their own number."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avatarzoo.data.frames import FrameStore
from avatarzoo.errors import NoFaceError, UsageError
from avatarzoo.evaluation.case import Footage, Sound
from avatarzoo.evaluation.protocol import DataSpec, MetricSpec, Part
from avatarzoo.evaluation.tasks import Tasks, cut, spread
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads import load_head

HEAD = load_head("procedural")
LEVEL = 8
"""Grey levels between successive frames of the made-up footage."""


def footage(name: str, identity: str, frames: int, sound: Sound | None = None) -> Footage:
    """Frame t is grey ``8 t + 1`` everywhere, expression coefficient 0 is ``t / 100``."""
    number = torch.arange(frames)
    params = HEAD.zeros(frames)
    params.expression[:, 0] = number / 100
    images = (LEVEL * number + 1).byte()[:, None, None, None].expand(frames, 3, 4, 4).contiguous()
    full = torch.full((frames, 4, 4), 255, dtype=torch.uint8)
    store = FrameStore(images, full, full, params, look_at_face(size=4), number)
    return Footage(name, identity, store, full // 2, HEAD, sound=sound)


class Clips:
    """What tasks need of a FootageSet, from footage in memory; names in ``faceless`` show no face."""

    def __init__(self, *clips: Footage, faceless: tuple[str, ...] = ()) -> None:
        self.clips, self.faceless = clips, faceless
        self.names = [c.name for c in clips]
        self.identities = [c.identity for c in clips]

    def __len__(self) -> int:
        return len(self.clips)

    def open(self, i: int) -> Footage:
        if self.names[i] in self.faceless:
            raise NoFaceError(f"{self.names[i]} shows no face.")
        return self.clips[i]


def tasks(task: str, sets: dict[str, Clips], group: str = "", seed: int = 0, limit: int = 0, **settings: Any):
    lost: list[str] = []
    part = Part(
        "part", task, {r: DataSpec("clips") for r in sets}, (MetricSpec("L1", "l1"),), group, settings
    )  # type: ignore[arg-type]
    made = Tasks(part, sets, seed, limit, lambda name, error: lost.append(name))  # type: ignore[arg-type]
    return made, lost


def shown(case: Any) -> list[int]:
    """Frame numbers of the sources."""
    return ((case.sources["image"][:, 0, 0, 0] * 255 - 1) / LEVEL).round().int().tolist()


def asked(case: Any) -> list[int]:
    """Frame numbers of the driving frames."""
    return [
        int(n) for shot in case.shots for n in ((shot.driver[:, 0, 0, 0] * 255 - 1) / LEVEL).round().tolist()
    ]


def test_first_frame_drives_nothing_but_is_the_source() -> None:
    made, _ = tasks(
        "self_reenactment", {"clips": Clips(footage("a", "a", 9))}, source="first", drive_frames=5
    )
    (case,) = made
    assert shown(case) == [0]
    assert asked(case) == [1, 2, 3, 4, 5]
    assert case.count == 5
    shot = next(iter(case.shots))
    assert torch.equal(shot.target, shot.driver)
    assert shot.source.shape == shot.target.shape


def test_training_holds_out_the_end_of_every_clip_of_a_person() -> None:
    clips = Clips(footage("a1", "anna", 10), footage("b", "bert", 10), footage("a2", "anna", 20))
    made, _ = tasks(
        "self_reenactment", {"clips": clips}, "{subset}", source="train", train_fraction=0.9,
        subset_names={"anna": "Subject 1"},
    )  # fmt: skip
    anna, bert = made
    assert (anna.group, bert.group) == ("Subject 1", "bert")
    assert shown(anna) == [*range(9), *range(18)]
    assert asked(anna) == [9, 18, 19]
    assert len(anna.training) == 27
    assert not set(shown(bert)) & set(asked(bert))


def test_other_clip_trains_on_one_and_asks_for_the_other() -> None:
    sets = {"train": Clips(footage("t", "anna", 6)), "clips": Clips(footage("c", "anna", 4))}
    (case,) = tasks("self_reenactment", sets, source="other_clip")[0]
    assert len(case.training) == 6
    assert case.count == 4


def test_other_clip_without_training_says_so() -> None:
    sets = {"train": Clips(footage("t", "bert", 6)), "clips": Clips(footage("c", "anna", 4))}
    with pytest.raises(UsageError, match="no training clip of anna"):
        list(tasks("self_reenactment", sets, source="other_clip")[0])


def test_a_portrait_is_its_own_target() -> None:
    made, lost = tasks(
        "reconstruction",
        {"images": Clips(footage("a", "a", 1), footage("b", "b", 1), faceless=("a",))},
    )
    (case,) = made
    assert case.name == "b"
    assert shown(case) == asked(case) == [0]
    assert lost == ["a"]


def test_nobody_drives_himself() -> None:
    people = [footage(n, n, 5) for n in "abc"]
    made, _ = tasks(
        "cross_reenactment", {"sources": Clips(*people), "drivers": Clips(*people)}, drive_frames=3
    )
    cases = list(made)
    assert sorted(c.name for c in cases) == sorted(f"{s}--{d}" for s in "abc" for d in "abc" if s != d)
    shot = next(iter(cases[0].shots))
    assert shot.target is None
    assert shot.driver is not None
    assert asked(cases[0]) == [0, 1, 2]


def test_a_sample_of_pairs_is_decided_by_the_seed() -> None:
    people = {"sources": Clips(*[footage(n, n, 2) for n in "abcdef"])}
    people["drivers"] = people["sources"]
    names = [
        [c.name for c in tasks("cross_reenactment", people, pairing="sample", pairs=5, seed=s)[0]]
        for s in (0, 0, 1)
    ]
    assert names[0] == names[1] != names[2]
    assert len(set(names[0])) == 5


def test_mean_expression_transfer_adds_the_drivers_deviation() -> None:
    source, driver = footage("s", "s", 1), footage("d", "d", 5)
    source.frames.params.expression[:, 0] = 0.5
    made, _ = tasks(
        "cross_reenactment", {"sources": Clips(source), "drivers": Clips(driver)}, transfer="mean_expression"
    )
    (case,) = made
    moved = torch.cat([shot.params.expression[:, 0] for shot in case.shots])
    assert torch.allclose(moved, 0.5 + (torch.arange(5) - 2) / 100)


def test_one_person_cannot_be_crossed() -> None:
    clips = Clips(footage("a", "a", 3))
    with pytest.raises(UsageError, match="two people"):
        list(tasks("cross_reenactment", {"sources": clips, "drivers": clips})[0])


@pytest.mark.parametrize("order", ["even", "shuffled"])
def test_few_shot_shows_some_and_asks_for_the_end(order: str) -> None:
    made, _ = tasks(
        "few_shot", {"clips": Clips(footage("a", "a", 30))}, "{subset}",
        counts=[1, 4], source_range=[0, 20], test_range=[20, 24], order=order,
    )  # fmt: skip
    one, four = made
    assert (one.group, four.group) == ("1 frames", "4 frames")
    assert len(shown(four)) == 4
    assert max(shown(four)) < 20
    assert (shown(four) == [0, 5, 10, 15]) == (order == "even")
    assert asked(four) == [20, 21, 22, 23]


def test_few_shot_needs_long_clips() -> None:
    with pytest.raises(UsageError, match="300 are needed"):
        list(tasks("few_shot", {"clips": Clips(footage("a", "a", 30))})[0])


def test_novel_views_leave_out_the_source_view() -> None:
    (case,) = tasks("novel_view", {"views": Clips(footage("a", "a", 4))}, source_view=1)[0]
    assert shown(case) == [1]
    assert asked(case) == [0, 2, 3]


def test_sound_drives_under_a_turning_camera() -> None:
    sound = Sound(torch.zeros(100).numpy(), 16000)
    sets = {"sources": Clips(footage("s", "s", 1)), "audio": Clips(footage("d", "d", 5, sound))}
    (case,) = tasks("audio_driven", sets, yaw_degrees=60)[0]
    cameras = torch.cat([shot.camera.world_to_camera for shot in case.shots])
    forward = cameras[:, 2, :3]
    yaw = torch.rad2deg(torch.atan2(-forward[:, 0], -forward[:, 2]))
    assert torch.allclose(yaw.abs(), torch.tensor([60.0, 30, 0, 30, 60]), atol=1e-3)
    assert (yaw[0] * yaw[-1]) < 0
    assert case.sound is sound


def test_a_silent_clip_is_refused() -> None:
    sets = {"sources": Clips(footage("s", "s", 1)), "audio": Clips(footage("d", "d", 5))}
    with pytest.raises(UsageError, match="no sound"):
        list(tasks("audio_driven", sets)[0])


def test_made_up_people_come_without_sources() -> None:
    sets = {"conditions": Clips(*[footage(str(i), str(i), 1) for i in range(6)])}
    cases = list(tasks("generation", sets, people=3, conditions=4)[0])
    assert [c.count for c in cases] == [4, 4, 4]
    assert len({c.seed for c in cases}) == 3
    assert all(c.sources is None for c in cases)


def test_limit_stops_early() -> None:
    clips = Clips(*[footage(n, n, 3) for n in "abc"])
    assert len(list(tasks("self_reenactment", {"clips": clips}, limit=2)[0])) == 2


def test_shots_can_be_gone_through_again() -> None:
    (case,) = tasks("self_reenactment", {"clips": Clips(footage("a", "a", 9))})[0]
    assert asked(case) == asked(case)


def test_spread_and_cut() -> None:
    assert spread(200, 4).tolist() == [0, 50, 100, 150]
    assert spread(3, 8).tolist() == [0, 1, 2]
    assert len(cut(footage("a", "a", 9), torch.tensor([2, 4]))) == 2
