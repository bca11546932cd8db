"""``avatarzoo export``: a checkpoint to PLY and avatar file; mistakes are one sentence."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
from plyfile import PlyData

from avatarzoo import cli
from avatarzoo.models import AvatarState, GaussianDejaVu


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    module = GaussianDejaVu(uv_size=32, n_blendmaps=2)
    with torch.no_grad():
        module.identity.normal_()
        module.global_delta.normal_(std=0.3)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.strategy.connect(module)
    path = tmp_path_factory.mktemp("export") / "avatar.ckpt"
    trainer.save_checkpoint(path, weights_only=True)
    return path, module


def points(path):
    table = PlyData.read(path)["vertex"].data
    return np.stack([table[n] for n in "xyz"], -1)


def run(checkpoint, *args):
    return cli.main(["export", str(checkpoint[0]), *map(str, args)])


def test_ply_of_a_neutral_and_of_an_open_mouth(checkpoint, tmp_path, capsys):
    module = checkpoint[1]
    assert run(checkpoint, tmp_path / "a.ply") == 0
    assert str(tmp_path / "a.ply") in capsys.readouterr().out
    neutral = points(tmp_path / "a.ply")
    expected = module.gaussians_at(module.head.zeros(1)).means[0]
    assert np.allclose(neutral, expected, atol=1e-6)
    options = ["--expression", "jawOpen=0.8", "--expression", "eyeBlink_L=1"]
    assert run(checkpoint, tmp_path / "b.ply", *options) == 0
    params = module.head.zeros(1)
    for name, value in (("jawOpen", 0.8), ("eyeBlink_L", 1.0)):
        params.expression[0, module.head.expression_names.index(name)] = value
    moved = points(tmp_path / "b.ply")
    assert np.allclose(moved, module.gaussians_at(params).means[0], atol=1e-6)
    assert np.abs(moved - neutral).max() > 0.005


def test_avatar_file(checkpoint, tmp_path):
    assert run(checkpoint, tmp_path / "a.safetensors") == 0
    state = AvatarState.load(tmp_path / "a.safetensors")
    assert state.method == "GaussianDejaVu"
    assert torch.equal(state.tensors["global_delta"], checkpoint[1].global_delta)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["a.obj"], ".ply or .safetensors"),
        (["a.ply", "--expression", "smirkle=1"], "jawOpen"),
        (["a.ply", "--expression", "jawOpen"], "NAME=VALUE"),
        (["a.ply", "--expression", "jawOpen=wide"], "NAME=VALUE"),
        (["a.ply", "--expression", "jawOpen=nan"], "NAME=VALUE"),
        (["a.safetensors", "--expression", "jawOpen=1"], "leave it out"),
        (["file/a.ply"], "cannot be written"),
        (["file/a.safetensors"], "cannot be written"),
    ],
)
def test_mistakes_are_one_sentence(checkpoint, tmp_path, monkeypatch, capsys, args, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    assert run(checkpoint, *args) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ")
    assert words in said
    assert "\n" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_no_checkpoint(tmp_path, capsys):
    assert cli.main(["export", str(tmp_path / "no.ckpt"), str(tmp_path / "a.ply")]) == 2
    assert "There is no checkpoint" in capsys.readouterr().err
