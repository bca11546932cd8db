"""Where the user's folders lie on each platform."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatarzoo import files
from avatarzoo.assets import cache_folder
from avatarzoo.credentials import config_folder

VARIABLES = (
    "AVATARZOO_CACHE", "AVATARZOO_CONFIG", "LOCALAPPDATA", "APPDATA", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"
)  # fmt: skip


@pytest.mark.parametrize(
    ("platform", "cache", "config"),
    [
        ("win32", "AppData/Local", "AppData/Roaming"),
        ("darwin", "Library/Caches", "Library/Application Support"),
        ("linux", ".cache", ".config"),
    ],
)
def test_platforms_keep_cache_and_settings_apart(monkeypatch, platform, cache, config) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(files.sys, "platform", platform)
    assert cache_folder() == Path.home() / cache / "avatarzoo"
    assert config_folder() == Path.home() / config / "avatarzoo"


def test_variables_win(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(files.sys, "platform", "linux")
    monkeypatch.delenv("AVATARZOO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "avatarzoo"
    monkeypatch.setenv("AVATARZOO_CACHE", "~/here")
    assert cache_folder() == Path.home() / "here"
