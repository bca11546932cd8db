"""A checkpoint keeps what its person showed: rest, range, camera, source."""

import lightning as L
import torch

from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads import load_head
from avatarzoo.models import GaussianDejaVu, load_avatar
from avatarzoo.models.seen import Seen


class Frames:
    def __init__(self, camera):
        self.camera = camera


class Data(L.LightningDataModule):
    """A clip whose jaw opens evenly from 0 to 1."""

    def __init__(self, sources="ab12"):
        super().__init__()
        self.frames, self.sources = Frames(look_at_face(size=64)), sources

    def training_params(self):
        params = load_head("procedural").zeros(101)
        params.expression[:, 0] = torch.linspace(0, 1, 101)
        params.translation[:, 2] = 0.02
        return params

    def describe(self):
        return {"source_sha256": self.sources}


def test_range_and_rest():
    seen = Seen.of_data(Data())
    assert seen.sources == ("ab12",)
    torch.testing.assert_close(seen.rest.expression[0, 0], torch.tensor(0.5))
    torch.testing.assert_close(seen.low.expression[0, 0], torch.tensor(0.01))
    torch.testing.assert_close(seen.high.expression[0, 0], torch.tensor(0.99))
    assert Seen.of_data(Data(["a", None, "b"])).sources == ("a", "b")
    assert Seen.of_data(L.LightningDataModule()) is None


def test_it_travels_in_the_checkpoint(tmp_path):
    module = GaussianDejaVu(uv_size=32, n_blendmaps=2)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.strategy.connect(module)
    module.trainer = trainer
    trainer.datamodule = Data()
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    seen = load_avatar(tmp_path / "a.ckpt").seen
    torch.testing.assert_close(tuple(seen.high), tuple(Seen.of_data(Data()).high))
    assert seen.camera.size == (64, 64)
    assert seen.sources == ("ab12",)
