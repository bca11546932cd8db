"""A method of another package (examples/fifth_method): fit, test, view and drive take it, and nothing in avatarzoo names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatarzoo import cli
from avatarzoo.apps import view
from avatarzoo.apps.view_stage import Request, View
from avatarzoo.data.video import read_frames
from avatarzoo.errors import BadSequenceError
from avatarzoo.evaluation.results import read_result
from avatarzoo.models import METHODS, load_avatar, method_named

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "fifth_method"


@pytest.fixture(scope="module")
def fitted(fifth_method, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    options = [
        "--trainer.default_root_dir",
        str(folder),
        "--trainer.accelerator",
        "cpu",
        "--evaluator.lpips",
        "none",
    ]
    assert cli.main(["fit", "-c", str(EXAMPLE / "smoke.yaml"), *options]) == 0
    return folder


def test_fit_learns_and_writes_what_was_promised(fitted):
    assert {"avatar.ckpt", "avatar.safetensors", "preview.mp4", "result.json"} <= {
        p.name for p in fitted.iterdir()
    }
    rows = read_result(fitted / "result.json")["metrics"]
    assert rows["avatar"]["psnr"]["mean"] > 15
    assert rows["avatar"]["psnr"]["failures"] == 0


def test_test_scores_a_checkpoint(fitted, tmp_path, capsys):
    options = ["--ckpt_path", str(fitted / "avatar.ckpt"), "--trainer.default_root_dir", str(tmp_path)]
    quiet = ["--trainer.accelerator", "cpu", "--products.preview", "false", "--evaluator.lpips", "none"]
    assert cli.main(["test", "-c", str(EXAMPLE / "smoke.yaml"), *options, *quiet]) == 0
    first, again = (
        read_result(f / "result.json")["metrics"]["avatar"]["psnr"]["mean"] for f in (fitted, tmp_path)
    )
    assert again == pytest.approx(first, abs=1e-3)
    assert "nearest training frame" in capsys.readouterr().out


def test_view_moves_it(fitted):
    args = view.parser().parse_args([str(fitted / "avatar.ckpt"), "--size", "64", "--device", "cpu"])
    studio, _, _ = view.studio_of(args, None)
    rest = Request(View.home(studio.fov), {}, None, (0,), False, 64)
    turned = rest._replace(values={("", "Turn head"): 30.0})
    first, second = (studio.draw(request)[0].astype(int) for request in (rest, turned))
    assert np.ptp(first) > 50
    assert np.abs(first - second).max() > 50


def test_drive_writes_a_video(fitted, tmp_path):
    np.savez(
        tmp_path / "moves.npz",
        translation=np.linspace(0, 0.05, 6)[:, None] * np.eye(3)[:1],
        fps=np.float32(10),
    )
    out = tmp_path / "out.mp4"
    args = [
        str(fitted / "avatar.ckpt"),
        "--with",
        str(tmp_path / "moves.npz"),
        "--out",
        str(out),
        "--size",
        "64",
    ]
    assert cli.main(["drive", *args, "--device", "cpu", "--quiet"]) == 0
    frames = np.stack(list(read_frames(out))).astype(int)
    assert frames.shape == (6, 64, 64, 3)
    assert np.ptp(frames, axis=0).max() > 30


def test_the_package_knows_it_by_its_entry_point_alone(fitted):
    assert method_named("PaintedHead").__name__ == "PaintedHead"
    assert "PaintedHead" not in {m.__name__ for m in METHODS}
    assert method_named("GaussianDejaVu") in METHODS
    assert not [p for p in (ROOT / "avatarzoo").rglob("*.py") if "PaintedHead" in p.read_text()]


def test_a_method_that_is_not_installed_is_one_sentence(fitted, tmp_path):
    content = torch.load(fitted / "avatar.ckpt", weights_only=True)
    torch.save({**content, "avatarzoo_method": "SculptedHead"}, tmp_path / "x.ckpt")
    with pytest.raises(BadSequenceError, match="install the package that SculptedHead comes with"):
        load_avatar(tmp_path / "x.ckpt")


def test_it_is_small():
    lines = [
        len(p.read_text().splitlines()) for p in EXAMPLE.rglob("*") if p.suffix in (".py", ".toml", ".yaml")
    ]
    assert sum(lines) <= 170
