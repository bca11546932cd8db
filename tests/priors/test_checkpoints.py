"""Published checkpoints are data: what honest files hold comes through whole."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from published import EG3D, FIXED, PLANES, published

from avatarzoo.errors import BadCheckpointError, MissingAssetError
from avatarzoo.priors.checkpoints import ImportedCheckpoint, import_checkpoint


@pytest.fixture
def file(tmp_path):
    def write(content: bytes, name: str = "eg3d.pkl") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def assert_same(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(state) == list(expected)
    for key, tensor in expected.items():
        assert state[key].dtype == tensor.dtype
        assert torch.equal(state[key], tensor), key


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_published_structure_comes_through_whole(protocol, file, tmp_path):
    content, data = published(tmp_path / "ran", protocol)
    read = import_checkpoint(file(data))
    assert list(read.modules) == ["D", "G", "G_ema"]
    for name, module in read.modules.items():
        assert_same(module.state, content[name].state_dict())
    g = read.modules[read.main]
    assert (read.main, g.class_name, g.init_args) == ("G_ema", "TriPlaneGenerator", [])
    assert g.init_kwargs["rendering_kwargs"]["avg_camera_pivot"] == [0, 0, 0.2]
    assert g.init_kwargs["rendering_kwargs"]["ray_start"] == 2.25
    assert g.attributes["z_dim"] == 512
    assert (read.plane_axes, read.neural_resolution, read.skipped) == ("eg3d", 128, [])
    assert read.meta == {"training_set_kwargs": {"path": "ffhq.zip", "resolution": 512}, "augment_pipe": None}
    assert not (tmp_path / "ran").exists()
    assert "training.triplane" not in sys.modules


def test_plane_axes_are_read_off_the_file(file, tmp_path):
    for axes, name in ((FIXED, "fixed"), (EG3D, "eg3d"), (None, "eg3d")):
        assert import_checkpoint(file(published(tmp_path / "ran", axes=axes)[1])).plane_axes == name
    with pytest.raises(BadCheckpointError, match="planes that see"):
        import_checkpoint(file(published(tmp_path / "ran", axes=PLANES)[1]))


def test_saved_again_by_a_program_that_had_loaded_it(file, tmp_path):
    _, data = published(tmp_path / "ran", 2)
    assert data.count(b"ctraining.triplane\n") == 1
    renamed = data.replace(b"ctraining.triplane\n", b"c_imported_module_0a1b2c3d\n")
    assert len(import_checkpoint(file(renamed)).modules["G"].state) == 9


def test_safetensors_and_json_say_the_same(file, tmp_path):
    read = import_checkpoint(file(published(tmp_path / "ran")[1]))
    again = ImportedCheckpoint.load(read.save(tmp_path / "out"))
    for name in read.modules:
        assert_same(
            dict(sorted(again.modules[name].state.items())), dict(sorted(read.modules[name].state.items()))
        )
        read.modules[name].state = again.modules[name].state = {}
    assert again == read
    (tmp_path / "out" / "D.safetensors").unlink()
    with pytest.raises(MissingAssetError, match="assets import"):
        ImportedCheckpoint.load(tmp_path / "out")
    (tmp_path / "out" / "checkpoint.json").write_text("{}")
    with pytest.raises(BadCheckpointError, match="damaged"):
        ImportedCheckpoint.load(tmp_path / "out")


def test_interrupted_save_leaves_no_half_truth(file, tmp_path, monkeypatch):
    read = import_checkpoint(file(published(tmp_path / "ran")[1]))
    read.save(tmp_path / "out")
    read.modules["G"].state = {"x": None}  # fails in the middle
    with pytest.raises(AttributeError):
        read.save(tmp_path / "out")
    with pytest.raises(MissingAssetError, match="no complete"):
        ImportedCheckpoint.load(tmp_path / "out")


STATE = OrderedDict(
    weight=torch.randn(3, 2), steps=torch.tensor(4), view=torch.randn(4, 4)[:, 1], empty=torch.zeros(0, 3)
)
STATE["wide"] = torch.randn(2).to(torch.bfloat16)
OPTIMISER = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
LAYOUTS: dict[str, tuple[Any, dict[str, list[str]], dict, list[str]]] = {
    "bare": (STATE, {"model": list(STATE)}, {}, []),
    "triplanenet": (
        {"G_ema": STATE, "init_kwargs": {"z_dim": 512}, "latent_avg": torch.zeros(5)},
        {"G_ema": list(STATE), "tensors": ["latent_avg"]}, {"init_kwargs": {"z_dim": 512}}, [],
    ),
    "params_ema": ({"params_ema": STATE, "params": STATE}, {"params_ema": list(STATE), "params": list(STATE)}, {}, []),
    "net_recon": ({"net_recon": STATE, "opt_00": OPTIMISER, "epoch": 20}, {"net_recon": list(STATE)}, {"epoch": 20}, ["opt_00"]),
    "nested": ({"model": {"G": STATE, "note": "x"}}, {"model.G": list(STATE)}, {"model.note": "x"}, []),
    "tuple": ((STATE, STATE), {"0": list(STATE), "1": list(STATE)}, {}, []),
    "styleavatar": (
        {"g_ema": STATE, "d_optim": OPTIMISER, "args": argparse.Namespace(size=512), "feature": torch.ones(2)},
        {"g_ema": list(STATE), "tensors": ["feature"]}, {"args": {"size": 512}}, ["d_optim"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "stream"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_community_layouts_of_torch_save(layout, archive, tmp_path):
    content, modules, meta, skipped = LAYOUTS[layout]
    path = tmp_path / "model.pth"
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    read = import_checkpoint(path)
    assert {name: list(module.state) for name, module in read.modules.items()} == modules
    assert (read.meta, read.skipped, read.plane_axes, read.neural_resolution) == (meta, skipped, None, None)
    for module in read.modules.values():
        if list(module.state) == list(STATE):
            assert_same(module.state, STATE)
    if layout != "styleavatar":  # whose Namespace torch refuses
        torch.load(path, weights_only=True)
    if layout == "triplanenet":
        assert read.modules["G_ema"].init_kwargs == {"z_dim": 512}
    ImportedCheckpoint.load(read.save(tmp_path / "out"))


@pytest.mark.parametrize("name", ["v0.0/alex.pth", "v0.1/vgg.pth"])
def test_files_that_torch_wrote_long_ago(name):
    """The LPIPS package carries two generations of them."""
    path = Path(importlib.util.find_spec("lpips").origin).parent / "weights" / name
    assert_same(import_checkpoint(path).modules["model"].state, torch.load(path, "cpu", weights_only=True))


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_strict_keys_and_shapes(change, file, tmp_path):
    content, data = published(tmp_path / "ran")
    path, words = (
        file(data),
        {
            "missing": "lacks the tensor 'new'",
            "extra": "'decoder.net.2.bias', which",
            "shape": r"\(8, 4, 4\)",
        },
    )
    expect = {
        key: tuple(x.shape) for key, x in content["G_ema"].state_dict().items() if key != "dataset_label_std"
    }
    import_checkpoint(path, expect)
    if change == "missing":
        expect["new"] = (2,)
    elif change == "extra":
        del expect["decoder.net.2.bias"]
    else:
        expect["backbone.b4.const"] = (8, 4, 5)
    with pytest.raises(BadCheckpointError, match=words[change]) as refused:
        import_checkpoint(path, expect)
    assert str(refused.value).count(". ") == 0
    with pytest.raises(BadCheckpointError, match="has no T; it holds D, G, G_ema"):
        import_checkpoint(path, expect, module="T")
