"""Scoring: bad pictures score badly, broken ones count as failures, baselines are what they say, files tell all."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from avatarzoo.data.frames import FrameDataModule, FrameStore
from avatarzoo.errors import AvatarZooError, HeadModelMismatchError, MissingAssetError, OutputError
from avatarzoo.evaluation.evaluator import AVATAR, BEFORE, NEAREST, Evaluator
from avatarzoo.evaluation.results import config_hash, environment, write_result
from avatarzoo.evaluation.table import markdown_table
from avatarzoo.files import file_hash
from avatarzoo.geometry.camera import look_at_face
from avatarzoo.heads.procedural import ProceduralHead
from avatarzoo.models.base import AvatarImage, AvatarModule, AvatarState

SIZE, FRAMES = 24, 20


class Film(FrameDataModule):
    """Noise; held-out frame 18 is training frame 4 once more, 19 is 11."""

    is_procedural = True

    def __init__(self, head) -> None:
        super().__init__(batch_size=2, train_fraction=0.9, background=1.0, seed=3)
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (FRAMES, 3, SIZE, SIZE), generator=generator).byte()
        params = head.zeros(FRAMES)
        params.expression[:] = 0.3 * torch.rand(params.expression.shape, generator=generator)
        params.rotation[:, 1] = torch.linspace(-0.4, 0.4, FRAMES)
        for late, early in ((18, 4), (19, 11)):
            images[late] = images[early]
            for x in params:
                x[late] = x[early]
        full = torch.full((FRAMES, SIZE, SIZE), 255, dtype=torch.uint8)
        self.frames = FrameStore(images, full, full, params, look_at_face(size=SIZE), torch.arange(FRAMES))
        self.head_signature = head.signature

    def describe(self):
        return {"kind": "noise"}


class Painter(AvatarModule):
    """Answers with whatever ``paint`` makes of the target."""

    def __init__(self, head, paint) -> None:
        super().__init__()
        self.save_hyperparameters({"strength": 3})
        self.head, self.paint = head, paint
        self.weight = torch.nn.Parameter(torch.zeros(5))

    def reconstruct(self, images=None, params=None, cameras=None):
        return AvatarState("Painter", {})

    def initial_state(self):
        return self.reconstruct()

    def animate(self, state, params, camera):
        rgb = torch.full((params.batch, 3, SIZE, SIZE), 0.5)
        return AvatarImage(rgb, rgb[:, :1])

    def test_step(self, batch, batch_idx):
        rgb = self.paint(batch["image"].clone())
        return AvatarImage(rgb, rgb[:, :1])


@pytest.fixture(scope="module")
def head():
    return ProceduralHead()


@pytest.fixture(autouse=True)
def no_assets(monkeypatch, tmp_path):
    monkeypatch.delenv("AVATARZOO_ASSETS", raising=False)
    monkeypatch.setenv("AVATARZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def score(head, tmp_path):
    def run(paint, **options):
        evaluator = Evaluator(**options)
        trainer = L.Trainer(
            accelerator="cpu", callbacks=[evaluator], default_root_dir=tmp_path, logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.test(Painter(head, paint), datamodule=Film(head), verbose=False)
        return evaluator

    return run


def black(image):
    return torch.zeros_like(image)


def half_broken(image):
    image[0] = torch.nan
    return image


def test_a_perfect_and_a_black_picture(score):
    good = score(lambda x: x).result["metrics"][AVATAR]
    assert good["l1"]["mean"] == 0
    assert good["psnr"]["mean"] == 100
    assert good["ssim"]["mean"] == pytest.approx(1, abs=1e-4)
    bad = score(black).result["metrics"][AVATAR]
    assert bad["psnr"]["mean"] < 8
    assert bad["ssim"]["mean"] < 0.1
    assert 0.4 < bad["l1"]["mean"] < 0.6
    assert all(m["failures"] == 0 for m in bad.values())


def test_broken_pictures_are_failures_and_fail_the_run(score, tmp_path, capsys):
    with pytest.raises(AvatarZooError, match=r"50\.0% of the pictures"):
        score(half_broken)
    written = json.loads(
        (tmp_path / "result.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON")
    )
    psnr = written["metrics"][AVATAR]["psnr"]
    assert psnr["failures"] == 1
    assert psnr["per_image"] == [None, 100.0]
    assert (psnr["mean"], psnr["std"]) == (100.0, 0.0)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {AVATAR} "))
    assert row.rstrip(" |").endswith("1")
    assert score(half_broken, max_failures=0.5).result["pictures"] == 2


def test_all_broken_shows_a_dash(score, capsys):
    with pytest.raises(AvatarZooError, match=r"100\.0%"):
        score(lambda x: x * torch.nan)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {AVATAR} "))
    assert [c.strip() for c in row.split("|")[2:5]] == ["-", "-", "-"]


def test_baselines(score):
    rows = score(black).result["metrics"]
    assert list(rows) == [AVATAR, BEFORE, NEAREST]
    assert rows[NEAREST]["psnr"]["per_image"] == [100.0, 100.0]  # the identical training frames were found
    assert 9 < rows[BEFORE]["psnr"]["mean"] < 12  # grey against noise
    assert list(score(black, baselines=False).result["metrics"]) == [AVATAR]


def test_result_file_tells_everything(score, head, tmp_path):
    evaluator = score(black, output=str(tmp_path / "deep" / "r.json"))
    written = json.loads((tmp_path / "deep" / "r.json").read_text())
    keys = {
        "format",
        "written",
        "versions",
        "python",
        "device",
        "commit",
        "seed",
        "config_hash",
        "checkpoint_sha256",
    }
    assert keys <= set(written)
    assert written["method"] == "Painter"
    assert written["head"] == head.signature
    assert written["versions"]["torch"] == torch.__version__ or torch.__version__.startswith(
        written["versions"]["torch"]
    )
    assert written["seed"] == 3
    assert written["procedural"] is True
    assert written["config"]["model"] == {"strength": 3}
    assert written["config_hash"] == config_hash(written["config"])
    assert written["pictures"] == 2
    assert written["parameters"] == 5
    assert "picture" in written["aggregation"]
    assert all("failures" in m for row in written["metrics"].values() for m in row.values())
    assert evaluator.result["metrics"] == written["metrics"]


def test_missing_lpips_is_said_or_refused(score, capsys):
    result = score(black).result
    assert not any(name.startswith("lpips") for name in result["metrics"][AVATAR])
    notes = " ".join(result["notes"])
    assert len(result["notes"]) == 2
    assert "LPIPS-alex was not computed" in notes
    assert "alexnet" in notes
    assert "vgg16" in notes
    assert "LPIPS-alex was not computed" in capsys.readouterr().out
    assert score(black, lpips="none").result["notes"] == []
    with pytest.raises(MissingAssetError, match="vgg16"):
        score(black, lpips="vgg")


def test_foreign_data_is_refused(head):
    data = SimpleNamespace(head_signature={"name": "ict", "version": "1", "hash": "0" * 64})
    with pytest.raises(HeadModelMismatchError, match="ict"):
        Evaluator().on_test_start(SimpleNamespace(datamodule=data), Painter(head, black))


# ---- files and tables ------------------------------------------------------------------------------------------------


def test_a_failed_write_keeps_the_old_result(tmp_path, monkeypatch):
    path = write_result(tmp_path / "result.json", {"procedural": True, "metrics": {}, "pictures": 30})
    old, write = path.read_text(), Path.write_text

    def full(self, text, *args, **kwargs):
        write(self, text[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        write_result(path, {"procedural": True, "metrics": {}, "pictures": 31})
    assert path.read_text() == old
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_hashes(tmp_path):
    assert config_hash({"a": 1, "b": {"c": 2}}) == config_hash({"b": {"c": 2}, "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})
    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_environment_without_git(monkeypatch):
    from avatarzoo.evaluation import results

    def missing(*args, **kwargs):
        raise FileNotFoundError("git")

    monkeypatch.setattr(results.subprocess, "run", missing)
    told = environment()
    assert told["commit"] is None
    assert "avatarzoo" in told["versions"]


def test_table():
    """Columns in a fixed order, a dash where a row lacks a metric, no column that no row has."""
    rows = {
        "avatar": {"psnr": {"mean": 30.123, "failures": 2}, "l1": {"mean": 0.01, "failures": 0}},
        "other": {"psnr": {"mean": float("nan"), "failures": 4}, "lpips_vgg": {"mean": 0.25, "failures": 0}},
    }
    lines = markdown_table(rows).splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "L1 ↓", "PSNR ↑", "LPIPS-vgg ↓", "failed pictures"]
    assert set(lines[1]) == {"|", "-"}
    assert cells[2] == ["avatar", "0.0100", "30.12", "-", "2"]
    assert cells[3] == ["other", "-", "-", "0.2500", "4"]
    assert len({len(line) for line in lines}) == 1
