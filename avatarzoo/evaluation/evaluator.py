"""Scores an avatar on held-out frames, beside two baselines, and writes a result file."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.frames import FrameDataModule, FrameStore, to_float_batch
from avatarzoo.errors import AvatarZooError, MissingAssetError
from avatarzoo.evaluation.baselines import landmark_pixels, nearest_rows
from avatarzoo.evaluation.results import config_hash, write_result
from avatarzoo.evaluation.table import markdown_table
from avatarzoo.files import file_hash
from avatarzoo.metrics import L1, LPIPS, PSNR, SSIM, PerImageMetric

AVATAR, BEFORE, NEAREST = "avatar", "before optimisation", "nearest training frame"


class Evaluator(L.Callback):
    """L1, PSNR, SSIM and LPIPS per picture on the test frames; metric networks live here, never in the module.

    Args:
        lpips: ``auto`` computes LPIPS for the backbones whose real weights are on this machine and says which are missing;
            ``alex`` or ``vgg`` insists; ``none`` leaves it out.
        baselines: also score the nearest training frame and the avatar before optimisation.
        max_failures: share of pictures that may fail before the run is an error.
        output: result file; default ``result.json`` in the trainer's folder.
    """

    def __init__(
        self,
        lpips: Literal["auto", "alex", "vgg", "none"] = "auto",
        baselines: bool = True,
        max_failures: float = 0.0,
        output: str | None = None,
    ) -> None:
        self.lpips, self.baselines, self.max_failures, self.output = lpips, baselines, max_failures, output
        self.rows: dict[str, dict[str, PerImageMetric]] = {}
        self.notes: list[str] = []
        self.result: dict[str, Any] = {}

    def on_test_start(self, trainer: L.Trainer, module: Any) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        module.check_head(data.head_signature)
        self.notes = []
        names = [AVATAR, *((BEFORE, NEAREST) if self.baselines else ())]
        self.rows = {name: self._metrics(module.device) for name in names}
        self.seconds, self.pictures = 0.0, 0
        if self.baselines:
            self.train_frames: FrameStore = data.training_frames()
            self.train_points = landmark_pixels(
                module.head, self.train_frames.params, self.train_frames.camera
            )
            self.initial = module.initial_state()

    def _metrics(self, device: torch.device) -> dict[str, PerImageMetric]:
        metrics: dict[str, PerImageMetric] = {"l1": L1(), "psnr": PSNR(), "ssim": SSIM()}
        for backbone in {"auto": ("alex", "vgg"), "none": ()}.get(self.lpips, (self.lpips,)):
            try:
                metrics[f"lpips_{backbone}"] = LPIPS(backbone)  # type: ignore[arg-type]
            except MissingAssetError as error:
                if self.lpips != "auto":
                    raise
                note = f"LPIPS-{backbone} was not computed: {error}"
                self.notes += [] if note in self.notes else [note]
        return {name: metric.to(device) for name, metric in metrics.items()}

    def on_test_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0) -> None:
        _synchronize(module.device)
        self.started = time.perf_counter()

    @torch.no_grad()
    def on_test_batch_end(
        self, trainer, module, outputs, batch: AvatarBatch, batch_idx, dataloader_idx=0
    ) -> None:
        _synchronize(module.device)
        self.seconds += time.perf_counter() - self.started
        self.pictures += len(batch["image"])
        self._score(AVATAR, outputs.rgb, batch["image"])
        if not self.baselines:
            return
        if self.initial is not None:
            self._score(
                BEFORE, module.animate(self.initial, batch["params"], batch["camera"]).rgb, batch["image"]
            )
        self._score(NEAREST, self._nearest(module, batch, trainer.datamodule), batch["image"])

    def _score(self, row: str, prediction: Tensor, target: Tensor) -> None:
        for metric in self.rows[row].values():
            metric.update(prediction, target)

    def _nearest(self, module: Any, batch: AvatarBatch, data: FrameDataModule) -> Tensor:
        """Training frames whose projected landmarks lie nearest to the held-out ones."""
        points = landmark_pixels(module.head, batch["params"], batch["camera"])
        rows = nearest_rows(points, self.train_points)
        return to_float_batch(self.train_frames.batch(rows), data.background)["image"].to(module.device)

    def on_test_end(self, trainer: L.Trainer, module: Any) -> None:
        if not trainer.is_global_zero:
            return
        rows = {
            name: _summary(metrics)
            for name, metrics in self.rows.items()
            if metrics["psnr"].per_image().numel()
        }
        self.result = self._describe(trainer, module, rows)
        target = Path(self.output) if self.output else Path(trainer.default_root_dir) / "result.json"
        write_result(target, self.result)
        label = (
            "Procedural data: these numbers say nothing about real people.\n"
            if self.result["procedural"]
            else ""
        )
        print(f"\n{label}{markdown_table(rows)}\n\nResult file: {target}", flush=True)
        for note in self.notes:
            print(note)
        failed = max(m["failures"] for m in rows[AVATAR].values()) / max(self.pictures, 1)
        if failed > self.max_failures:
            raise AvatarZooError(f"{failed:.1%} of the pictures could not be scored; see {target}.")

    def _describe(self, trainer: L.Trainer, module: Any, rows: dict[str, Any]) -> dict[str, Any]:
        data = trainer.datamodule  # type: ignore[attr-defined]
        config = {"model": dict(module.hparams), "data": dict(data.hparams)}
        checkpoint = trainer.ckpt_path
        signing = next((c.credentials for c in trainer.callbacks if hasattr(c, "credentials")), None)  # type: ignore[attr-defined]
        return {
            "method": type(module).__name__,
            "head": module.head.signature,
            "procedural": data.is_procedural,
            "data": data.describe(),
            "config": config,
            "config_hash": config_hash(config),
            "checkpoint_sha256": file_hash(checkpoint) if checkpoint and Path(checkpoint).is_file() else None,
            "seed": getattr(data, "seed", None),
            "steps": trainer.global_step,
            "pictures": self.pictures,
            "render_ms_per_picture": round(1000 * self.seconds / max(self.pictures, 1), 2),
            "parameters": sum(p.numel() for n, p in module.named_parameters() if not n.startswith("loss.")),
            "aggregation": "metric per picture, then mean over pictures; data range 1",
            "metrics": rows,
            "notes": self.notes,
            "content_credentials": signing,
        }


def _summary(metrics: dict[str, PerImageMetric]) -> dict[str, dict[str, Any]]:
    """Plain numbers; ``None`` where a picture failed, which mean and deviation leave out."""
    return {name: _numbers(metric) for name, metric in metrics.items()}


def _numbers(metric: PerImageMetric) -> dict[str, Any]:
    values = metric.per_image()
    good = values[torch.isfinite(values)]
    return {
        "mean": float(good.mean()) if len(good) else None,
        "std": float(good.std(correction=0)) if len(good) else None,
        "failures": metric.failures,
        "per_image": [round(x, 5) if math.isfinite(x) else None for x in values.tolist()],
    }


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
