"""``avatarzoo assets import``: data out of a published checkpoint, one sentence for everything else."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from avatarzoo import cli


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "ffhq.pth"
    state = {"decoder.net.0.weight": torch.randn(64, 32), "decoder.net.0.bias": torch.randn(64)}
    torch.save(
        {
            "G_ema": state,
            "init_kwargs": {"z_dim": 512},
            "optim": {"state": {}, "param_groups": [torch.ones(1)]},
        },
        path,
    )
    return path, state


def test_writes_safetensors_and_json(checkpoint, tmp_path, capsys):
    path, state = checkpoint
    assert cli.main(["assets", "import", str(path), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split(maxsplit=1) == ["G_ema", "state dictionary, 2 tensors, 0.00 M numbers"]
    assert "left out" in said[1]
    assert said[-1] == str(tmp_path / "out")
    written = load_file(tmp_path / "out" / "G_ema.safetensors")
    assert written.keys() == state.keys()
    assert all(torch.equal(written[key], state[key]) for key in state)
    facts = json.loads((tmp_path / "out" / "checkpoint.json").read_text())
    assert facts["meta"] == {"init_kwargs": {"z_dim": 512}}
    assert len(facts["source_sha256"]) == 64


def test_hostile_file_leaves_nothing(tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (tmp_path / "eg3d.pkl").write_bytes(pickle.dumps({"G_ema": Evil()}))
    assert cli.main(["assets", "import", str(tmp_path / "eg3d.pkl"), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "posix.system" in said
    assert "nothing of it was run" in said
    assert [p.name for p in tmp_path.iterdir()] == ["eg3d.pkl"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--expect", "ffhq512-64"], "lacks the tensor"),
        (["--expect", "cars"], "--expect knows no cars; it takes ffhq512-64"),
    ],
)
def test_expected_release_is_checked(more, words, checkpoint, tmp_path, capsys):
    assert cli.main(["assets", "import", str(checkpoint[0]), str(tmp_path / "out"), *more]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_file_and_unwritable_place_are_one_sentence(checkpoint, tmp_path, capsys):
    assert cli.main(["assets", "import", str(tmp_path / "none.pkl"), str(tmp_path / "out")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.main(["assets", "import", str(checkpoint[0]), str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_help_needs_no_torch():
    code = """
import sys
from avatarzoo.cli import main
try:
    main(['assets', 'import', '--help'])
finally:
    assert 'torch' not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nothing" in done.stdout or "without running" in " ".join(done.stdout.split())
