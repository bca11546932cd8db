"""``avatarzoo export``: a checkpoint to PLY and avatar file; mistakes are one sentence."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil

import lightning as L
import numpy as np
import pytest
import torch
from plyfile import PlyData

from avatarzoo import cli
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.geometry.rotations import axis_angle_to_matrix, quaternion_to_matrix
from avatarzoo.models import AvatarState, GaussianDejaVu, StyleAvatar
from avatarzoo.render import Gaussians, rasterize_gaussians


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    module = GaussianDejaVu(uv_size=32, n_blendmaps=2)
    with torch.no_grad():
        module.identity.normal_()
        module.global_delta.normal_(std=0.3)
    return saved(module, tmp_path_factory.mktemp("export") / "avatar.ckpt")


def saved(module, path):
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.strategy.connect(module)
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


def test_a_ply_read_by_others_renders_the_same_picture(checkpoint, tmp_path):
    assert run(checkpoint, tmp_path / "a.ply") == 0
    table = PlyData.read(tmp_path / "a.ply")["vertex"].data

    def columns(*names):
        return torch.from_numpy(np.stack([table[n] for n in names], -1))[None]

    again = Gaussians(
        columns("x", "y", "z"),
        torch.nn.functional.normalize(columns(*(f"rot_{i}" for i in range(4))), dim=-1),
        columns(*(f"scale_{i}" for i in range(3))).exp(),
        columns("opacity")[..., 0].sigmoid(),
        0.5 + 0.28209479177387814 * columns(*(f"f_dc_{i}" for i in range(3))),
    )
    module, camera = checkpoint[1], look_at_face(size=64)
    ours, theirs = (
        rasterize_gaussians(g, camera).rgb for g in (module.gaussians_at(module.head.zeros(1)), again)
    )
    assert float((ours - theirs).abs().max()) < 2 / 255
    assert float((ours - 1).abs().max()) > 0.3


def test_avatar_file(checkpoint, tmp_path):
    assert run(checkpoint, tmp_path / "a.safetensors") == 0
    state = AvatarState.load(tmp_path / "a.safetensors")
    assert state.method == "GaussianDejaVu"
    assert torch.equal(state.tensors["global_delta"], checkpoint[1].global_delta)


def test_gltf_of_an_open_mouth(checkpoint, tmp_path):
    assert run(checkpoint, tmp_path / "a.glb", "--expression", "jawOpen=0.8") == 0
    data = (tmp_path / "a.glb").read_bytes()
    content = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    assert content["asset"]["extras"]["digitalSourceType"].endswith("trainedAlgorithmicMedia")
    params = checkpoint[1].head.zeros(1)
    params.expression[0, checkpoint[1].head.expression_names.index("jawOpen")] = 0.8
    low = checkpoint[1].gaussians_at(params).means[0].amin(0)
    assert np.allclose(content["accessors"][0]["min"], low, atol=1e-6)


@pytest.fixture
def driver(checkpoint, tmp_path):
    """Three frames: the mouth opens, the head turns and moves."""
    head = checkpoint[1].head
    expression = np.zeros((3, head.n_expression), np.float32)
    expression[1:, head.expression_names.index("jawOpen")] = 0.6
    rotation, translation = np.zeros((2, 3, 3), np.float32)
    rotation[2, 1], translation[2, 0] = 0.5, 0.02
    np.savez(
        tmp_path / "motion.npz", expression=expression, rotation=rotation, translation=translation, fps=5
    )
    return tmp_path / "motion.npz"


@pytest.mark.parametrize("name", ["frames", "frames.zip"])
def test_a_ply_for_each_frame(checkpoint, driver, tmp_path, name):
    output = tmp_path / name
    assert run(checkpoint, output, "--format", "sequence", "--with", driver) == 0
    folder = output
    if name.endswith(".zip"):
        folder = tmp_path / "unpacked"
        shutil.unpack_archive(output, folder)
    files = ["frame_0000.ply", "frame_0001.ply", "frame_0002.ply", "sequence.json"]
    assert sorted(p.name for p in folder.iterdir()) == files
    about = json.loads((folder / "sequence.json").read_text())
    assert (about["fps"], about["frames"], about["method"]) == (5.0, 3, "GaussianDejaVu")
    clouds = [PlyData.read(folder / f)["vertex"].data for f in files[:3]]
    assert all(len(c.dtype.names) == 62 for c in clouds)
    still, open_, turned = (torch.from_numpy(np.stack([c[n] for n in "xyz"], -1)) for c in clouds)
    assert (still - open_).norm(dim=1).max() > 0.005
    turn = axis_angle_to_matrix(torch.tensor([0.0, 0.5, 0.0]))
    assert torch.allclose(open_ @ turn.T + torch.tensor([0.02, 0, 0]), turned, atol=1e-5)
    quaternions = (torch.from_numpy(np.stack([c[f"rot_{i}"] for i in range(4)], -1)) for c in clouds[1:])
    first, second = (quaternion_to_matrix(q) for q in quaternions)
    assert torch.allclose(turn @ first, second, atol=1e-4)


def test_a_page_is_whole_and_asks_for_nothing(checkpoint, driver, tmp_path):
    assert run(checkpoint, tmp_path / "a.html", "--with", driver) == 0
    text = (tmp_path / "a.html").read_text()
    assert "{{" not in text
    assert not re.search(r"(src|href)\s*=|fetch\(|import\(|XMLHttp|WebSocket", text)
    assert "default-src 'none'" in text
    facts = json.loads(re.search(r'<script id="facts"[^>]*>(.*?)</script>', text)[1])
    data = gzip.decompress(base64.b64decode(re.search(r'<script id="data"[^>]*>(.*?)</script>', text)[1]))
    assert facts["count"] == len(checkpoint[1].uv_map)
    assert (facts["frames"], facts["fps"]) == (3, 5.0)
    labels = {(c["folder"], c["label"]) for c in facts["controls"]}
    assert {("", "Smile"), ("", "Open mouth"), ("Eyes", "Close left"), ("", "Turn head")} <= labels
    at = facts["arrays"]["surface"]
    surface = np.frombuffer(data, "<f4", at["length"], at["offset"]).reshape(-1, 3)
    module = checkpoint[1]
    neutral = module.head.zeros(1)._replace(identity=module.identity)
    assert np.allclose(surface, module.uv_map.positions(module.head(neutral))[0], atol=1e-6)


def test_a_page_says_what_it_is(checkpoint, tmp_path):
    assert run(checkpoint, tmp_path / "a<b>.html") == 0
    text = (tmp_path / "a<b>.html").read_text()
    assert "<title>a&lt;b&gt;</title>" in text
    assert "trainedAlgorithmicMedia" in text
    assert "No statement of consent" in text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["a.obj"], ".zip, .safetensors, .onnx or .pt2"),
        (["a.ply", "--expression", "smirkle=1"], "jawOpen"),
        (["a.ply", "--expression", "jawOpen"], "NAME=VALUE"),
        (["a.ply", "--expression", "jawOpen=wide"], "NAME=VALUE"),
        (["a.ply", "--expression", "jawOpen=nan"], "NAME=VALUE"),
        (["a.safetensors", "--expression", "jawOpen=1"], "leave it out"),
        (["a.ply", "--batch", "2"], "leave them out"),
        (["a.ply", "--with", "file"], "leave it out"),
        (["a.zip"], "add --with"),
        (["a.html", "--seconds", "0"], "above 0"),
        (["a.html", "--expression", "jawOpen=1"], "leave it out"),
        (["file", "--format", "sequence", "--with", "motion.npz"], "does not exist"),
        (["file/a.html"], "cannot be written"),
        (["a.ply", "--foreground-window", "1", "2"], "leave them out"),
        (["a.onnx", "--batch", "0"], "from 1 to 64 or dynamic"),
        (["a.onnx"], "has no network"),
        (["a", "--format", "torch-export"], "has no network"),
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


def test_the_format_names_the_file(checkpoint, tmp_path, capsys):
    assert run(checkpoint, tmp_path / "v1.2", "--format", "safetensors") == 0
    assert AvatarState.load(tmp_path / "v1.2.safetensors").method == "GaussianDejaVu"
    assert str(tmp_path / "v1.2.safetensors") in capsys.readouterr().out


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    torch.manual_seed(0)
    return saved(
        StyleAvatar(input_size=32, output_size=32, channel_max=4, lambda_gan=0.0),
        tmp_path_factory.mktemp("portrait") / "avatar.ckpt",
    )


def test_a_network_and_its_facts(portrait, tmp_path):
    windows = ["--foreground-window", "5", "3", "--background-window", "4", "4"]
    assert run(portrait, tmp_path / "a.pt2", "--batch", "dynamic", *windows) == 0
    network = torch.export.load(tmp_path / "a.pt2").module()
    image, mask = network(render=torch.zeros(3, 3, 32, 32), uv=-torch.ones(3, 3, 32, 32))
    assert (image.shape, mask.shape) == ((3, 3, 32, 32), (3, 1, 16, 16))
    facts = json.loads((tmp_path / "a.json").read_text())
    assert (facts["file"], facts["kind"], facts["batch"]) == ("a.pt2", "torch-export", "dynamic")
    assert (facts["windows"]["foreground"], facts["windows"]["background"]) == ([5, 3], [4, 4])
    assert facts["head"] == portrait[1].head.signature


def test_a_window_beyond_the_picture(portrait, tmp_path, capsys):
    assert run(portrait, tmp_path / "a.onnx", "--foreground-window", "9", "0") == 2
    assert "between 0 and 8" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_pages_are_of_gaussians(portrait, tmp_path, capsys):
    assert run(portrait, tmp_path / "a.html") == 2
    assert "avatarzoo drive instead" in capsys.readouterr().err


def test_no_checkpoint(tmp_path, capsys):
    assert cli.main(["export", str(tmp_path / "no.ckpt"), str(tmp_path / "a.ply")]) == 2
    assert "There is no checkpoint" in capsys.readouterr().err
