"""``avatarzoo doctor``: says what works, and what is broken, without a traceback."""

from __future__ import annotations

import importlib

import pytest
import torch

from avatarzoo import cli, render
from avatarzoo.apps import doctor, doctor_assets, doctor_devices
from avatarzoo.apps.doctor_devices import Driver


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
    for word in (
        "Packages",
        "Devices",
        "Renderers",
        "What the files",
        "Assets",
        torch.__version__.split("+")[0],
    ):
        assert word in told
    for backend in ("torch", "cpu"):
        assert lines(told, f"gaussians: {backend} ")[0].strip().startswith("ok")
    line = lines(told, "real people")[0].strip()
    assert line.startswith("note")  # a file one may lack is no fault
    assert "avatarzoo assets fetch ict-facekit" in line


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


def test_torch_and_torchvision_of_different_builds(monkeypatch):
    monkeypatch.setattr(doctor, "CORE", ())
    monkeypatch.setattr(doctor, "_build", {"torch": "cu126", "torchvision": "cpu"}.get)
    found = {f.subject: f for f in doctor.packages()}["torch and torchvision"]
    assert found.state == "missing"
    assert "--torch-backend cu126" in found.detail


@pytest.mark.parametrize(
    ("build", "card", "runs"),
    [
        ("sm_90", (9, 0), True), ("sm_86", (8, 9), True), ("sm_80", (9, 0), False), ("sm_90", (8, 9), False),
        ("compute_80", (9, 0), True), ("compute_120", (12, 0), True), ("compute_120", (7, 0), False),
        ("sm_90a", (9, 0), True), ("sm_90a", (9, 1), False), ("sm_75", (7, 0), False), ("gfx1100", (9, 0), False),
    ],
)  # fmt: skip
def test_which_code_runs_on_which_card(build, card, runs):
    assert doctor_devices.runs_on(build, card) is runs


CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CU128 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
V100, T4, A6000, RTX4090, H100, RTX5090 = (7, 0), (7, 5), (8, 6), (8, 9), (9, 0), (12, 0)


@pytest.mark.parametrize(
    ("builds", "card", "memory", "state", "way"),
    [
        (CU128, V100, 32, "missing", "--torch-backend cu126"),
        (CU126, V100, 32, "ok", "7.0, 32 GiB"),
        (CU126, RTX5090, 32, "missing", "--torch-backend cu128"),
        (CU128, RTX5090, 32, "ok", "12.0"),
        (CU128, T4, 15, "ok", "7.5"),
        (CU128, A6000, 48, "ok", "48 GiB"),
        (CU126, RTX4090, 24, "ok", "8.9"),
        (CU128, RTX4090, 6, "note", "small configs"),
        (["sm_75"], H100, 80, "missing", "regular build"),
    ],
)
def test_cards(monkeypatch, builds, card, memory, state, way):
    from types import SimpleNamespace

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "Card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: card)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: builds)
    properties = SimpleNamespace(total_memory=memory * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: properties)
    found = doctor_devices.card(0)
    assert found.state == state
    assert way in found.detail


@pytest.mark.parametrize(
    ("build", "driver", "hidden", "way"),
    [
        (None, None, None, "everything runs on the CPU"),
        ("13.0", None, None, "no NVIDIA driver"),
        (None, Driver((13, 0)), None, "--torch-backend cu130"),
        (None, Driver((12, 4)), None, "--torch-backend cu126"),
        ("13.0", Driver((12, 8)), None, "driver 580 or newer, or take a torch for it: python -m uv pip install --reinstall "
         "'torch>=2.7' torchvision --torch-backend cu128"),
        ("13.0", Driver((12, 2)), None, "--torch-backend cu126"),
        ("12.8", Driver((11, 8)), None, "driver 525 or newer"),
        ("12.8", Driver((12, 2)), "", "CUDA_VISIBLE_DEVICES= hides"),
        ("12.8", Driver((12, 2)), None, "no card answers"),
    ],
)  # fmt: skip
def test_why_there_is_no_card(monkeypatch, build, driver, hidden, way):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    found = doctor_devices.without_card(build, driver)
    assert found.state == "note"  # the CPU does everything
    assert way in found.detail


@pytest.mark.parametrize(
    ("said", "state", "way"),
    [
        ("release 12.8, V12.8.61", "ok", "12.8"),
        ("release 11.8, V11.8.89", "note", "torch is built for 12.8"),
        (None, "note", "needs the CUDA toolkit 12.8"),
    ],
)
def test_the_compiler_that_gsplat_needs(monkeypatch, said, state, way):
    from types import SimpleNamespace

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(doctor_devices.shutil, "which", lambda _: said and "/usr/local/cuda/bin/nvcc")
    monkeypatch.setattr(doctor_devices.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=said))
    (found,) = doctor_devices.compiler()
    assert found.state == state
    assert way in found.detail


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AVATARZOO_ASSETS", str(tmp_path))
    return tmp_path


def test_features_name_the_missing_file_and_its_source(folder):
    found = {f.subject: f for f in doctor_assets.features()}
    assert {f.state for f in found.values()} == {"note"}
    assert "avatarzoo assets fetch inception" in found["FID"].detail
    assert {"alexnet", "vgg16"} <= set(found["LPIPS"].detail.replace(";", " ").split())
    (folder / "arcface.onnx").touch()
    (folder / "alexnet-owt-7be5be79.pth").touch()
    found = {f.subject: f for f in doctor_assets.features()}
    assert found["identity scores"].state == "ok"  # one of three is enough
    assert "alexnet" not in found["LPIPS"].detail
    assert "vgg16" in found["LPIPS"].detail


def test_every_file_a_feature_names_exists():
    named = {name for feature in doctor_assets.FEATURES for group in feature.files for name in group}
    assert named <= set(doctor_assets.ASSETS)


def test_flame_versions(folder):
    assert list(doctor_assets.flame()) == []
    (folder / "flame2023.pkl").write_bytes(b"numpy arrays")
    first, hint = doctor_assets.flame()
    assert (first.state, hint.state) == ("ok", "note")
    assert "write --head flame2023" in hint.detail
    (folder / "generic_model.pkl").write_bytes(b"cchumpy.ch")
    assert [f.state for f in doctor_assets.flame()] == ["ok", "ok"]
    (folder / "generic_model.pkl").write_bytes(b"numpy arrays")  # FLAME 2023 under the name of 2020
    renamed = next(iter(doctor_assets.flame()))
    assert renamed.state == "note"
    assert "looks like FLAME 2023" in renamed.detail


def test_a_damaged_file_is_named(folder):
    (folder / "MobileFaceNet.onnx").write_bytes(b"half")
    (found,) = [f for f in doctor_assets.assets() if f.subject == "mobilefacenet"]
    assert found.state == "note"
    assert "delete it" in found.detail
