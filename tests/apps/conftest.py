"""A tiny avatar in a checkpoint, and a real clip."""

from __future__ import annotations

import os
from pathlib import Path

import lightning as L
import pytest
import torch

from avatarzoo.models import GaussianDejaVu


@pytest.fixture(scope="session")
def live_avatar(tmp_path_factory):
    """An untrained avatar: a head-shaped cloud of Gaussians."""
    torch.manual_seed(0)
    module = GaussianDejaVu(uv_size=32, n_blendmaps=2, background=0.0)
    with torch.no_grad():
        module.identity.normal_(std=0.3)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.strategy.connect(module)
    path = tmp_path_factory.mktemp("avatar") / "avatar.ckpt"
    trainer.save_checkpoint(path, weights_only=True)
    return path, module.eval()


@pytest.fixture(scope="session")
def talking():
    folder = os.environ.get("AVATARZOO_MEDIA")
    if not folder:
        pytest.skip("AVATARZOO_MEDIA is not set")
    return Path(folder) / "video" / "obama_oval_450p25_20s.mp4"
