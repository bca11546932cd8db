"""push and pull against a hub that is a folder: what comes back is the same avatar, and no file can carry code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch

from avatarzoo import cli
from avatarzoo.apps.portable import CONFIG, WEIGHTS, read_portable, write_portable
from avatarzoo.errors import BadCheckpointError
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.models import load_avatar

NAME = "ada/avatar"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    root, made = tmp_path / "hub", {}

    class Api:
        def create_repo(self, repo_id, *, private, exist_ok, repo_type):
            huggingface_hub.utils.validate_repo_id(repo_id)
            made[repo_id] = private
            return f"https://hub.test/{repo_id}"

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)

    def download(*, repo_id, revision, allow_patterns):
        if not (root / repo_id).exists():
            raise huggingface_hub.errors.LocalEntryNotFoundError("no such repository")
        return str(root / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return root, made


def test_what_comes_back_is_the_same_avatar(hub, live_avatar, tmp_path, capsys):
    root, made = hub
    path, module = live_avatar
    content = torch.load(path, weights_only=True)
    content["avatarzoo_consent"] = {"statement": "It is me.", "from": "me", "given": "2026-05-03T10:00:00"}
    content["avatarzoo_seen"] = {"low": {"jaw": torch.zeros(1, 3)}, "size": [4, 5]}
    torch.save(content, tmp_path / "a.ckpt")
    assert cli.main(["push", str(tmp_path / "a.ckpt"), NAME]) == 0
    assert f"https://hub.test/{NAME}" in capsys.readouterr().out
    assert made == {NAME: True}
    assert sorted(p.name for p in (root / NAME).iterdir()) == ["README.md", CONFIG, WEIGHTS]
    card = (root / NAME / "README.md").read_text()
    assert "given on 2026-05-03" in card
    assert "It is me" not in card
    config = json.loads((root / NAME / CONFIG).read_text())
    assert config["checkpoint"]["avatarzoo_seen"]["low"]["jaw"] == {"$tensor": "avatarzoo_seen/low/jaw"}
    config["checkpoint"].pop("avatarzoo_seen")  # this made-up one is not complete
    (root / NAME / CONFIG).write_text(json.dumps(config))
    assert cli.main(["pull", NAME, str(tmp_path / "out")]) == 0
    pulled = load_avatar(tmp_path / "out" / "avatar.ckpt")
    assert pulled.consent == content["avatarzoo_consent"]
    assert all(torch.equal(a, b) for a, b in zip(pulled.state_dict().values(), module.state_dict().values()))
    params, camera = module.head.zeros(1), look_at_face(size=32)
    with torch.no_grad():
        assert torch.equal(pulled(params, camera).rgb, module(params, camera).rgb)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["push", "no.ckpt", NAME], "There is no checkpoint"),
        (["push", "AVATAR", "no//name"], "check the name"),
        (["pull", "ada/nothing", "out"], "could not be reached"),
        (["pull", "ada/else", "out"], "no avatar that avatarzoo push wrote"),
    ],
)
def test_mistakes_are_one_sentence(hub, live_avatar, tmp_path, monkeypatch, capsys, args, words):
    monkeypatch.chdir(tmp_path)
    (hub[0] / "ada" / "else").mkdir(parents=True)
    assert cli.main([str(live_avatar[0]) if a == "AVATAR" else a for a in args]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ")
    assert words in said
    assert "\n" not in said
    assert not Path("out").exists()


def test_another_format_is_refused(live_avatar, tmp_path):
    write_portable(live_avatar[0], tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {"format": "avatarzoo-portable-9"}))
    with pytest.raises(BadCheckpointError, match="update avatarzoo"):
        read_portable(tmp_path, tmp_path / "a.ckpt")
    (tmp_path / CONFIG).write_text("[]")
    with pytest.raises(BadCheckpointError, match="pull another"):
        read_portable(tmp_path, tmp_path / "a.ckpt")
