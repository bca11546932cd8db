"""``avatarzoo view avatar.ckpt --image photo.jpg``: people made from pictures, from the command line to what the browser gets."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatarzoo import cli
from avatarzoo.apps import view
from avatarzoo.models import InvertAvatar, NOFAPlusPlus

pytest.importorskip("viser")
SIZE = 64
QUIET = 2.0
"""Seconds without a picture after which none is on its way: one of a volume takes long."""


def page_client(port: int):
    spec = importlib.util.spec_from_file_location("view_client", Path(__file__).with_name("view_client.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PageClient(port)


@pytest.fixture
def photo(tmp_path):
    """A real face that comes with scikit-image (public domain)."""
    from skimage import data

    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), data.astronaut()[:300, 70:370, ::-1])
    return path


@pytest.mark.slow
def test_a_photo_is_shown_and_moves(smoke_run, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    opened, seen, open_page = [], [], view.serve
    monkeypatch.setattr(view, "serve", lambda *args: opened.append(open_page(*args)) or opened[0])

    def use() -> None:
        """What a person does until Ctrl-C."""
        page = page_client(opened[0].port)
        seen.append(page.settled(QUIET))
        for label, value in (("Source beside it", False), ("Turn head", 30.0)):
            count = len(page.pictures)
            page.set(label, value)
            page.picture(count)
            seen.append(page.settled(QUIET))
        page.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(view, "wait", use)
    checkpoint = smoke_run(NOFAPlusPlus) / "avatar.ckpt"
    options = ["--image", str(photo), "--size", str(SIZE), "--port", "0", "--device", "cpu"]
    assert cli.main(["view", str(checkpoint), *options]) == 0
    beside, rest, turned = seen
    assert np.ptp(rest) > 60
    assert np.abs(turned - rest).max() > 30
    assert rest.shape == (SIZE, SIZE, 3)
    assert beside.shape[0] * beside.shape[1] > SIZE * SIZE
    assert list((tmp_path / "portraits").iterdir())  # tracked once, found again the next time


def test_a_photo_without_a_face_is_one_sentence(smoke_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 200, 3), 128, np.uint8))
    checkpoint = smoke_run(InvertAvatar) / "avatar.ckpt"
    args = ["view", str(checkpoint), "--image", str(tmp_path / "wall.png"), "--port", "0", "--device", "cpu"]
    assert cli.main(args) == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_without_a_photo_it_says_what_is_missing(smoke_run, capsys):
    checkpoint = smoke_run(InvertAvatar) / "avatar.ckpt"
    assert cli.main(["view", str(checkpoint), "--port", "0", "--device", "cpu"]) == 2
    assert "add --image photo.jpg" in capsys.readouterr().err
