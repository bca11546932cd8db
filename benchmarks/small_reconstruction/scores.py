"""Scores and a contact sheet of a small reconstruction network on made-up people that it was not trained on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import torch
from torch import Tensor

from avatarzoo.data.frames import to_float_batch
from avatarzoo.data.multiview import batch_of
from avatarzoo.data.multiview_modules import HELD_OUT_FIRST
from avatarzoo.data.multiview_procedural import ProceduralPeople
from avatarzoo.evaluation.results import environment
from avatarzoo.files import atomic_path, file_hash
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.models.gaussian_dejavu import GaussianReconstruction
from avatarzoo.models.gaussian_dejavu.reconstruction_files import SMALL_NETWORK, load_reconstruction
from avatarzoo.models.gaussian_dejavu.reconstruction_maps import most_frontal

SHOWN = 5
"""People of the contact sheet."""


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("networks", type=Path, nargs="*", default=[SMALL_NETWORK])
    p.add_argument("--people", type=int, default=8)
    p.add_argument("--first", type=int, default=HELD_OUT_FIRST, help="seed of the first person")
    p.add_argument("--size", type=int, default=128)
    p.add_argument("--cache", help="folder of drawn people")
    p.add_argument("--picture", type=Path, help="contact sheet of the last network")
    p.add_argument("--output", type=Path, help="JSON file for the scores")
    args = p.parse_args()
    people = ProceduralPeople(args.first, args.people, size=args.size, cache=args.cache)
    rows = []
    for path in args.networks:
        network = load_reconstruction(path)
        found = [measure(network, batch(people, i)) for i in range(len(people))]
        scores = {k: round(sum(s[k] for s, _ in found) / len(found), 3) for k in found[0][0]}
        print(path, json.dumps(scores))
        rows.append({"network": path.name, "sha256": file_hash(path), "scores": scores})
    if args.picture:
        sheet = torch.cat([row for _, row in found[:SHOWN]], 1)
        picture = (sheet.permute(1, 2, 0) * 255).round().byte().numpy()
        cv2.imwrite(str(args.picture), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if args.output:
        data = {**people.described, "size": args.size}
        facts = {"machine": environment(), "measured_on": data, "networks": rows}
        with atomic_path(args.output) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n")


def batch(people: ProceduralPeople, person: int) -> dict:
    views = people.views(person)
    return to_float_batch(batch_of(views, torch.zeros(len(views.images), dtype=torch.long)), 1.0)


@torch.no_grad()
def measure(network: GaussianReconstruction, views: dict) -> tuple[dict[str, float], Tensor]:
    """PSNR over all views from the most frontal one and from one 35 degrees aside, before any network, with an untrained one; rows
    input, reconstruction and truth from both sides, input from the side, reconstruction from the front and truth."""
    params, image, camera, face = views["params"], views["image"], views["camera"], views["features"]
    middle = int(most_frontal(axis_angle_to_matrix(params.rotation), camera.world_to_camera))
    inputs = [middle + step for step in (0, -1, 1, -2, 2)]  # a row of the camera grid, from -70 to 70 degrees
    offsets = network.offsets(image[inputs], params.rows(inputs), camera.rows(inputs))
    front, side = (network.render(params, x[None], camera).rgb.clamp(0, 1) for x in offsets[:2])
    nothing = network.render(params, torch.zeros_like(offsets[:1]), camera).rgb.clamp(0, 1)
    plain = untrained(network).offsets(image[inputs[:1]], params.rows(inputs[:1]), camera.rows(inputs[:1]))
    laid = network.render(params, plain, camera).rgb.clamp(0, 1)
    scores = {
        "facial": psnr(front * face, image * face),
        "facial_from_aside": psnr(side * face, image * face),
        "facial_untrained": psnr(laid * face, image * face),
        "facial_before": psnr(nothing * face, image * face),
        "whole": psnr(front, image),
        "whole_untrained": psnr(laid, image),
        "whole_before": psnr(nothing, image),
        "spread": float((offsets - offsets.mean(0)).norm(dim=-1).mean()),
    }
    left, right = middle - 2, middle + 2
    shown = [image[middle], *(x[v] for v in (left, right) for x in (front, image))]
    return scores, torch.cat([*shown, image[middle - 1], side[middle], image[middle]], 2)


def untrained(network: GaussianReconstruction) -> GaussianReconstruction:
    """The same network before its first step: the picture laid on the head, if it is given what the picture shows."""
    return GaussianReconstruction(**{k: v for k, v in network.hparams.items() if k != "start"}).eval()


def psnr(rendered: Tensor, target: Tensor) -> float:
    return float(-10 * (rendered - target).square().mean((1, 2, 3)).clamp_min(1e-10).log10().mean())


if __name__ == "__main__":
    main()
