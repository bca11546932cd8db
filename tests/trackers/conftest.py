"""Small films of a real face (the astronaut of scikit-image, public domain) and a stand-in for head and solver."""

import numpy as np
import pytest
import torch
from torch import nn

from avatarzoo.data.video import write_video
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.base import HeadParams
from avatarzoo.trackers import pipeline
from avatarzoo.trackers.analytic import TrackFit


@pytest.fixture(scope="session")
def portrait():
    """``film(n)``: n frames, 240 x 256, of a swaying face."""
    import cv2
    from skimage import data

    picture = data.astronaut()

    def film(count, first=0):
        for i in range(first, first + count):
            sway, scale = 8 * np.sin(i / 5), 1.25 + 0.05 * np.sin(i / 7)
            matrix = np.float32(
                [[scale, 0, 120 - scale * 225 + sway], [0, scale, 128 - scale * 125 + sway / 2]]
            )
            yield cv2.warpAffine(picture, matrix, (240, 256), borderMode=cv2.BORDER_REPLICATE)

    return film


@pytest.fixture(scope="session")
def film(portrait, tmp_path_factory):
    """A file of 150 frames: more than one chunk of detection."""
    path = tmp_path_factory.mktemp("film") / "face.mp4"
    write_video(path, portrait(150), 25)
    return path


class StandInHead(nn.Module):
    name, version = "stand-in", "1"
    signature = {"name": "stand-in", "version": "1", "hash": "00112233"}  # noqa: RUF012


def fit_sequence(head, landmarks, size, fov=20.0, fps=25.0, progress=False):
    """A solver that costs nothing and still depends on every landmark."""
    seen = np.nan_to_num(landmarks)
    rows = torch.from_numpy(np.stack([seen.mean((1, 2)), seen.std((1, 2))], 1)).float()
    params = HeadParams(*(rows.repeat(1, 3)[:, :n] for n in (2, 2, 3, 3, 6, 2, 3, 3)))
    valid = np.isfinite(landmarks[:, 0, 0])
    error = np.where(valid, 0.5, np.nan)
    return TrackFit(params, look_at_face(size=size), torch.from_numpy(error), torch.from_numpy(valid))


STAND_INS = {
    "fit_sequence": fit_sequence,
    "ensure_embedding": lambda *_: None,
    "align_to_pictures": lambda head, landmarks, fit, *_: fit,  # the real one has tests of its own
    "load_head": lambda *_: StandInHead(),
}


@pytest.fixture
def quick_solver(monkeypatch):
    """Put the stand-ins for head and solver into the pipeline."""
    for name, stand_in in STAND_INS.items():
        monkeypatch.setattr(pipeline, name, stand_in)
