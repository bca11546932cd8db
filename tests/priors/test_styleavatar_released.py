"""Checkpoints in the structure of the published StyleAvatar ones: they import strictly, and nothing in them runs."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avatarzoo.errors import BadCheckpointError, MissingAssetError, UnsafeCheckpointError
from avatarzoo.networks.double_styleunet import DoubleStyleUNet
from avatarzoo.networks.feature_generator import FeatureGenerator
from avatarzoo.networks.haar_discriminator import HaarDiscriminator
from avatarzoo.networks.styleunet import StyleUNet
from avatarzoo.priors import import_checkpoint, load_styleavatar
from avatarzoo.priors.keys_styleavatar import official_names, official_shape

CAP = 4


def published(kind: str, network: nn.Module) -> dict[str, Tensor]:
    """The state dict under its published names, with constants beside the parameters."""
    state, own = {}, network.state_dict()
    for official, ours in official_names(kind, network).items():
        shape = official_shape(official, tuple(own[ours].shape))
        state[official] = torch.randn(shape) if own[ours].is_floating_point() else own[ours].clone()
    return state | {"iwt.ll": torch.ones(2, 2), "some.downsample.kernel": torch.ones(4, 4)}


def double() -> dict[str, Tensor]:
    return published("styleavatar_double", DoubleStyleUNet(64, 64, channel_max=CAP))


def optimiser(network: nn.Module) -> dict[str, Any]:
    adam = torch.optim.AdamW(network.parameters())
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    adam.step()
    return adam.state_dict()


def full(**more: Any) -> dict[str, Any]:
    """A full checkpoint of the released training script."""
    torch.manual_seed(0)
    feature = lambda: published("styleavatar_feature", FeatureGenerator(32, channel_max=CAP))  # noqa: E731
    stored = {
        f"{x}_{y}": torch.randn(3, 4 if x == "feature" else 12, 32, 32)
        for x in ("feature", "skip")
        for y in ("back", "face")
    }
    small = nn.Linear(2, 2)
    return {
        "b_g": feature(), "f_g": feature(), "i_g": double(), "g_ema": double(),
        "d": published("styleavatar_discriminator", HaarDiscriminator(64, 6, channel_max=CAP)),
        **{f"{name}_optim": optimiser(small) for name in ("b_g", "f_g", "i_g", "d")},
        "args": argparse.Namespace(size=64, batch=3, path="data", lr=0.002, augment=False, distributed=None),
        **stored, **more,
    }  # fmt: skip


def saved(content: Any, folder: Path, archive: bool = True) -> Path:
    torch.save(content, folder / "065000.pt", _use_new_zipfile_serialization=archive)
    return folder / "065000.pt"


@pytest.mark.parametrize("archive", [True, False])
def test_full_checkpoint(archive, tmp_path):
    content = full()
    read = load_styleavatar(saved(content, tmp_path, archive))
    assert set(read.networks) == {"b_g", "f_g", "i_g", "d", "g_ema"}
    for name, kind in (("g_ema", "double"), ("b_g", "feature"), ("d", "discriminator")):
        state = read.networks[name].state_dict()
        for official, ours in official_names(f"styleavatar_{kind}", read.networks[name]).items():
            assert torch.equal(state[ours].flatten(), content[name][official].flatten()), official
    assert read.generator is read.networks["g_ema"]
    assert torch.equal(read.face.feature, content["feature_face"][:1])
    assert torch.equal(read.back.skip, content["skip_back"][:1])
    assert read.arguments["batch"] == 3
    assert not any(network.training for network in read.networks.values())
    picture, mask = read.generator(
        torch.zeros(1, 3, 64, 64), torch.zeros(1, 64), torch.zeros(1, 2, 32, 32), torch.ones(1, 1, 32, 32), read.face, read.back
    )  # fmt: skip
    assert picture.shape == (1, 3, 64, 64)
    assert mask.shape == (1, 1, 32, 32)


def test_imported_folder_gives_the_same(tmp_path):
    path = saved(full(), tmp_path)
    folder = import_checkpoint(path).save(tmp_path / "imported")
    direct, kept = load_styleavatar(path), load_styleavatar(folder)
    assert kept.arguments == direct.arguments
    assert torch.equal(kept.face.feature, direct.face.feature)
    for name, network in direct.networks.items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(kept.networks[name].state_dict()[key], tensor)


@pytest.mark.parametrize("bare", [True, False])
def test_file_with_the_averaged_generator_only(bare, tmp_path):
    state = double()
    read = load_styleavatar(saved(state if bare else {"g_ema": state}, tmp_path))
    assert isinstance(read.generator, DoubleStyleUNet)
    assert (read.face, read.back, read.arguments) == (None, None, {})


@pytest.mark.parametrize("sizes", [(64, 128, 2, 4), (64, 64, 2, 4), (128, 64, 1, 40, 8, 6)])
def test_styleunet_checkpoint_tells_its_sizes(sizes, tmp_path):
    original = StyleUNet(*sizes)
    state = published("styleunet", original)
    discriminator = published("styleavatar_discriminator", HaarDiscriminator(64, 3, channel_max=CAP))
    content = {"g": state, "d": discriminator, "g_ema": state, "args": argparse.Namespace(batch=8)}
    network = load_styleavatar(saved(content, tmp_path)).generator
    assert isinstance(network, StyleUNet)
    assert (network.input_size, network.output_size) == sizes[:2]
    assert {k: x.shape for k, x in network.state_dict().items()} == {
        k: x.shape for k, x in original.state_dict().items()
    }


def lacking(state: dict, key: str) -> dict:
    return {name: x for name, x in state.items() if name != key}


def wrong() -> dict[str, tuple[Any, str]]:
    """Contents that are refused, and what the sentence says."""
    state = double()
    weight = "convs_1.0.conv.weight"
    stored = {"feature_face": torch.zeros(1, 4, 32, 32)}
    return {
        "missing": ({"g_ema": lacking(state, "get_mask.0.bias")}, r"\(g_ema\) lacks the tensor 'get_mask\.0\.bias'"),
        "missing-first": ({"g_ema": lacking(state, "from_rgbs_0.0.conv.0.weight")}, "g_ema.*lacks the tensor"),
        "missing-size": ({"g_ema": lacking(state, weight)}, "KeyError"),
        "no-levels": ({"g_ema": lacking(state, "to_rgbs_1.0.bias")}, "0 levels of to_rgbs_1"),
        "level-missing": ({"g_ema": lacking(state, "to_rgbs_1.1.bias")}, "which the network it is meant for does not know"),
        "extra": ({"g_ema": state | {"more.weight": torch.ones(1)}}, r"has the tensor 'more\.weight'"),
        "shape": ({"g_ema": state | {"get_mask.0.weight": torch.ones(1, 7, 3, 3)}}, r"shape \(1, 7, 3, 3\) instead of \(1, 8, 3, 3\)"),
        "scalar": ({"g_ema": state | {weight: torch.tensor(1.0)}}, "IndexError"),
        "giant-and-empty": ({"g_ema": state | {weight: torch.empty(1, 1 << 40, 0)}}, "g_ema"),
        "many-levels": ({"g_ema": state | {f"to_rgbs_1.{n}.bias": torch.ones(1) for n in range(50)}}, "11 levels"),
        "other-network": ({"g_ema": published("styleavatar_feature", FeatureGenerator(32, channel_max=CAP))}, "lacks the tensor"),
        "nothing-of-it": ({"G": {"weight": torch.ones(2)}}, "holds no generator of StyleAvatar .*but G"),
        "half-of-the-features": ({"g_ema": state, **stored}, r"\(face\) lacks the tensor 'skip_face'"),
        "features-of-another-size": (
            {"g_ema": state, **stored, "skip_face": torch.zeros(1, 12, 16, 16)}, r"\(1, 12, 16, 16\) instead of \(1, 12, 32, 32\)"
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", wrong())
def test_wrong_tensors_are_refused_in_one_sentence(name, tmp_path):
    content, message = wrong()[name]
    with pytest.raises(BadCheckpointError, match=message) as refused:
        load_styleavatar(saved(content, tmp_path))
    assert "\n" not in str(refused.value)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("place", ["beside", "in-arguments", "in-optimiser", "as-tensor"])
def test_code_in_a_file_is_refused_and_does_not_run(place, archive, tmp_path):
    evil = Evil(tmp_path / "ran")
    content = {
        "beside": {"g_ema": double(), "more": evil},
        "in-arguments": {"g_ema": double(), "args": argparse.Namespace(batch=3, hook=evil)},
        "in-optimiser": {"g_ema": double(), "g_optim": {"state": {0: evil}, "param_groups": []}},
        "as-tensor": {"g_ema": {**double(), "get_mask.0.bias": evil}},
    }[place]
    path = saved(content, tmp_path, archive)
    with pytest.raises(UnsafeCheckpointError, match="nothing of it was run"):
        load_styleavatar(path)
    assert not (tmp_path / "ran").exists()


def test_namespace_is_data_only(tmp_path):
    """Names that would change an object are only names, and other classes of the module stay outside."""
    odd = argparse.Namespace(batch=3)
    vars(odd)["__class__"] = "Evil"
    read = load_styleavatar(saved({"g_ema": double(), "args": odd}, tmp_path))
    assert type(read.arguments) is dict
    assert read.arguments == {"batch": 3, "__class__": "Evil"}
    path = tmp_path / "other.pt"
    path.write_bytes(pickle.dumps({"args": odd}, 2).replace(b"Namespace", b"ArgumentParser"))
    with pytest.raises(UnsafeCheckpointError, match=r"argparse\.ArgumentParser"):
        load_styleavatar(path)


def test_missing_file(tmp_path):
    with pytest.raises(MissingAssetError):
        load_styleavatar(tmp_path / "no.pt")
