"""A folder like a reader's: the source checkout's files, a video, a photo, a voice, and trained avatars, all small and made up."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avatarzoo.apps import view
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.models import METHODS

sys.path.insert(0, str(Path(__file__).parent))
ROOT = Path(__file__).resolve().parents[2]
RUNS = {
    "quickstart": "GaussianDejaVu",
    "personalize": "GaussianDejaVu",
    "styleavatar": "StyleAvatar",
    "invertavatar": "InvertAvatar",
    "nofaplusplus": "NOFAPlusPlus",
}


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    for name in ("configs", "benchmarks", "examples", "docs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "runs").mkdir()
    ProceduralActor(seed=0, size=192).write_video(folder / "me.mp4", 12)
    ProceduralActor(seed=5, size=192).write_video(folder / "driver.mp4", 10)
    picture = next(ProceduralActor(seed=3, size=384).frames(1))
    cv2.imwrite(str(folder / "photo.jpg"), picture[..., ::-1])
    (folder / "clips").mkdir()
    shutil.copy(folder / "me.mp4", folder / "clips")
    (folder / "statement.txt").write_text("I am the person in the video.\n")
    turn = np.linspace(0, 0.3, 4)[:, None] * np.float32([0, 1, 0])
    np.savez(folder / "moves.npz", rotation=turn, fps=np.float32(25))
    torch.save({"generator": {"weight": torch.ones(2, 2)}}, folder / "somebodys.pth")
    return folder


@pytest.fixture(scope="session")
def avatar_here(desk, smoke_run):
    """Puts the runs that a text names onto the desk."""
    methods = {m.__name__: m for m in METHODS}

    def put(text: str) -> None:
        for run, method in RUNS.items():
            if f"runs/{run}/" in text or ("personalize.yaml" in text and run == "personalize"):
                target = desk / "runs" / run
                if not target.exists():
                    shutil.copytree(smoke_run(methods[method]), target)

    return put


@pytest.fixture
def at_the_desk(desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory; the viewer opens and closes at once."""
    monkeypatch.chdir(desk)
    monkeypatch.setenv("AVATARZOO_CACHE", str(desk / "cache"))
    monkeypatch.setattr(view, "wait", lambda: None)
    gradients = torch.is_grad_enabled()
    yield desk
    torch.set_grad_enabled(gradients)
