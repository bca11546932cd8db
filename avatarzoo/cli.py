"""The command line. Everything but fit, validate, test and predict is dispatched before torch is imported."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from typing import Any

APPS = {
    "track": ("avatarzoo.apps.track", "a video to head parameters, crops and masks"),
    "reconstruct": (
        "avatarzoo.apps.reconstruct",
        "a photo to an avatar of Gaussians, a video round it and a PLY",
    ),
    "live": ("avatarzoo.apps.live", "a camera or a video drives an avatar, live"),
    "drive": ("avatarzoo.apps.drive", "a video, parameters or a voice drives an avatar into a video file"),
    "view": (
        "avatarzoo.apps.view",
        "avatars in a browser page: sliders, playback, pictures and videos to keep",
    ),
    "export": (
        "avatarzoo.apps.export",
        "a checkpoint to PLY, glTF, an HTML page, a self-contained avatar file, ONNX or torch.export",
    ),
    "push": ("avatarzoo.apps.push", "an avatar to a model hub, as safetensors and JSON"),
    "pull": ("avatarzoo.apps.pull", "an avatar from a model hub"),
    "verify": ("avatarzoo.apps.verify", "what the content credentials of a video or picture say"),
    "embed": ("avatarzoo.apps.embed", "find the landmark embedding of a head model"),
    "assets": ("avatarzoo.apps.assets", "list, fetch and verify weights and licensed files"),
    "data": ("avatarzoo.apps.data", "what is there of a public data set, and what is missing"),
    "table": ("avatarzoo.apps.table", "result files as a table beside the published numbers"),
    "doctor": ("avatarzoo.apps.doctor", "what works on this machine, and what to do about the rest"),
}
TRAINING = {
    "fit": "train an avatar, then test it and write a preview video",
    "validate": "run the validation loop of a method that has one",
    "test": "score a checkpoint on held-out frames and print the table",
    "predict": "render every frame of the data with a checkpoint",
}

HELP = """usage: avatarzoo COMMAND [options]

avatarzoo: one PyTorch Lightning framework for head avatars.

training and evaluation
{training}

tools
{apps}

examples
  avatarzoo fit -c configs/quickstart.yaml
  avatarzoo fit -c configs/gaussian_dejavu/personalize.yaml --data.video me.mp4 --consent-statement "It is me."
  avatarzoo test -c configs/gaussian_dejavu/personalize.yaml --data.video me.mp4 --ckpt_path runs/personalize/avatar.ckpt
  avatarzoo test -c benchmarks/protocols/dejavu_table4.yaml --data clips/ --layout clips   (a published table on your clips)

avatarzoo COMMAND --help explains a command."""

TRAINING_HELP = """usage: avatarzoo {command} -c CONFIG [options]

{summary}.
{more}
  -c, --config FILE        a complete experiment, e.g. configs/gaussian_dejavu/personalize.yaml; may be repeated
  --data.video FILE        a person's video (monocular experiments)
  --data.NAME VALUE        any option of the data, e.g. --data.batch_size 4
  --model.NAME VALUE       any option of the method, e.g. --model.uv_size 180
  --trainer.NAME VALUE     any option of the Lightning trainer, e.g. --trainer.max_steps 500
  --trainer.default_root_dir DIR   where everything is written
  --evaluator.NAME VALUE   scoring, e.g. --evaluator.lpips alex
  --products.NAME VALUE    what is written besides, e.g. --products.preview false
  --consent FILE           text file: the person agreed; fit on real people needs this, or
  --consent-statement TEXT the same as a text; both are stored in the checkpoint
  --ckpt_path FILE         checkpoint to test, or to go on from; "last" resumes the newest run of the folder
  --print_config           print the whole configuration with every default, and stop
  --help-all               every option with its explanation (slow: imports torch)"""


MORE = {
    "test": """
  avatarzoo test -c benchmarks/protocols/NAME.yaml ... runs a published table instead of an experiment; its options:
  avatarzoo test -c benchmarks/protocols/NAME.yaml --help
"""
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors a user can cause are one sentence on stderr and code 2."""
    args = sys.argv[1:] if argv is None else argv
    command = args[0] if args else "--help"
    if command in ("-h", "--help", "help"):
        return _say(_overview())
    if command == "--version":
        from importlib.metadata import version

        return _say(f"avatarzoo {version('avatarzoo')}")
    if command not in APPS and command not in TRAINING:
        print(f"error: there is no command {command!r}; avatarzoo --help lists them.", file=sys.stderr)
        return 2
    if command == "test" and asks_for_protocol(args[1:]):
        return _guarded("benchmark", args[1:])
    if command in TRAINING and any(a in ("-h", "--help") for a in args[1:]):
        return _say(
            TRAINING_HELP.format(
                command=command, summary=TRAINING[command].capitalize(), more=MORE.get(command, "")
            )
        )
    return _guarded(command, args[1:])


def asks_for_protocol(args: list[str]) -> bool:
    """Whether ``test`` is given a benchmark protocol (a published table) rather than an experiment."""
    from pathlib import Path

    import yaml

    for flag, value in itertools.pairwise(args):
        if flag in ("-c", "--config"):
            path = Path(value)
            files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
            try:
                return bool(files) and "protocol" in yaml.safe_load(files[0].read_text())
            except (OSError, TypeError, yaml.YAMLError):
                return False
    return False


def _say(text: str) -> int:
    print(text)
    return 0


def _overview() -> str:
    training = "\n".join(f"  {name:<10}{text}" for name, text in TRAINING.items())
    apps = "\n".join(f"  {name:<10}{text}" for name, (_, text) in APPS.items())
    return HELP.format(training=training, apps=apps)


def _guarded(command: str, args: list[str]) -> int:
    from avatarzoo.errors import AvatarZooError

    try:
        if command == "benchmark":
            return importlib.import_module("avatarzoo.apps.benchmark").main(args) or 0
        if command in APPS:
            return importlib.import_module(APPS[command][0]).main(args) or 0
        run_training(command, ["--help" if a == "--help-all" else a for a in args])
    except AvatarZooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; finished frames and checkpoints are kept.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def run_training(command: str, args: list[str]) -> Any:
    """Build the Lightning command line and run it; returns the CLI object (tests use it)."""
    from avatarzoo.apps.training import AvatarCLI

    return AvatarCLI.launch(command, args)


if __name__ == "__main__":
    sys.exit(main())
