"""``avatarzoo doctor``: says what works, and what is broken, without a traceback."""

from __future__ import annotations

import importlib

import pytest
import torch

from avatarzoo import cli, render
from avatarzoo.apps import doctor


@pytest.fixture(autouse=True)
def no_assets(monkeypatch, tmp_path):
    monkeypatch.delenv("AVATARZOO_ASSETS", raising=False)
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path / "cache"))


def lines(text, word):
    return [line for line in text.splitlines() if word in line]


def test_this_machine_works(capsys):
    code = cli.main(["doctor"])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "MISSING" not in told
    assert "Everything that is needed works." in told
    for word in ("Packages", "Devices", "Renderers", "Assets", torch.__version__.split("+")[0]):
        assert word in told
    for backend in ("torch", "cpu"):
        assert lines(told, f"gaussians: {backend} ")[0].strip().startswith("ok")
    assert lines(told, "flame2020")[0].strip().startswith("note")  # a file one may lack is no fault


@pytest.mark.parametrize("fault", ["raises", "paints nothing"])
def test_a_broken_backend_is_reported(monkeypatch, capsys, fault):
    sound = render.rasterize_gaussians

    def broken(gaussians, camera, background=None, backend="auto"):
        if backend != "cpu":
            return sound(gaussians, camera, backend=backend)
        if fault == "raises":
            raise ImportError("no kernel image")
        image = sound(gaussians, camera, backend=backend)
        return image._replace(rgb=torch.ones_like(image.rgb))

    monkeypatch.setattr(render, "rasterize_gaussians", broken)
    monkeypatch.setattr(doctor, "CORE", ("torch",))
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr()
    line = lines(said.out, "gaussians: cpu")[0]
    assert line.strip().startswith("MISSING")
    assert ("no kernel image" if fault == "raises" else "renders wrongly") in line
    assert lines(said.out, "gaussians: torch")[0].strip().startswith("ok")
    assert "Fix the lines marked MISSING" in said.out
    assert "Traceback" not in said.out + said.err


def test_a_package_that_does_not_import(monkeypatch):
    real = importlib.import_module

    def fail(name, *args):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return real(name, *args)

    monkeypatch.setattr(doctor, "CORE", ("torch", "cv2"))
    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    found = {f.subject: f for f in doctor.packages()}
    assert found["torch"].state == "ok"
    assert found["cv2"].state == "missing"
    assert "opencv-python-headless" in found["cv2"].detail


@pytest.mark.parametrize(
    ("build", "card", "runs"),
    [
        ("sm_90", (9, 0), True), ("sm_86", (8, 9), True), ("sm_80", (9, 0), False), ("sm_90", (8, 9), False),
        ("compute_80", (9, 0), True), ("compute_120", (12, 0), True), ("compute_120", (7, 0), False),
        ("sm_90a", (9, 0), True), ("sm_90a", (9, 1), False), ("sm_75", (7, 0), False), ("gfx1100", (9, 0), False),
    ],
)  # fmt: skip
def test_which_code_runs_on_which_card(build, card, runs):
    assert doctor.runs_on(build, card) is runs


@pytest.mark.parametrize(
    ("builds", "card", "state", "way"),
    [
        (["sm_75", "sm_90", "compute_120"], (7, 0), "missing", "12.6"),
        (["sm_75", "sm_90"], (12, 0), "missing", "12.8"),
        (["sm_75", "sm_90"], (9, 0), "ok", "9.0"),
    ],
)
def test_cards(monkeypatch, builds, card, state, way):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "Card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: card)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: builds)
    found = doctor._card(0)
    assert found.state == state
    assert way in found.detail
