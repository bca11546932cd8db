"""The asset table: finding, verifying and fetching files, from a server the test runs itself."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from avatarzoo import assets
from avatarzoo.apps.assets import main
from avatarzoo.errors import MissingAssetError, OutputError

CONTENT = b"weights" * 1000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path / "assets"))
    return tmp_path / "assets"


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if self.path == "/missing" else 200)
            self.send_header("Content-Length", str(len(CONTENT) + (self.path == "/short")))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def table(server, monkeypatch):
    """Rows: good, one with another hash, one the server does not have, one that ends early, one behind a licence."""
    pinned = hashlib.sha256(CONTENT).hexdigest()
    good = assets.Asset("good", "good.bin", "a network", "MIT", url=f"{server}/good", sha256=pinned)
    rows = [
        good,
        dataclasses.replace(good, name="wrong", file="wrong.bin", sha256="0" * 64),
        dataclasses.replace(good, name="gone", file="gone.bin", url=f"{server}/missing"),
        dataclasses.replace(good, name="short", file="short.bin", url=f"{server}/short"),
        dataclasses.replace(good, name="prefix", file="prefix.bin", sha256=pinned[:8]),
        assets.Asset("gated", "gated.pkl", "a head", "research", obtain="Register at https://example.org"),
    ]
    monkeypatch.setattr(assets, "ASSETS", {row.name: row for row in rows})


def test_fetch_verifies_and_renames(folder, table):
    seen = []
    assert assets.fetch("good", lambda *x: seen.append(x)) == folder / "good.bin"
    assert (folder / "good.bin").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert assets.find("good") == folder / "good.bin"
    assert assets.fetch("prefix") == folder / "prefix.bin"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrong", "thrown away"),
        ("gone", "404"),
        ("short", "ended after|cannot be downloaded"),
        ("gated", r"example\.org.*assets"),
    ],
)
def test_failed_fetch_leaves_nothing(name, words, folder, table):
    with pytest.raises(MissingAssetError, match=words):
        assets.fetch(name)
    assert not folder.exists() or not list(folder.iterdir())


def test_damaged_file_is_noticed_at_first_use_and_after_a_change(folder, table):
    assets.fetch("good")
    assert assets.verify("good") is True
    (folder / "good.bin").write_bytes(CONTENT[:-1] + b"x")
    assert assets.verify("good") is False
    with pytest.raises(MissingAssetError, match="delete it, then run: avatarzoo assets fetch good"):
        assets.find("good")


def test_hash_is_computed_once(folder, table, monkeypatch):
    path = assets.fetch("good")
    stamp = path.stat()
    assets.find("good")
    monkeypatch.setattr(assets, "_sha256", lambda path: pytest.fail("hashed again"))
    assets.find("good")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    with pytest.raises(pytest.fail.Exception, match="hashed again"):
        assets.find("good")


def test_damaged_hash_store_costs_only_time(folder, table):
    assets.fetch("good")
    (assets.cache_folder() / "hashes.json").write_text("{broken")
    assert assets.verify("good") is True


def test_cache_folder_comes_second(folder, table):
    (assets.cache_folder() / "assets").mkdir(parents=True)
    second = assets.cache_folder() / "assets" / "good.bin"
    second.write_bytes(CONTENT)
    assert assets.find("good") == second
    folder.mkdir()
    (folder / "good.bin").write_bytes(CONTENT)
    assert assets.find("good") == folder / "good.bin"


def test_missing_file_says_what_to_do(folder, table):
    with pytest.raises(MissingAssetError, match="avatarzoo assets fetch good"):
        assets.find("good")
    with pytest.raises(MissingAssetError, match=rf"Register at .*put gated\.pkl into {folder}"):
        assets.find("gated")
    with pytest.raises(MissingAssetError, match="no asset named 'x'"):
        assets.find("x")


def test_unwritable_folder(folder, table):
    folder.write_text("a file in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        assets.fetch("good")


def test_the_table_is_complete():
    for name, asset in assets.ASSETS.items():
        assert asset.name == name
        assert bool(asset.url) != bool(asset.obtain), name
        assert asset.licence, name
        if asset.sha256 and len(asset.sha256) < 64:
            assert asset.sha256 in asset.file  # the publisher's own prefix
    assert len({asset.file for asset in assets.ASSETS.values()}) == len(assets.ASSETS)
    for name in ("flame2020", "flame2023", "flame2023-open"):
        assert "flame.is.tue.mpg.de" in str(assets.ASSETS[name].obtain)


def test_values_hash_ignores_how_an_npz_was_written(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x"]), "c": np.zeros(2)}
    np.savez(tmp_path / "1.npz", **arrays)
    np.savez_compressed(
        tmp_path / "2.npz",
        **{**arrays, "a": np.asfortranarray(arrays["a"]), "c": -arrays["c"]},
        more=np.ones(2),
    )
    np.savez(tmp_path / "3.npz", **{**arrays, "a": arrays["a"] + 1e-9})
    one, two, three = (assets.members_hash(tmp_path / f"{i}.npz", ("a", "b", "c")) for i in (1, 2, 3))
    assert one == two != three


def test_command_line(folder, table, capsys):
    assert main(["fetch", "good"]) == 0
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "here     good" in printed
    assert "missing  gated" in printed
    assert "Register at https://example.org; file name gated.pkl" in printed
    assert main(["verify"]) == 0
    (folder / "good.bin").write_bytes(b"x")
    assert main(["verify", "good"]) == 1
    assert "DAMAGED" in capsys.readouterr().out
    with pytest.raises(MissingAssetError, match=r"gated\.pkl"):
        main(["verify", "gated"])


@pytest.mark.assets
@pytest.mark.skipif("AVATARZOO_ASSETS" not in os.environ, reason="AVATARZOO_ASSETS is not set")
@pytest.mark.parametrize("name", ["face-landmarker", "mobilefacenet", "skin-clothes-hair", "ict-facekit"])
def test_open_assets_are_the_published_ones(name, tmp_path, monkeypatch):
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path))
    assert assets.verify(name) is True
    asset = assets.describe(name)
    if asset.members:
        assert assets.file_hash(assets.find(name), asset.members) == asset.members_sha256


def test_the_readme_names_the_licence_of_every_asset() -> None:
    lines = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8").splitlines()
    for asset in assets.ASSETS.values():
        (row,) = [line for line in lines if line.startswith(f"| `{asset.name}` |")]
        assert f"| {asset.licence} |" in row
