"""Rows side by side and error heat maps, of pictures whose grey level says what they are."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from matplotlib import colormaps

from avatarzoo.data.frames import FrameStore
from avatarzoo.errors import BadSequenceError, UsageError
from avatarzoo.evaluation.case import Case, Footage, Shots, Sound
from avatarzoo.evaluation.comparison import (
    caption,
    compare,
    compositions,
    error_heatmap,
    heatmap_sheet,
    label_height,
    round_up,
    side_by_side_video,
    worst_frames,
)
from avatarzoo.evaluation.pictures import write_pictures
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads import load_head

SIDE = 64
HEAD = load_head("procedural")


def make_case(frames: int = 5, truth: bool = True, sound: Sound | None = None) -> Case:
    """Frame t is grey ``20 t + 100``, the source 50."""
    level = (20 * torch.arange(frames) + 100).byte()
    images = level[:, None, None, None].expand(frames, 3, SIDE, SIDE).contiguous()
    full = torch.full((frames, SIDE, SIDE), 255, dtype=torch.uint8)
    store = FrameStore(images, full, full, HEAD.zeros(frames), look_at_face(size=SIDE), torch.arange(frames))
    driver = Footage("a", "a", store, full, HEAD, fps=12.5)
    shots = Shots(driver, torch.arange(frames), truth, torch.full((1, 3, SIDE, SIDE), 50 / 255))
    return Case("a", "", None, shots, frames, HEAD, fps=12.5, sound=sound)


def predict(folder: Path, levels: list[float]) -> Path:
    """Even pictures of these grey levels."""
    pictures = torch.tensor(levels)[:, None, None, None].expand(-1, 3, SIDE, SIDE) / 255
    write_pictures(folder, [pictures], dict)
    return folder


def cells(picture: np.ndarray) -> list[int]:
    """Grey level in the middle of each cell of the first line."""
    middle = label_height(SIDE) + SIDE // 2
    return [int(picture[middle, x, 0]) for x in range(SIDE // 2, picture.shape[1], SIDE)]


def test_source_truth_and_rows_stand_in_order_under_their_names(tmp_path: Path) -> None:
    rows = {"Ours": predict(tmp_path / "a", [1, 2, 3, 4, 5]), "Other": predict(tmp_path / "b", [200] * 5)}
    pictures = list(compositions(make_case(), rows))
    assert [cells(p) for p in pictures[:2]] == [[50, 100, 1, 200], [50, 120, 2, 200]]
    assert len(pictures) == 5
    height = label_height(SIDE)
    for i, name in enumerate(["Source", "Truth", "Ours", "Other"]):
        assert (pictures[0][:height, i * SIDE : (i + 1) * SIDE] == caption(name, SIDE, height)).all()


def test_without_truth_the_driver_is_named_so(tmp_path: Path) -> None:
    picture = next(compositions(make_case(truth=False), {"Ours": predict(tmp_path / "a", [7] * 5)}))
    height = label_height(SIDE)
    assert cells(picture) == [50, 100, 7]
    assert (picture[:height, SIDE : 2 * SIDE] == caption("Driver", SIDE, height)).all()


def test_more_than_eight_pictures_go_below(tmp_path: Path) -> None:
    rows = {f"Row {i}": predict(tmp_path / str(i), [10.0 * i] * 5) for i in range(8)}
    picture = next(compositions(make_case(), rows))
    line = label_height(SIDE) + SIDE
    assert picture.shape == (2 * line, 8 * SIDE, 3)
    assert cells(picture[line:]) == [60, 70, 0, 0, 0, 0, 0, 0]


def test_the_video_has_the_speed_and_sound_of_the_case(tmp_path: Path) -> None:
    sound = Sound(np.sin(np.arange(6400)).astype(np.float32) / 2, 16000)
    path = side_by_side_video(
        make_case(sound=sound), {"Ours": predict(tmp_path / "a", [7] * 5)}, tmp_path / "v.mp4"
    )
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert float(stream.average_rate) == 12.5
        shown = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        assert len(file.streams.audio) == 1
    assert len(shown) == 5
    assert np.allclose(cells(shown[4]), [50, 180, 7], atol=6)


def test_a_case_of_one_picture_becomes_a_picture(tmp_path: Path) -> None:
    made = compare(make_case(1), {"Ours": predict(tmp_path / "a", [7])}, tmp_path / "out" / "case.v1")
    assert [path.name for path in made] == ["case.v1.png", "case.v1_errors.png"]
    assert cells(cv2.imread(str(made[0]))) == [50, 100, 7]
    assert {p.name for p in made[0].parent.iterdir()} == {"case.v1.png", "case.v1_errors.png"}


def test_worst_frames_have_the_largest_error_and_broken_pictures_come_first(tmp_path: Path) -> None:
    rows = {
        "Ours": predict(tmp_path / "a", [101, 150, 140, 155, 190]),
        "Broken": predict(tmp_path / "b", [100, 120, float("nan"), 160, 183]),
    }
    found = worst_frames(make_case(), rows, 2)
    assert [(f.number, round(f.l1 * 255, 3)) for f in found["Ours"]] == [(1, 30), (4, 10)]
    assert [f.number for f in found["Broken"]] == [2, 4]
    assert found["Broken"][0].l1 == float("inf")
    sheet = cv2.imread(str(heatmap_sheet(make_case(), rows, tmp_path / "s.png", 2)))
    line = label_height(SIDE) + SIDE
    assert sheet.shape == (2 * line, 2 * 3 * SIDE + 56, 3)
    assert cells(sheet)[:2] == [120, 150]
    assert cells(sheet[line:])[:3] == [140, 128, 128]  # a prediction that is not finite has no colour


def test_heat_map_colours_are_the_mean_absolute_error_on_the_printed_scale() -> None:
    target = torch.zeros(3, 60, 40)
    prediction = target.clone()
    prediction[0, :30] = 0.3  # mean over channels 0.1
    prediction[:, 30:35] = -0.9
    prediction[:, 35:40] = float("nan")
    picture = error_heatmap(prediction, target, top=0.2)
    colours = colormaps["inferno"]
    assert picture.shape == (60, 40 + 56, 3)
    assert picture[5, 5].tolist() == list(colours(0.5, bytes=True)[:3])
    assert picture[32, 5].tolist() == list(colours(1.0, bytes=True)[:3])
    assert picture[37, 5].tolist() == [128] * 3
    assert picture[50, 5].tolist() == list(colours(0.0, bytes=True)[:3])
    bar = picture[:, 40 + 10].sum(1)
    assert bar[10] > bar[30] > bar[50]
    assert (picture[:15, 60:] == caption("≥0.2", 36, 15)).all()


def test_the_scale_is_a_round_number_that_few_pixels_exceed() -> None:
    assert [round_up(x) for x in (0.0, 0.011, 0.02, 0.3, 0.7, 1.0, 3.0)] == [
        0.01,
        0.02,
        0.02,
        0.5,
        1.0,
        1.0,
        1.0,
    ]
    target = torch.zeros(3, 100, 100)
    prediction = target + 0.15
    prediction[:, 0] = 1.0  # one pixel in a hundred
    assert (error_heatmap(prediction, target) == error_heatmap(prediction, target, 0.2)).all()


def test_no_truth_no_heat_map(tmp_path: Path) -> None:
    case, rows = make_case(truth=False), {"Ours": predict(tmp_path / "a", [7] * 5)}
    with pytest.raises(UsageError, match="no true pictures"):
        heatmap_sheet(case, rows, tmp_path / "s.png")
    assert [p.name for p in compare(case, rows, tmp_path / "c")] == ["c.mp4"]


def test_a_missing_picture_is_told(tmp_path: Path) -> None:
    rows = {"Ours": predict(tmp_path / "a", [7] * 4)}
    with pytest.raises(BadSequenceError, match=r"000004\.png is missing"):
        compare(make_case(), rows, tmp_path / "c")
    assert not (tmp_path / "c.mp4").exists()


def test_long_names_are_wrapped_into_their_cell() -> None:
    long = caption("Déjà-vu, global rectification only", 128, 24)
    lit = np.flatnonzero(long.max((1, 2)) > 60)
    assert long.shape == (24, 128, 3)
    assert long[:, :1].max() == 0
    assert long[:, -1:].max() == 0
    assert lit.max() - lit.min() > 14  # two lines
