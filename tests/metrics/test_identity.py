"""CSIM by hand and on real people; a lost face is a failure, never a score."""

from __future__ import annotations

import copy
import itertools
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from avatarzoo.data.video import read_frames
from avatarzoo.metrics.identity import CSIM, cosine_similarity, pairwise_csim
from avatarzoo.perception.faces import FaceReader

NEEDS = [
    pytest.mark.media,
    pytest.mark.assets,
    pytest.mark.skipif(
        not {"AVATARZOO_MEDIA", "AVATARZOO_ASSETS"} <= set(os.environ),
        reason="AVATARZOO_MEDIA or _ASSETS is not set",
    ),
]


class Colours:
    """Stands in for a network: the mean colour of the aligned face."""

    name, size = "mean colour", 112

    def __call__(self, aligned: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(aligned.mean((2, 3)))


@pytest.fixture(scope="module")
def reader():
    with FaceReader() as reader:
        yield reader


def tensor(*frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def face() -> torch.Tensor:
    return tensor(np.ascontiguousarray(data.astronaut()[:256, 96:352]))


def test_cosine_by_hand() -> None:
    a = torch.tensor([[1.0, 0, 0], [1, 1, 0], [2, 0, 0], [0, 0, 0], [torch.nan, 1, 0]])
    b = torch.tensor([[1.0, 0, 0], [1, 0, 0], [-3, 0, 0], [1, 0, 0], [1, 1, 0]])
    values = cosine_similarity(a, b)
    assert values[:3].tolist() == pytest.approx([1, 2**-0.5, -1])
    assert torch.isnan(values[3:]).all()


def test_pairwise_is_the_mean_over_pairs() -> None:
    rows = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    pairs = [
        cosine_similarity(rows[i : i + 1], rows[j : j + 1]) for i, j in itertools.combinations(range(5), 2)
    ]
    assert pairwise_csim(rows).item() == pytest.approx(torch.cat(pairs).mean().item(), abs=1e-6)
    for bad in (rows[:1], rows / 0):
        with pytest.raises(ValueError, match="with a face"):
            pairwise_csim(bad)


def test_lost_faces_are_failures(reader: FaceReader, face: torch.Tensor) -> None:
    metric = CSIM(Colours(), reader)
    black = torch.zeros_like(face)
    broken = face.clone()
    broken[0, 0, 3, 3] = torch.nan
    for prediction, reference in ((black, face), (face, black), (black, black), (broken, face)):
        metric.update(prediction, reference)
    assert metric.failures == 4
    assert torch.isnan(metric.compute())
    metric.update(face, face)
    assert metric.compute().item() == pytest.approx(1, abs=1e-5)
    assert metric.failures == 4
    assert metric.label == "CSIM (mean colour)"


def test_copies_share_the_reader(reader: FaceReader) -> None:
    metric = CSIM(Colours(), reader)
    assert copy.deepcopy(metric).reader is reader
    assert CSIM(Colours()).reader is CSIM(Colours()).reader


class TestRealPeople:
    pytestmark = NEEDS

    @pytest.fixture(scope="class")
    def people(self) -> dict[str, list[torch.Tensor]]:
        media = Path(os.environ["AVATARZOO_MEDIA"])

        def clip(name: str) -> torch.Tensor:
            return tensor(*itertools.islice(read_frames(media / "video" / name), 0, 120, 40))

        def image(name: str) -> torch.Tensor:
            return tensor(cv2.imread(str(media / "image" / name))[..., ::-1].copy())

        return {
            "obama": [
                clip("obama_oval_450p25_20s.mp4"),
                clip("obama_weekly_256p30_30s.mp4"),
                image("obama_portrait_910x1137.jpg"),
            ],
            "aoc": [clip("hdtf_aoc_512p25_8s.mp4")],
            "biden": [image("biden_standing_970x2204.jpg")],
            "astronaut": [image("astronaut_512.png")],
        }

    def test_people_are_told_apart(self, people, reader: FaceReader) -> None:
        metric = CSIM("mobilefacenet", reader)
        rows = {name: [metric.embed(x) for x in sources] for name, sources in people.items()}
        for a, b in itertools.combinations(rows["obama"], 2):
            assert (a @ b.T).min() > 0.6
        everyone = {name: torch.cat(found) for name, found in rows.items()}
        for a, b in itertools.combinations(everyone, 2):
            assert (everyone[a] @ everyone[b].T).max() < 0.3

    def test_identity_survives_scale_and_not_absence(self, people, reader: FaceReader) -> None:
        frames = people["obama"][0][:1]
        small = torch.nn.functional.interpolate(frames, 225, mode="area")
        large = torch.nn.functional.interpolate(small, 450, mode="bilinear")
        metric = CSIM("mobilefacenet", reader)
        metric.update(large, frames)
        assert metric.compute() > 0.9
        metric.update(torch.full_like(frames, 0.5), frames)
        assert metric.failures == 1
        assert metric.label == "CSIM (MobileFaceNet)"
