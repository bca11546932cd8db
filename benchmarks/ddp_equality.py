"""Two processes with half the batch each against one with the whole: the same losses, step by step, and the same scores.

    python benchmarks/ddp_equality.py OUT                     all methods
    python benchmarks/ddp_equality.py OUT --methods gaussian_dejavu --precision 64-true

Runs one stage of each method for twenty steps on a CPU (gloo), with the command line as anybody would, and compares the logged
losses and, where the run ends with a test, the table's scores. Prints one line of JSON a method: the largest difference of any loss,
absolute and relative to the largest value of that loss, and of any score.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
METHODS: dict[str, tuple[str, int, list[str]]] = {
    # configuration, batch of one of two processes, options
    # stage 2 regularises the mean map of a batch, which is no mean of means: equal in stage 1 only
    "gaussian_dejavu": ("gaussian_dejavu/smoke.yaml", 2, ["--model.stage1_fraction", "1.0"]),
    # groups of four pictures share a statistic in the discriminator; at the usual rate, without momentum, rounding alone makes two
    # runs of a GAN differ visibly after ten steps
    "styleavatar": ("styleavatar/smoke.yaml", 4, ["--data.n_frames", "24", "--model.lr", "1.0e-5", "--model.momentum", "0.9"]),
    "invertavatar": (
        "invertavatar/small_3_recurrent.yaml", 2,
        ["--data.people", "4", "--data.held_out", "1", "--data.length", "6", "--data.first", "900",
         "--data.frames", "2", "--data.fewest", "2", "--data.size", "128", "--model.start", "null",
         "--model.samples", "[4,4]", "--model.raw_resolution", "16"],
    ),
    "nofaplusplus": (
        "nofaplusplus/stage2_small.yaml", 2,
        ["--model.start", "null", "--model.field_warmup", "0", "--model.lambda_surface", "0",
         "--model.raw_resolution", "16", "--model.samples", "[6,6]",
         "--data.people", "4", "--data.held_out", "1", "--data.length", "8", "--data.first", "900"],
    ),
}  # fmt: skip


def train(name: str, processes: int, folder: Path, steps: int, precision: str) -> None:
    config, batch, options = METHODS[name]
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        sys.executable, "-m", "avatarzoo.cli", "fit", "-c", str(ROOT / "configs" / config), *options,
        "--data.batch_size", str(2 * batch // processes), "--trainer.devices", str(processes), "--trainer.accelerator", "cpu",
        "--trainer.max_steps", str(steps), "--trainer.log_every_n_steps", "1", "--trainer.default_root_dir", str(folder),
        "--trainer.num_sanity_val_steps", "0", "--trainer.val_check_interval", str(steps), "--trainer.enable_progress_bar", "false",
        "--trainer.precision", precision, "--products.preview", "false", "--evaluator.baselines", "false", "--evaluator.lpips", "none",
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(f"{name}, {processes} processes: {done.stdout[-1000:]}{done.stderr[-3000:]}")


def losses(folder: Path) -> dict[str, list[float]]:
    """Columns of the log: of training, and of held-out people under ``held_out/``."""
    with (folder / "log" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [n for n in rows[0] if n not in ("step", "epoch")]
    return {n: [float(row[n]) for row in rows if row[n]] for n in names}


def scores(folder: Path) -> dict[str, float]:
    path = folder / "result.json"
    if not path.is_file():
        return {}
    metrics = json.loads(path.read_text())["metrics"]
    return {f"{r}/{m}": value["mean"] for r, row in metrics.items() for m, value in row.items()}


def compare(one: Path, two: Path) -> dict[str, object]:
    a, b = losses(one), losses(two)
    assert a.keys() == b.keys()
    far = {n: max(abs(x - y) for x, y in zip(a[n], b[n])) for n in a if a[n]}
    # the mean of two logarithms is not the logarithm of the mean
    worst = max((n for n in far if "psnr" not in n), key=lambda n: far[n])
    result: dict[str, object] = {"steps": max(map(len, a.values())), "loss": far[worst], "worst": worst}
    result["relative"] = far[worst] / max(map(abs, a[worst]))
    if one_scores := scores(one):
        two_scores = scores(two)
        result["score"] = max(abs(one_scores[k] - two_scores[k]) for k in one_scores)
    return result


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=Path)
    p.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--precision", default="32-true")
    args = p.parse_args()
    for name in args.methods:
        folders = [args.out / f"{name}_{n}" for n in (1, 2)]
        for processes, folder in enumerate(folders, 1):
            train(name, processes, folder, args.steps, args.precision)
        print(json.dumps({"method": name, "precision": args.precision, **compare(*folders)}), flush=True)


if __name__ == "__main__":
    main()
