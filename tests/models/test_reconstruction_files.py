"""Reconstruction networks on disk: our file, and a checkpoint laid out as the released one."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from avatarzoo.data.multiview_procedural import draw_person
from avatarzoo.errors import BadCheckpointError, MissingAssetError, UnsafeCheckpointError, UsageError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.models import load_avatar
from avatarzoo.models.gaussian_dejavu import GaussianReconstruction
from avatarzoo.models.gaussian_dejavu import reconstruction_files as files
from avatarzoo.priors import official_key_map

TINY = {"uv_size": 64, "network_size": 32, "network_width": 4, "antialias": True}


@pytest.fixture(scope="module")
def tiny() -> GaussianReconstruction:
    module = GaussianReconstruction(**TINY, lambda_ssim=0.5)
    torch.nn.init.normal_(module.network.head.weight, std=0.2)
    return module.eval()


def test_our_file_brings_the_same_network_back(tiny, tmp_path) -> None:
    path = files.save_reconstruction(tiny, tmp_path / "net.safetensors", 7, {"kind": "made up"})
    again = files.load_reconstruction(path)
    seen = torch.rand(1, 3, 48, 48), tiny.head.zeros(1), look_at_face(size=48)
    assert torch.equal(again.offsets(*seen), tiny.offsets(*seen))
    assert again.provenance == {"steps": 7, "data": {"kind": "made up"}}
    assert not again.training
    assert again.network.antialias
    other = GaussianReconstruction(**TINY, start=str(path), seed=3)
    assert torch.equal(other.network.head.weight, tiny.network.head.weight)


def test_a_network_with_textures_works_at_another_map_size(tmp_path) -> None:
    module = GaussianReconstruction(**TINY, texture=True)
    path = files.save_reconstruction(module, tmp_path / "net.safetensors", 0)
    finer = files.load_reconstruction(path, uv_size=96)
    seen = torch.rand(1, 3, 48, 48), finer.head.zeros(1), look_at_face(size=48)
    assert finer.offsets(*seen).shape == (1, len(finer.uv_map), 13)
    assert len(finer.uv_map) > 2 * len(module.uv_map)


def test_the_network_that_comes_with_avatarzoo_is_small_and_says_what_it_saw() -> None:
    assert files.SMALL_NETWORK.stat().st_size < 12e6
    module = files.load_reconstruction(files.SMALL_NETWORK)
    assert module.head.name == "procedural"
    assert "not real" in module.provenance["data"]["kind"]
    assert module.provenance["steps"] > 100


def test_training_starts_from_the_small_one_and_only_on_its_head(tmp_path) -> None:
    options = {"uv_size": 64, "network_size": 128, "network_width": 16, "texture": True, "start": "small"}
    module = GaussianReconstruction(**options)
    small = files.load_reconstruction(files.SMALL_NETWORK)
    assert torch.equal(module.network.head.weight, small.network.head.weight)
    with pytest.raises(UsageError, match="initialization surface, not to procedural and paper"):
        GaussianReconstruction(**options, initialization="paper")
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "avatar.ckpt", weights_only=True)
    again = load_avatar(tmp_path / "avatar.ckpt")
    assert again.hparams["start"] is None  # its weights are its own: the file of the start may be gone
    assert torch.equal(again.network.head.weight, small.network.head.weight)


def test_files_that_do_not_fit_are_one_sentence(tiny, tmp_path) -> None:
    path = files.save_reconstruction(tiny, tmp_path / "net.safetensors", steps=7)
    with pytest.raises(BadCheckpointError, match="another size"):
        GaussianReconstruction(uv_size=64, network_size=32, network_width=8, start=str(path))
    with pytest.raises(MissingAssetError, match="reconstruct_procedural"):
        files.load_reconstruction(tmp_path / "none.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(BadCheckpointError, match="no safetensors"):
        files.load_reconstruction(tmp_path / "junk.safetensors")
    state = tiny.reconstruct(torch.rand(1, 3, 48, 48), tiny.head.zeros(1), look_at_face(size=48))
    with pytest.raises(BadCheckpointError, match="no reconstruction network"):
        files.load_reconstruction(state.save(tmp_path / "state.safetensors"))


# ---- the released checkpoint: full size, so its bytes are made once ------------------------------------------------------


@pytest.fixture(scope="module")
def released() -> dict[str, torch.Tensor]:
    from avatarzoo.networks.ednet import EDNet

    torch.manual_seed(2)
    state = EDNet().state_dict()
    return {official: state[ours] for official, ours in official_key_map("dejavu").items()}


def load(tmp_path, content) -> GaussianReconstruction:
    torch.save(content, tmp_path / "dejavu_network.pt")
    return files.load_released(tmp_path / "dejavu_network.pt", head="procedural", uv_size=64)


def test_every_released_tensor_arrives(released, tmp_path) -> None:
    module = load(tmp_path, released)
    ours = module.network.state_dict()
    key_map = official_key_map("dejavu")
    assert all(torch.equal(ours[key_map[k]], v) for k, v in released.items())
    assert module.hparams["initialization"] == "official_release"


def test_only_blur_filters_may_be_absent(released, tmp_path) -> None:
    thin = {k: v for k, v in released.items() if not k.endswith(".blur_layer.f")}
    assert len(thin) == 28
    assert load(tmp_path, thin).network.decoder[0].blur.taps.tolist() == [1, 2, 1]
    with pytest.raises(BadCheckpointError, match=r"outc\.conv\.bias"):
        load(tmp_path, {k: v for k, v in released.items() if k != "outc.conv.bias"})
    with pytest.raises(BadCheckpointError, match=r"extra\.weight"):
        load(tmp_path, {**released, "extra.weight": torch.zeros(1)})
    with pytest.raises(BadCheckpointError, match="shape"):
        load(tmp_path, {**released, "outc.conv.bias": torch.zeros(12)})


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_code_in_a_checkpoint_is_not_run(released, tmp_path, capsys) -> None:
    with pytest.raises(UnsafeCheckpointError):
        load(tmp_path, {**released, "evil": Evil()})
    assert "executed" not in capsys.readouterr().out


def test_the_input_range_is_the_one_that_reproduces_pictures(monkeypatch) -> None:
    """Pictures that the network itself makes when it reads them one way are reproduced worse the other way."""
    views = draw_person(3, 1, 1, 48)
    module = GaussianReconstruction(**TINY).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(module.network.head.weight, std=0.3)
    images = views.images / 255
    for truth in ("unit", "uint8"):
        module.network.input_range = truth
        with torch.no_grad():
            target = module(images, views.params, views.camera, views.params, views.camera).rgb.clamp(0, 1)
        source = module.offsets  # the file's own pictures, whatever is compared
        with monkeypatch.context() as patch:
            patch.setattr(
                GaussianReconstruction, "offsets", lambda self, x, p, c, source=source: source(images, p, c)
            )
            errors = files.choose_input_range(module, target, views.params, views.camera)
        assert errors[truth] < 1e-6 < max(errors.values())
        assert module.network.input_range == module.hparams["input_range"] == truth


def test_another_head_is_refused(tiny, tmp_path, monkeypatch) -> None:
    from avatarzoo.errors import HeadModelMismatchError

    path = files.save_reconstruction(tiny, tmp_path / "net.safetensors", steps=7)
    monkeypatch.setattr(ProceduralHead, "version", "0")
    with pytest.raises(HeadModelMismatchError):
        files.load_reconstruction(path)
