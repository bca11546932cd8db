"""The command line: quick help, one sentence for user errors, explicit options win."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from avatarzoo import cli


@pytest.mark.parametrize("args", [["--help"], ["fit", "--help"], ["test", "--help"], ["--version"], []])
def test_help_needs_no_torch(args: list[str]) -> None:
    code = f"import sys; from avatarzoo.cli import main; c = main({args}); assert 'torch' not in sys.modules; sys.exit(c)"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "avatarzoo" in done.stdout
    # the bar is 1 s on an idle machine; the generous limit only notices a heavy import
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("app", sorted(cli.APPS))
def test_every_app_explains_itself_without_torch(app: str) -> None:
    code = f"""
import sys
from avatarzoo.cli import main
try:
    main(['{app}', '--help'])
finally:
    assert 'torch' not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"avatarzoo {app}" in done.stdout


def test_unknown_command_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fly"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_missing_video_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ["fit", "-c", "configs/gaussian_dejavu/personalize.yaml", "--model.head", "procedural"]
    args += [
        "--model.uv_size",
        "32",
        "--trainer.default_root_dir",
        str(tmp_path),
        "--trainer.accelerator",
        "cpu",
        "--consent-statement",
        "I agree.",
    ]
    assert cli.main(args) == 2
    assert "--data.video" in capsys.readouterr().err.splitlines()[-1]


def test_unwritable_output_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    args = [
        "fit",
        "-c",
        "configs/gaussian_dejavu/smoke.yaml",
        "--trainer.default_root_dir",
        str(tmp_path / "file" / "x"),
    ]
    assert cli.main(args) == 2
    assert "cannot be written" in capsys.readouterr().err.splitlines()[-1]


def test_missing_checkpoint_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ["test", "-c", "configs/gaussian_dejavu/smoke.yaml", "--ckpt_path", str(tmp_path / "no.ckpt")]
    assert cli.main(args) == 2
    assert "There is no checkpoint" in capsys.readouterr().err


class Booby:
    """A checkpoint that tries to run code."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


def test_hostile_checkpoint_is_refused_unexecuted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.save({"hyper_parameters": {"lr": Booby(str(tmp_path / "ran"))}}, tmp_path / "bad.ckpt")
    args = ["test", "-c", "configs/gaussian_dejavu/smoke.yaml", "--ckpt_path", str(tmp_path / "bad.ckpt")]
    assert cli.main(args) == 2
    assert not (tmp_path / "ran").exists()
    assert "is not a checkpoint of avatarzoo" in capsys.readouterr().err


def test_explicit_options_are_recognised() -> None:
    from avatarzoo.apps.training import explicit_model_options

    args = ["-c", "x.yaml", "--model.lr", "0.1", "--model.init_args.gate=paper", "--data.size", "3"]
    assert explicit_model_options(args) == {"lr", "gate"}


def test_a_new_run_never_overwrites_an_old_one(tmp_path: Path) -> None:
    from avatarzoo.apps.training import run_folder

    base = tmp_path / "run"
    assert run_folder(base, new=True) == base
    (base / "last.ckpt").touch()
    second = run_folder(base, new=True)
    assert second.name == "run-2"
    assert run_folder(base, new=False) == base
    (second / "last.ckpt").touch()
    assert run_folder(base, new=False) == second
    assert run_folder(base, new=True).name == "run-3"
