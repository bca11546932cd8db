"""Fenced blocks of the documentation, and what the tests do with the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
FENCE = re.compile(
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
MARK = "not run by the tests"
"""In the title of a block that the tests only parse; the title says why."""
INSTALL = ["python", "-m", "pip", "install", "uv"]
SLOW = (
    "painted_head",
    "avatarzoo doctor",
    "avatarzoo track",
    "avatarzoo reconstruct",
    "out/avatar.ckpt",
    "invertavatar",
    "nofaplusplus",
    "styleavatar",
    ".onnx",
    "--data.video",
    "--procedural",
    "avatarzoo live",
)
"""In blocks that take seconds: they train on a video, or draw volumes."""


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        line: of its fence. title: empty where it has none.
    """

    page: Path
    line: int
    language: str
    title: str
    text: str

    @property
    def run(self) -> bool:
        return MARK not in self.title.lower()

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """Of all pages, in their order."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            line = text[: match.start()].count("\n") + 1
            found.append(Block(page, line, match["language"], match["title"] or "", match["text"]))
    return [block for block in found if not languages or block.language in languages]


def params(found: list[Block]) -> list:
    """For parametrize, the slow ones marked; what pages have in common is run once."""
    said = {b: str(commands(b.text)) if b.language == "sh" else b.text for b in found}
    found = list({said[b]: b for b in reversed(found)}.values())[::-1]
    return [
        pytest.param(b, id=str(b), marks=[pytest.mark.slow] * any(word in b.text for word in SLOW))
        for b in found
    ]


def commands(text: str) -> list[list[str]]:
    """The programs that a shell block calls, one list of words each; what installs uv and what runs in it is taken off."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if words[:4] == ["python", "-m", "uv", "run"]:
                words = words[4:]
            if words and words != INSTALL:
                found.append(words)
    return found


PERSON = ["--model.head", "procedural", "--data.size", "64"]
SHORT = {
    "configs/quickstart.yaml": ["--data.n_frames", "12", "--data.size", "64"],
    "configs/gaussian_dejavu/personalize.yaml": PERSON,
    "configs/styleavatar/video256_cpu.yaml": PERSON,
    "examples/fifth_method/smoke.yaml": ["--data.n_frames", "12"],
}
NETWORK = {
    "configs/quickstart.yaml": ["--model.uv_size", "64"],
    "configs/gaussian_dejavu/personalize.yaml": ["--model.uv_size", "64", "--model.n_blendmaps", "3"],
    "configs/styleavatar/video256_cpu.yaml": [
        "--model.input_size", "32", "--model.output_size", "64", "--model.channel_max", "32",
    ],
}  # fmt: skip
QUICK = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--evaluator.lpips", "none",
         "--products.preview", "false"]  # fmt: skip
SMALL = {
    "drive": ["--device", "cpu", "--size", "64", "--quiet"],
    "live": ["--device", "cpu", "--size", "64", "--quiet"],
    "view": ["--device", "cpu", "--size", "64", "--port", "0"],
    "track": ["--head", "procedural", "--size", "64", "--quiet"],
    "reconstruct": ["--uv-size", "64", "--size", "64", "--seconds", "0.5", "--fps", "4"],
}


def small(args: list[str]) -> list[str]:
    """What is added to a command of avatarzoo so that it takes a second: small pictures, few steps, no GPU."""
    command = args[0]
    if command not in ("fit", "test") or "benchmarks/protocols" in " ".join(args):
        return SMALL.get(command, [])
    config = args[args.index("-c") + 1]
    added = [*QUICK, *SHORT.get(config, [])]
    if command == "fit":
        # the checkpoint that a stopped run goes on from has made 12 steps
        steps = "14" if "last" in args else "2"
        added += ["--trainer.max_steps", steps, *NETWORK.get(config, [])]
    return added
