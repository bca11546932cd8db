"""What each part of the reconstruction loss and its data does, on made-up people and, where given, on real portraits.

    python benchmarks/small_reconstruction/ablations.py runs/ablations [--steps 240] [--cache FOLDER] [--rows full "no view term"]
        [--portraits FOLDER --portraits-test FOLDER --consent-statement TEXT]

Every row trains the small network of configs/gaussian_dejavu/reconstruct_procedural.yaml from nothing for the same number of steps on
the same batches; one thing differs. Real portraits (folders of people tracked with the procedural head) join in one row, at a tenth
of the rate. Written: networks, ablations.json and ablations.png (one held-out person: picture, then each row from both sides and
from a side picture, and the truth). A finished network is not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import torch
import yaml
from scores import batch, measure, psnr
from torch import Tensor

from avatarzoo.apps.consent import consent
from avatarzoo.data.frames import to_float_batch
from avatarzoo.data.multiview import TrackedPeople, batch_of
from avatarzoo.data.multiview_modules import HELD_OUT_FIRST, ProceduralPeopleDataModule
from avatarzoo.data.multiview_procedural import ProceduralPeople
from avatarzoo.evaluation.results import environment
from avatarzoo.files import atomic_path
from avatarzoo.models.gaussian_dejavu import GaussianReconstruction
from avatarzoo.models.gaussian_dejavu.reconstruction_files import load_reconstruction, save_reconstruction
from avatarzoo.models.gaussian_dejavu.uv_gaussians import POSITION, POSITION_UNIT, SCALE

CONFIG = Path(__file__).parents[2] / "configs" / "gaussian_dejavu" / "reconstruct_procedural.yaml"
REAL = "with real portraits"
ROWS: dict[str, dict[str, Any]] = {
    "full": {},
    "no view term": {"lambda_view": 0.0},
    "no position regulariser": {"lambda_position": 0.0},
    "no scale regulariser": {"lambda_scale": 0.0},
    "uniform position weights": {"uniform_weights": True},
    REAL: {},
}
"""Row -> what differs from the configuration. All but the last see synthetic people only."""
MOST_FRAMES = 9
"""Frames of a real person that are measured, spread evenly."""


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("output", type=Path)
    p.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    p.add_argument("--steps", type=int, default=240)
    p.add_argument("--identities", type=int, default=160, help="made-up people to train on")
    p.add_argument("--held-out", type=int, default=8, help="others to measure on")
    p.add_argument("--size", type=int, default=128, help="side of pictures and of both maps")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--cache", help="folder of drawn people")
    p.add_argument("--portraits", help="folder of tracked real people to train on")
    p.add_argument("--portraits-test", help="folder of other tracked real people to measure on")
    p.add_argument("--consent-statement", help="that the real people agreed, or why no consent is needed")
    return p.parse_args()


def main() -> None:
    args = arguments()
    if args.portraits is None and REAL in args.rows:
        args.rows.remove(REAL)
    stated = consent(None, args.consent_statement) if args.portraits else None
    people = ProceduralPeople(HELD_OUT_FIRST, args.held_out, size=args.size, cache=args.cache)
    real = TrackedPeople(args.portraits_test, args.size) if args.portraits_test else None
    found, sheet = {}, []
    for row in args.rows:
        network, seconds = trained(row, args)
        scores, picture = scored(network, people)
        if real is not None:
            scores["real_people"] = [on_real(network, real, person) for person in range(len(real))]
        found[row] = {"differs": ROWS[row], "training_seconds": seconds, **scores}
        sheet.append(picture)
        print(row, json.dumps(found[row]), flush=True)
    facts = {
        "machine": environment(),
        "options": {k: v for k, v in vars(args).items() if k in ("steps", "identities", "held_out", "size", "seed")},
        "measured_on": "procedural people (not real), 25 views each" + (
            "; real_people: their own frames" if real is not None else ""
        ),
        "consent": stated,
        "rows": found,
    }  # fmt: skip
    with atomic_path(args.output / "ablations.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")
    write_sheet(sheet, args.output / "ablations.png")


def trained(row: str, args: argparse.Namespace) -> tuple[GaussianReconstruction, float | None]:
    """The row's network and the seconds of its training, which depend on what else the machine does; ``None`` if it was found."""
    path = args.output / f"{row.replace(' ', '_')}.safetensors"
    if path.is_file():
        return load_reconstruction(path), None
    config = yaml.safe_load(CONFIG.read_text())
    changed = {"uv_size": args.size, "network_size": args.size, "resolutions": [args.size], "seed": args.seed}
    module = GaussianReconstruction(**{**config["model"]["init_args"], **changed, **ROWS[row]})
    data = ProceduralPeopleDataModule(
        identities=args.identities, held_out=1, cache=args.cache, people=2, views=2, size=args.size, seed=args.seed,
        portraits=args.portraits if row == REAL else None,
    )  # fmt: skip
    trainer = L.Trainer(
        max_steps=args.steps, max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0, default_root_dir=args.output,
    )  # fmt: skip
    started = time.perf_counter()
    trainer.fit(module, datamodule=data)
    seconds = round(time.perf_counter() - started, 1)
    save_reconstruction(module, path, args.steps, data.describe())
    return module.eval(), seconds


def scored(network: GaussianReconstruction, people: ProceduralPeople) -> tuple[dict[str, Any], Tensor]:
    """Means over held-out made-up people, and the first one's row of pictures."""
    each = [measure(network, batch(people, person)) for person in range(len(people))]
    scores = {k: round(sum(s[k] for s, _ in each) / len(each), 4) for k in each[0][0]}
    return scores | moved(network, batch(people, 0)), each[0][1]


@torch.no_grad()
def moved(network: GaussianReconstruction, views: dict) -> dict[str, float]:
    """How far offsets go on face and scalp, over all views of one person: millimetres, and logarithms of scales."""
    offsets = network.offsets(views["image"], views["params"], views["camera"])
    shift = offsets[..., POSITION].norm(dim=-1).mean(0) * POSITION_UNIT * 1000
    face = network.uv_map.position_weight > 1
    return {
        "shift_face_mm": round(float(shift[face].mean()), 3),
        "shift_scalp_mm": round(float(shift[~face].mean()), 3),
        "log_scale_change": round(float(offsets[..., SCALE].norm(dim=-1).mean()), 3),
    }


@torch.no_grad()
def on_real(network: GaussianReconstruction, real: TrackedPeople, person: int) -> dict[str, Any]:
    """Facial PSNR of the first frame itself and, reconstructed from it, of other frames."""
    rows = torch.linspace(0, real.count(person) - 1, min(real.count(person), MOST_FRAMES)).long()
    views = to_float_batch(batch_of(real.views(person, rows), torch.zeros(len(rows), dtype=torch.long)), 1.0)
    params, image, camera, face = views["params"], views["image"], views["camera"], views["features"]
    offsets = network.offsets(image[:1], params.rows([0]), camera.rows([0]))
    drawn = network.render(params, offsets, camera).rgb.clamp(0, 1)
    found: dict[str, Any] = {"facial": round(psnr(drawn[:1] * face[:1], image[:1] * face[:1]), 3)}
    if len(rows) > 1:
        found["of_other_frames"] = round(psnr(drawn[1:] * face[1:], image[1:] * face[1:]), 3)
    return found


def write_sheet(rows: list[Tensor], path: Path) -> None:
    picture = (torch.cat(rows, 1).permute(1, 2, 0) * 255).round().byte().numpy()
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
