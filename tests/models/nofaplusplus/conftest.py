"""A whole NOFA++ that trains in milliseconds: a prior of 32-pixel pictures, an encoder of a few channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.prior_samples import PriorSamplesDataModule
from avatarzoo.data.procedural_people import HEAD_CENTRE, portrait_cameras
from avatarzoo.models.nofaplusplus import NOFAPlusPlus
from avatarzoo.networks.superresolution import LAYOUTS, Layout
from avatarzoo.priors import EG3DConfig, TriPlaneGenerator, save_generator

SIDE = 32
LAYOUT = Layout(SIDE, 16, (8, 8), (1, 2), True, True)
CONFIG = EG3DConfig(
    latent_dim=8,
    code_dim=16,
    plane_resolution=16,
    plane_channels=4,
    channel_base=128,
    channel_max=16,
    superresolution="2X",
    half=False,
    neural_resolution=16,
    coarse_samples=4,
    fine_samples=4,
    white_background=True,
)
OPTIONS: dict[str, Any] = {
    "encoder": {
        "side": 64, "width": 8, "depths": [1, 1, 1, 1], "heads": [1, 2, 4, 8], "window": 4, "head_attention": 2,
    },
    "detail": {"width": 4, "width_max": 8, "units": 1},
    "field": {"width": 16, "depth": 3, "weight_width": 8, "weight_depth": 2},
    "site": "b8.conv0",
    "perceptual": "multiscale",
    "identity": "none",
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A generator file whose people differ: density and colours are made to depend on the planes."""
    LAYOUTS["2X"], kept = LAYOUT, LAYOUTS["2X"]
    torch.manual_seed(5)
    prior = TriPlaneGenerator(CONFIG)
    with torch.no_grad():
        prior.decoder.state_dict()[list(prior.decoder.state_dict())[-2]].mul_(4)
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_generator(prior, path)
    LAYOUTS["2X"] = kept
    return str(path)


@pytest.fixture
def make(tiny_prior: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., NOFAPlusPlus]:
    """``make(stage="2", ...)``: an untrained module."""
    monkeypatch.setitem(LAYOUTS, "2X", LAYOUT)
    return lambda **options: NOFAPlusPlus(**{"prior": tiny_prior, **OPTIONS, **options})


def warm(module: NOFAPlusPlus, field: float = 0.05) -> NOFAPlusPlus:
    """Away from zero initialisation, where parts hide each other's gradients."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part, size in (("detail", 0.05), ("field", field), ("encoder", 0.05)):
            for parameter in getattr(module.generator, part).parameters():
                parameter.add_(size * torch.randn(parameter.shape, generator=draws))
    return module


def clip_pairs(head: Any, step: int, count: int = 2) -> dict[str, AvatarBatch]:
    """Random pictures of people who move their faces, seen from the front and from the side."""
    draws = torch.Generator().manual_seed(step)
    identity = torch.randn(count, head.n_identity, generator=draws)
    batch = {}
    for name in ("source", "target"):
        expression = torch.rand(count, head.n_expression, generator=draws)
        centre = -torch.tensor([HEAD_CENTRE]).expand(count, 3)
        params = head.zeros(count)._replace(identity=identity, expression=expression, translation=centre)
        camera = portrait_cameras(torch.rand(count, generator=draws) - 0.5, torch.zeros(count), SIDE)
        image = torch.rand(count, 3, 1, 1, generator=draws).expand(-1, -1, SIDE, SIDE).clone()
        batch[name] = AvatarBatch(
            image=image, mask=torch.ones_like(image[:, :1]), params=params, camera=camera
        )
    return batch


class Pairs(torch.utils.data.IterableDataset):
    """Batches of what each step asks for: ``kinds`` is indexed by the step."""

    def __init__(
        self, head: Any, samples: PriorSamplesDataModule, kinds: str, first: Callable[[], int]
    ) -> None:
        self.head, self.samples, self.kinds, self.first = head, samples, kinds, first

    def __iter__(self):
        for step in range(self.first(), len(self.kinds)):
            yield self.samples.batch(step) if self.kinds[step] == "s" else clip_pairs(self.head, step)


class Everything(L.LightningDataModule):
    """Made-up people (``s``) and pairs of frames (``v``) in the order of ``kinds``, one batch a letter."""

    background = 1.0

    def __init__(self, head: Any, kinds: str) -> None:
        super().__init__()
        self.kinds, self.head = kinds, head
        self.head_signature = head.signature
        self.samples = PriorSamplesDataModule(latent_dim=8, batch_size=2, held_out=2, yaw=0.2, pitch=0.1)

    def training_params(self):
        return clip_pairs(self.head, 99, 8)["source"]["params"]

    def train_dataloader(self):
        assert self.trainer is not None
        pairs = Pairs(self.head, self.samples, self.kinds, lambda: self.trainer.global_step)
        return torch.utils.data.DataLoader(pairs, batch_size=None)

    def val_dataloader(self):
        parts = [self.samples.sample("held_out", 0, range(2)), clip_pairs(self.head, 1234)]
        return torch.utils.data.DataLoader(parts, batch_size=None)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., L.Trainer]:
    """``fit(module, "vvs", callback, ...)``: train one step a letter."""

    def run(module: NOFAPlusPlus, kinds: str, *callbacks: L.Callback, **options: Any) -> L.Trainer:
        trainer = L.Trainer(
            max_steps=len(kinds),
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=str(tmp_path),
            callbacks=list(callbacks),
            limit_val_batches=options.pop("limit_val_batches", 0),
        )
        trainer.fit(module, datamodule=Everything(module.head, kinds), **options)
        return trainer

    return run
