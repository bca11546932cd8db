"""``avatarzoo reconstruct``: a photo to an avatar; mistakes are one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from plyfile import PlyData

from avatarzoo import cli
from avatarzoo.apps import reconstruct
from avatarzoo.credentials import read_credentials
from avatarzoo.data.multiview_procedural import draw_person
from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.data.sequence import TrackedSequence
from avatarzoo.files import file_hash
from avatarzoo.models import AvatarState, load_avatar
from avatarzoo.models.gaussian_dejavu import GaussianReconstruction
from avatarzoo.models.gaussian_dejavu.reconstruction_files import load_reconstruction, save_reconstruction

SMALL = ["--uv-size", "64", "--size", "64", "--seconds", "0.5", "--fps", "8"]


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    module = GaussianReconstruction(uv_size=64, network_size=32, network_width=4, texture=True)
    return save_reconstruction(module, tmp_path_factory.mktemp("net") / "net.safetensors", 3)


@pytest.fixture
def photo(tmp_path, monkeypatch) -> Path:
    """A made-up person whose tracking is known."""
    views = draw_person(7, 1, 1, 96)
    known = reconstruct.Portrait(views.images / 255, views.params, views.camera)
    monkeypatch.setattr(reconstruct, "portrait_of", lambda *_: known)
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), cv2.cvtColor(views.images[0].permute(1, 2, 0).numpy(), cv2.COLOR_RGB2BGR))
    return path


def run(*args) -> int:
    return cli.main(["reconstruct", *map(str, args)])


def test_a_photo_becomes_state_video_ply_and_preview(network, photo, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert run(photo, out, "--network", network, *SMALL) == 0
    printed = capsys.readouterr().out
    written = {"avatar.safetensors", "avatar.ckpt", "orbit.mp4", "head.ply", "preview.png"}
    assert {p.name for p in out.iterdir()} == written | {"result.json"}
    result = json.loads((out / "result.json").read_text())
    assert set(result["written"]) == written
    assert result["credentials"]["written"] is True
    for name in ("orbit.mp4", "preview.png"):
        found = read_credentials(out / name)
        assert (found.state, found.generated) == ("valid", True)
        assert found.facts["photo_sha256"] == result["photo"]["sha256"] == file_hash(photo)
    assert all(name in printed for name in written)
    state = AvatarState.load(out / "avatar.safetensors")
    assert state.meta["photo"] == "photo.png"
    assert state.meta["network"]["steps"] == 3
    with av.open(str(out / "orbit.mp4")) as video:
        frames = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
    assert len(frames) == 4
    assert frames[0].shape == (64, 64, 3)
    assert np.abs(frames[1].astype(int) - frames[3]).mean() > 1  # seen from two sides
    assert len(PlyData.read(out / "head.ply")["vertex"]) > 2000
    shown = cv2.imread(str(out / "preview.png"))
    assert shown.shape == (96, 4 * 96, 3)
    given, avatar = shown[:, :96].astype(int), shown[:, 96:192]
    assert np.abs(given - avatar)[given.min(2) < 200].mean() < 40  # the same person
    assert torch.isfinite(state.tensors["mean_offsets"]).all()


def test_the_checkpoint_is_driven_and_exported(network, photo, tmp_path, capsys) -> None:
    """What the photo became goes where every avatar goes."""
    out = tmp_path / "out"
    assert run(photo, out, "--network", network, *SMALL) == 0
    avatar, whole = load_avatar(out / "avatar.ckpt"), load_reconstruction(network, uv_size=64)
    state = AvatarState.load(out / "avatar.safetensors")
    known = reconstruct.portrait_of(photo, whole, "only")
    drawn = [
        m.animate(s, known.params, known.camera).rgb
        for m, s in ((avatar, avatar.reconstruct()), (whole, state))
    ]
    assert torch.equal(*drawn)
    assert (drawn[0] - known.image).abs().mean() < 0.1
    acted = ProceduralActor(seed=4, size=64).sequence(3)
    driver = TrackedSequence.create(
        tmp_path / "driver", avatar.head, acted.params, acted.camera, np.zeros((3, 478, 2), np.float32), acted.images, fps=20.0,
        valid=np.ones(3, bool), error=np.ones(3), crop={"rule": "none"}, mask_rule="none",
        source={"name": "made up", "sha256": "7"},
    ).path  # fmt: skip
    checkpoint, driven, ply = str(out / "avatar.ckpt"), tmp_path / "driven.mp4", tmp_path / "x.ply"
    assert cli.main(["drive", checkpoint, "--with", str(driver), "--out", str(driven), "--size", "64"]) == 0
    assert json.loads(driven.with_suffix(".json").read_text())["method"] == "GaussianDejaVu"
    with av.open(str(driven)) as film:
        frames = [f.to_ndarray(format="rgb24").astype(int) for f in film.decode(video=0)]
    assert len(frames) == 3
    assert frames[0][:4].min() > 235  # the head stands free on white
    assert frames[0][24:40, 24:40].max() < 240
    assert cli.main(["export", checkpoint, str(ply)]) == 0
    assert len(PlyData.read(ply)["vertex"]) == len(avatar.uv_map)


def test_a_network_of_one_s_own_carries_no_warning_about_made_up_people(
    network, photo, tmp_path, capsys
) -> None:
    run(photo, tmp_path / "out", "--network", network, *SMALL, "--no-credentials")
    assert read_credentials(tmp_path / "out" / "orbit.mp4").state == "none"
    assert not json.loads((tmp_path / "out" / "result.json").read_text())["credentials"]["written"]
    assert "made-up" not in capsys.readouterr().out


def test_bad_pictures_and_networks_are_one_sentence(network, tmp_path, capsys) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    for bad in (tmp_path / "text.jpg", tmp_path / "none.jpg"):
        assert run(bad, tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
    good = tmp_path / "white.png"
    cv2.imwrite(str(good), np.full((64, 64, 3), 255, np.uint8))
    assert run(good, tmp_path / "out", "--network", tmp_path / "none.safetensors") == 2
    assert "no reconstruction network" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option", [["--size", "8"], ["--uv-size", "5000"], ["--fps", "0"], ["--seconds", "-1"]]
)
def test_absurd_options_are_refused(option, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path / "photo.jpg", tmp_path / "out", *option)
    assert option[0] in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.media
@pytest.mark.assets
def test_a_real_photo_with_the_network_that_comes_along(tmp_path, capsys) -> None:
    folder = os.environ.get("AVATARZOO_MEDIA")
    if not folder:
        pytest.skip("AVATARZOO_MEDIA is not set")
    assert run(Path(folder) / "image" / "obama_portrait_910x1137.jpg", tmp_path / "out") == 0
    assert "made-up people only" in capsys.readouterr().out
    shown = cv2.imread(str(tmp_path / "out" / "preview.png"))
    given, avatar = shown[:, :512].astype(int), shown[:, 512:1024]
    assert np.abs(given - avatar)[200:400, 200:312].mean() < 25
