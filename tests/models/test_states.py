"""Avatar files and checkpoints: what is written is read back, everything else is one sentence."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from avatarzoo.errors import BadSequenceError
from avatarzoo.models import AvatarState, load_avatar


def test_state_round_trip(tmp_path):
    state = AvatarState(
        "Some", {"a": torch.randn(2, 3).T, "b": torch.tensor(2)}, {"head": {"name": "x"}, "n": [1, 2]}
    )
    again = AvatarState.load(state.save(tmp_path / "new" / "p.safetensors"))
    assert (again.method, again.meta) == (state.method, state.meta)
    assert set(again.tensors) == {"a", "b"}
    assert torch.equal(again.tensors["a"], state.tensors["a"])
    assert again.tensors["b"].dtype == torch.int64


def test_other_files_are_one_sentence(tmp_path):
    with pytest.raises(BadSequenceError, match="There is no avatar state"):
        AvatarState.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not a tensor file")
    with pytest.raises(BadSequenceError, match="damaged"):
        AvatarState.load(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(BadSequenceError, match="is not an avatar state"):
        AvatarState.load(tmp_path / "foreign.safetensors")
    path = AvatarState("Some", {"a": torch.zeros(100)}).save(tmp_path / "p.safetensors")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(BadSequenceError, match="damaged"):
        AvatarState.load(path)


def test_a_method_of_the_future_is_named(tmp_path):
    torch.save({"avatarzoo_method": "Hologram", "state_dict": {}}, tmp_path / "x.ckpt")
    with pytest.raises(BadSequenceError, match="Hologram"):
        load_avatar(tmp_path / "x.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "y.ckpt")
    with pytest.raises(BadSequenceError, match="is not a checkpoint"):
        load_avatar(tmp_path / "y.ckpt")
