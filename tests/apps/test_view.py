"""``avatarzoo view`` without a browser: the real server, spoken to as a browser speaks."""

from __future__ import annotations

import importlib.util
import io
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from avatarzoo import cli, models
from avatarzoo.apps import view
from avatarzoo.apps.view_server import ViewServer, check_address, welcome
from avatarzoo.apps.view_stage import Sitter, Studio
from avatarzoo.errors import OutputError
from avatarzoo.models.drawing import identity_of
from avatarzoo.trackers.live_driving import framed

pytest.importorskip("viser")


def beside(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PageClient, Puppet = beside("view_client").PageClient, beside("puppet").Puppet
SIZE = 96


@pytest.fixture(scope="module")
def studio(live_avatar):
    _, module = live_avatar
    state = module.reconstruct()
    rest = framed(module.head, SIZE, identity=identity_of(state))
    puppet = Puppet().eval()
    other = Sitter("puppet", puppet, puppet.generate(3), puppet.head, framed(puppet.head, SIZE))
    return Studio([Sitter("cloud", module, state, module.head, rest), other])


@pytest.fixture(scope="module")
def server(studio):
    made = ViewServer(studio, "127.0.0.1", 0, SIZE, 25.0)
    yield made
    made.close()


@pytest.fixture
def page(server):
    client = PageClient(server.port, aspect=2.0)
    yield client
    client.close()


def test_a_slider_moves_the_picture_and_the_line_says_how_fast(page):
    before = page.settled()
    assert before.shape == (SIZE, 2 * SIZE, 3)
    assert np.ptp(before[:, :SIZE]) > 100
    assert np.ptp(before[:, SIZE:]) > 100
    page.set("Turn head", 40.0)
    after = page.settled()
    assert np.abs(after - before)[:, :SIZE].mean() > 3
    page.press("Reset face")
    assert np.abs(page.settled() - before).max() < 3
    assert any("ms a picture" in str(m["props"].get("_markdown", m["props"])) for m in page.parts.values())
    assert not page.notes


def test_the_camera_orbits_and_comes_back(page):
    before = page.settled()
    page.look((70.7, 0.0, 70.7), (0.0, 0.92388, 0.0, -0.38268))
    assert np.abs(page.settled() - before).mean() > 3
    page.press("Front view")
    assert np.abs(page.settled() - before).mean() < 3
    page.look((0.0, 0.0, 400.0))
    far = page.settled()
    assert (far[:, :SIZE].max(2) > 60).sum() < 0.3 * (before[:, :SIZE].max(2) > 60).sum()


def test_two_browsers_have_their_own_sliders_and_cameras(server, page):
    other = PageClient(server.port, aspect=2.0)
    first, second = page.settled(), other.settled()
    assert np.abs(first - second).max() < 3
    other.set("Turn head", -40.0)
    assert np.abs(other.settled() - second).mean() > 2
    assert np.abs(page.settled() - first).max() < 3
    other.close()


def test_a_browser_that_dies_leaves_the_others_alone(server, page):
    page.settled()
    dying = PageClient(server.port, aspect=2.0)
    dying.settled()
    dying.set("Smile", 0.5)
    dying.socket.socket.close()  # without a word
    page.set("Turn head", 20.0)
    count = len(page.pictures)
    page.set("Turn head", 30.0)
    page.picture(count)
    newcomer = PageClient(server.port)
    assert newcomer.settled().shape == (2 * SIZE, 2 * SIZE, 3)  # both in a row, in a square window
    newcomer.close()
    deadline = time.monotonic() + 20
    while (len(server.pages) > 1 or loops() > 1) and time.monotonic() < deadline:
        time.sleep(0.05)  # a loop ends with the picture that it is drawing
    assert len(server.pages) == 1
    assert loops() == 1


def loops() -> int:
    """Pages that are drawn for."""
    return sum(thread.name == "view" for thread in threading.enumerate())


def test_a_picture_to_keep(page):
    page.settled()
    page.press("Save picture")
    page.wait(lambda: page.files)
    ((name, data),) = page.files.items()
    assert name.startswith("cloud-and-puppet-")
    assert name.endswith("-no-credentials.png")
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (SIZE, 2 * SIZE, 3)


def test_a_video_to_keep(page):
    page.settled()
    page.press("Record video")
    page.part("Stop and save")
    for angle in (10.0, 20.0, 30.0):
        page.set("Turn head", angle)
        time.sleep(0.15)
    page.press("Stop and save")
    page.wait(lambda: page.files)
    ((name, data),) = page.files.items()
    assert name.endswith(".mp4")
    with av.open(io.BytesIO(data)) as file:
        frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    assert 8 <= len(frames) <= 100
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1


def test_avatars_are_chosen_and_pictures_resized(page):
    page.settled()
    page.set("puppet", False)
    assert page.settled().shape == (SIZE, 2 * SIZE, 3)  # the window is wide: one avatar in its middle
    page.set("Size of a picture", "128")
    assert page.settled().shape == (128, 256, 3)
    page.set("cloud", False)  # nobody left: ticked again
    page.wait(lambda: page.parts[page.part("cloud")]["props"].get("value", True))


def test_splats_in_the_browser(page):
    page.settled()
    page.set("Show as", "Splats in the browser")
    page.wait(lambda: ("GaussianSplatsMessage", "/avatar_0") in page.splats)
    page.set("Open mouth", 1.0)
    page.wait(lambda: ("SceneNodeUpdateMessage", "/avatar_0") in page.splats)
    count = len(page.splats)
    page.look((10.0, 0.0, 99.0))
    time.sleep(0.5)
    assert len(page.splats) == count  # the browser's camera is its own business
    page.set("Show as", "Pictures")
    page.wait(lambda: ("RemoveSceneNodeMessage", "/avatar_0") in page.splats)
    assert page.settled().shape == (SIZE, 2 * SIZE, 3)


def test_what_goes_wrong_is_said_and_does_not_end_the_page(page, studio, monkeypatch):
    page.settled()
    with monkeypatch.context() as patch:
        patch.setattr(studio, "draw", lambda request: 1 / 0)
        page.set("Smile", 0.2)
        page.wait(lambda: page.notes)
    count = len(page.pictures)
    page.set("Smile", 0.6)
    page.picture(count)
    assert page.notes == ["division by zero"]


def test_only_the_own_page_is_let_in(server):
    assert welcome("http://localhost:8080", "localhost:8080", "127.0.0.1")
    assert welcome(None, "127.0.0.1:8080", "127.0.0.1")
    assert not welcome("http://elsewhere.example", "127.0.0.1:8080", "127.0.0.1")
    assert not welcome("http://elsewhere.example:8080", "elsewhere.example:8080", "127.0.0.1")
    assert welcome("http://lab7:8080", "lab7:8080", "0.0.0.0")
    assert not welcome("http://elsewhere.example", "lab7:8080", "0.0.0.0")
    stranger = PageClient(server.port, origin="http://elsewhere.example")
    time.sleep(0.7)
    assert not stranger.pictures
    assert not stranger.parts
    stranger.close()


def test_taken_ports_and_foreign_addresses_are_told(server):
    with pytest.raises(OutputError, match="choose another --port"):
        check_address("127.0.0.1", server.port)
    with pytest.raises(OutputError, match="cannot be listened on"):
        check_address("203.0.113.7", 8080)


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs ``avatarzoo view`` with a method that costs nothing; ``during`` is what a browser does meanwhile."""
    puppet = Puppet().eval()
    (tmp_path / "x.ckpt").write_bytes(b"weights")
    monkeypatch.setattr(models, "load_avatar", lambda path, device: puppet)

    def run(*options, during=lambda client: None):
        def visit():
            client = PageClient(found[0].port)
            try:
                during(client)
            finally:
                client.close()
            raise KeyboardInterrupt

        found = []
        serve = view.serve
        monkeypatch.setattr(view, "serve", lambda *a: found.append(serve(*a)) or found[0])
        monkeypatch.setattr(view, "wait", visit)
        args = [
            str(tmp_path / "x.ckpt"),
            "--port",
            "0",
            "--size",
            "64",
            "--device",
            "cpu",
            *map(str, options),
        ]
        return cli.main(["view", *args])

    return run


def test_the_command_plays_a_motion(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AVATARZOO_CONFIG", str(tmp_path / "config"))
    expression = np.zeros((12, Puppet().head.n_expression), np.float32)
    expression[:, 0] = np.linspace(0, 1, 12)
    np.savez(tmp_path / "jaw.npz", expression=expression, fps=np.float32(12))

    def during(client):
        closed = client.settled()
        client.set("Frame", 11)
        opened = client.settled()
        assert (opened.min(2) < 128).sum() > 1.5 * (closed.min(2) < 128).sum()
        count = len(client.pictures)
        client.press("Play")
        client.part("Pause")
        client.wait(lambda: len(client.pictures) > count + 5)
        client.press("Pause")
        client.press("Save all of it as video")
        client.wait(lambda: client.files)
        ((name, data),) = client.files.items()
        assert "no-credentials" not in name
        (tmp_path / name).write_bytes(data)
        assert cli.main(["verify", str(tmp_path / name)]) == 0
        with av.open(io.BytesIO(data)) as file:
            assert sum(1 for _ in file.decode(video=0)) == 12
            assert file.streams.video[0].average_rate == 12

    assert command("--seed", 3, "--with", tmp_path / "jaw.npz", during=during) == 0
    said = capsys.readouterr()
    assert "http://127.0.0.1:" in said.out
    assert "Closed." in said.err


def test_mistakes_are_one_sentence(command, capsys, tmp_path):
    assert command() == 2
    assert "add --image" in capsys.readouterr().err
    assert command("--seed", 1, "--with", tmp_path / "none.mp4") == 2
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit):
        command("--size", 7)


def test_names_tell_avatars_apart():
    assert view.names([Path("a/me.ckpt"), Path("a/you.ckpt")]) == ["me", "you"]
    assert view.names([Path("a/avatar.ckpt"), Path("b/avatar.ckpt")]) == ["a/avatar", "b/avatar"]
    assert view.names([Path("a.ckpt"), Path("a.ckpt")]) == ["1. a", "2. a"]
    assert view.address("127.0.0.1", 80) == "http://127.0.0.1:80"
