"""Gaussian Deja-vu, personalisation from a monocular video (paper section 3.4)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarImage, AvatarModule, AvatarState
from avatarzoo.models.gaussian_dejavu.blendmaps import BlendGate, Gate
from avatarzoo.models.gaussian_dejavu.objective import PersonalizationLoss, Preset, psnr_of
from avatarzoo.models.gaussian_dejavu.start import baked_offsets, reconstructed_offsets
from avatarzoo.models.gaussian_dejavu.uv_gaussians import CHANNELS, Initialization, UVGaussianMap
from avatarzoo.render import rasterize_gaussians
from avatarzoo.render.gaussians import Gaussians
from avatarzoo.render.splatting import Backend


class GaussianDejaVu(AvatarModule):
    """A person as UV Gaussians on a head model, learnt from a tracked video in two stages.

    Stage 1 learns one map for all frames, Delta U_global (Eq. 9); stage 2 learns D blendmaps that expressions mix (Eq. 11). Both
    minimise Eq. 8 without the view term. Rigid head motion lives in the camera; Gaussians live in the head frame.

    Args:
        head: name of the head model (``procedural``, ``ict``, ``flame``, ``faceverse``); flame is the paper's.
        head_file: the user's own model file, where the head needs one.
        uv_size: S, side of the UV map (paper: 320).
        mean_offsets: safetensors file with ``mean_offsets`` (S, S, 13) of the reconstruction network; none starts from zeros.
        reconstruction: the reconstruction network itself (``small`` comes with avatarzoo, else reconstruction.safetensors); the mean
            of what it says of sixteen training frames is the start (section 3.4).
        initialization: ``surface`` (ours, for a start without a network), ``paper`` or ``official_release``.
        bake_colors: start from the mean colour of the training frames under each Gaussian (ours).
        preset: loss weights, ``avatarzoo``, ``paper`` or ``official_release``; each ``lambda_*`` overrides one weight.
        stage1_fraction: share of the steps for stage 1 (paper: 3:7); 1 switches blendmaps off.
        n_blendmaps: D (paper: 10).
        gate, gate_temperature: how expressions become blending weights.
        lr: Adam learning rate in offset units (paper: 0.05), times ``lr_position`` ... ``lr_color`` per channel group.
        lr_blend: learning rate of stage 2 relative to ``lr``.
        lr_decay: factor applied ``lr_decays`` times over each stage.
        coarse_fraction: share of stage 1 rendered at half the picture size (ours; the paper trains at 512 throughout).
        random_background: train on a new plain colour behind the head at each step, so that Gaussians outside the head become
            transparent instead of white (ours; the paper trains on white).
        background: grey level behind the head (paper: white).
        backend: rasteriser.
    """

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        uv_size: int = 320,
        mean_offsets: str | None = None,
        reconstruction: str | None = None,
        initialization: Initialization = "surface",
        bake_colors: bool = True,
        preset: Preset = "avatarzoo",
        lambda_rgb: float | None = None,
        lambda_features: float | None = None,
        lambda_lpips: float | None = None,
        lambda_ssim: float | None = None,
        lambda_position: float | None = None,
        lambda_scale: float | None = None,
        lambda_blend: float | None = None,
        lambda_rough: float | None = None,
        stage1_fraction: float = 0.3,
        n_blendmaps: int = 10,
        gate: Gate = "clusters",
        gate_temperature: float = 1.0,
        lr: float = 0.05,
        lr_position: float = 1.0,
        lr_scale: float = 1.0,
        lr_rotation: float = 1.0,
        lr_opacity: float = 1.0,
        lr_color: float = 1.0,
        lr_blend: float = 1.0,
        lr_decay: float = 0.9,
        lr_decays: int = 20,
        coarse_fraction: float = 0.3,
        random_background: bool = True,
        background: float = 1.0,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.head = load_head(head, head_file)
        self.uv_map = UVGaussianMap(self.head, uv_size, initialization)
        overrides = {k: v for k, v in self.hparams.items() if k.startswith("lambda_")}
        self.loss = PersonalizationLoss(preset, overrides)
        count = len(self.uv_map)
        self.global_delta = nn.Parameter(torch.zeros(count, CHANNELS))
        self.blend_residual = nn.Parameter(torch.zeros(n_blendmaps, count, CHANNELS))
        self.gate = BlendGate(n_blendmaps, self.head.n_expression)
        self.register_buffer("mean_offsets", self._read_mean_offsets(mean_offsets))
        self.register_buffer("identity", torch.zeros(1, self.head.n_identity))
        self.register_buffer("stage", torch.tensor(1))
        gains = [lr_position] * 3 + [lr_scale] * 3 + [lr_rotation] * 3 + [lr_opacity] + [lr_color] * 3
        # under Adam a gain on the parameter is a learning rate of its own for that channel
        self.register_buffer("gain", torch.tensor(gains), persistent=False)

    def _read_mean_offsets(self, path: str | None) -> Tensor:
        if path is None:
            return torch.zeros(len(self.uv_map), CHANNELS)
        try:
            offsets = load_file(path)["mean_offsets"]
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise UsageError(
                f"--model.mean_offsets {path} cannot be read ({type(error).__name__}); give a safetensors file with mean_offsets."
            ) from error
        return self.uv_map.from_map(offsets)

    # ---- the avatar ------------------------------------------------------------------------------------------------

    def offsets(self, expression: Float[Tensor, "b e"]) -> tuple[Tensor, Tensor, Tensor | None]:
        """All offsets to U_init of Eq. 9 or 11, the learnt part, and the expression-dependent residual.

        Shapes ``(1 or B, N, 13)``. Blendmaps start as copies of the global map and their weights sum to one, so
        ``sum_i b_i B_i = global + sum_i b_i (B_i - global)``: the residuals are what is stored and learnt.
        """
        delta, residual = self.global_delta[None], None
        if int(self.stage) == 2:
            weights = self.gate(expression)
            residual = (weights @ self.blend_residual.flatten(1)).view(len(weights), -1, CHANNELS)
            delta = delta + residual
        return self.mean_offsets + delta * self.gain, delta, residual

    def gaussians(self, params: HeadParams, offsets: Float[Tensor, "b n 13"]) -> Gaussians:
        """Gaussians in the head frame for B expressions."""
        surface = self.uv_map.positions(self.head(params.in_head_frame()))
        return self.uv_map.gaussians(surface, offsets)

    @torch.no_grad()
    def gaussians_at(self, params: HeadParams) -> Gaussians:
        params = params._replace(identity=self.identity.expand(params.batch, -1))
        return self.gaussians(params, self.offsets(params.expression)[0])

    def render(
        self, params: HeadParams, offsets: Tensor, camera: Camera, ground: Tensor | None = None
    ) -> AvatarImage:
        """Rasterise; the rigid motion of the head is handed to the camera (fact sheet section 1, "Positions")."""
        seen = camera.after(axis_angle_to_matrix(params.rotation), params.translation)
        if ground is None:
            ground = torch.full((3,), float(self.hparams["background"]), device=offsets.device)
        image = rasterize_gaussians(self.gaussians(params, offsets), seen, ground, self.hparams["backend"])
        return AvatarImage(image.rgb, image.alpha)

    def forward(self, params: HeadParams, camera: Camera) -> AvatarImage:
        """Figure 2 (b): expression and pose of ``params`` (B rows), one camera or B."""
        params = params._replace(identity=self.identity.expand(params.batch, -1))
        return self.render(params, self.offsets(params.expression)[0], camera)

    @torch.no_grad()
    def reconstruct(self, images=None, params=None, cameras=None) -> AvatarState:
        tensors = {
            "mean_offsets": self.mean_offsets,
            "global_delta": self.global_delta,
            "gate.weight": self.gate.weight,
            "gate.bias": self.gate.bias,
            "identity": self.identity,
            "stage": self.stage,
        }
        if int(self.stage) == 2:
            tensors["blend_residual"] = self.blend_residual
        meta = {"hyper_parameters": dict(self.hparams), "head": self.head.signature}
        return AvatarState(type(self).__name__, tensors, meta)

    def animate(self, state: AvatarState, params: HeadParams, camera: Camera) -> AvatarImage:
        """See :meth:`AvatarModule.animate`.

        Raises:
            HeadModelMismatchError: the state belongs to another head model.
        """
        self.check_head(state.meta["head"])
        image = torch.func.functional_call(self, state.tensors, (params, camera))
        return AvatarImage(image.rgb.clamp(0, 1), image.alpha)

    # ---- training --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def adapt(self, progress=print) -> None:
        """Gather what the training frames say before the first step: identity, gate, baked colours."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.check_head(data.head_signature)
        params: HeadParams = data.training_params().to(self.device)
        self.identity.copy_(params.identity.mean(0, keepdim=True))
        hp = self.hparams
        self.gate.fit(self.head, params.expression, hp["gate"], hp["gate_temperature"])
        if hp["reconstruction"] is not None:
            progress("Reconstructing the person from the training frames")
            self.mean_offsets.copy_(reconstructed_offsets(self, data.spread_batch(16)))
        elif hp["bake_colors"] and hp["mean_offsets"] is None:
            progress("Baking a first texture from the training frames")
            self.mean_offsets.copy_(baked_offsets(self, data.spread_batch(16)))

    def on_fit_start(self) -> None:
        if self.global_step == 0:
            self.adapt()

    def configure_optimizers(self):
        fused = self.device.type in ("cpu", "cuda")
        first = torch.optim.Adam([self.global_delta], lr=self.hparams["lr"], fused=fused)
        second = torch.optim.Adam([self.blend_residual], lr=self.hparams["lr"], fused=fused)
        return [first, second]

    def _schedule(self) -> tuple[int, int, float]:
        """``(stage, step within the stage, learning rate)`` of this step; the split is the paper's 3:7 by default."""
        hp, total = self.hparams, self.trainer.max_steps
        boundary = round(hp["stage1_fraction"] * total)
        stage = 1 if self.global_step < boundary else 2
        step = self.global_step - (boundary if stage == 2 else 0)
        length = boundary if stage == 1 else total - boundary
        decays = step * hp["lr_decays"] // max(length, 1)
        lr = hp["lr"] * hp["lr_decay"] ** decays * (hp["lr_blend"] if stage == 2 else 1.0)
        return stage, step, lr

    def training_step(self, batch: AvatarBatch, batch_idx: int) -> Tensor:
        """One step on Eq. 8 (without L_view): stage 1 moves the global map, stage 2 the blendmaps."""
        stage, step, lr = self._schedule()
        self.stage.fill_(stage)
        self.global_delta.requires_grad_(stage == 1)
        self.blend_residual.requires_grad_(stage == 2)
        batch = self._coarse(batch, stage, step)
        params = batch["params"]._replace(identity=self.identity.expand(len(batch["image"]), -1))
        offsets, delta, residual = self.offsets(params.expression)
        ground, target = self._ground(batch)
        image = self.render(params, offsets, batch["camera"], ground)
        terms = self.loss.photometric(image.rgb, target, batch["features"], stage, step)
        terms |= self.loss.regularizers(delta, residual, self.uv_map)
        total = torch.stack(list(terms.values())).sum()
        self._update(total, self.optimizers()[stage - 1], lr)
        self.log_dict({f"loss/{k}": v.detach() for k, v in terms.items()})
        self.log_dict({"psnr": psnr_of(image.rgb, target), "stage": float(stage)}, prog_bar=True)
        return total.detach()

    def _update(self, loss: Tensor, optimizer: Any, lr: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr
            for parameter in group["params"]:
                parameter.grad = None
        self.manual_backward(loss)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                # released code: a step with any NaN gradient is skipped; here only those entries rest
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        optimizer.step()

    def _ground(self, batch: AvatarBatch) -> tuple[Tensor, Tensor]:
        """Colour behind the head at this step (a function of the step alone, so that resumed runs agree), and the target on it."""
        old = float(self.hparams["background"])
        if not self.hparams["random_background"]:
            return torch.full((3,), old, device=self.device), batch["image"]
        generator = torch.Generator().manual_seed(7919 + self.global_step)
        ground = torch.rand(3, generator=generator).to(self.device)
        return ground, batch["image"] + (ground - old)[:, None, None] * (1 - batch["mask"])

    def _coarse(self, batch: AvatarBatch, stage: int, step: int) -> AvatarBatch:
        """The batch at half size during the first part of stage 1."""
        boundary = round(self.hparams["stage1_fraction"] * self.trainer.max_steps)
        if stage == 2 or step >= self.hparams["coarse_fraction"] * boundary:
            return batch
        height, width = (n // 2 for n in batch["image"].shape[-2:])
        small = {k: nn.functional.avg_pool2d(batch[k], 2) for k in ("image", "mask", "features")}  # type: ignore[literal-required]
        return {**batch, **small, "camera": batch["camera"].resized(height, width)}  # type: ignore[typeddict-item]

    def test_step(self, batch: AvatarBatch, batch_idx: int) -> AvatarImage:
        image = self(batch["params"], batch["camera"])
        return AvatarImage(image.rgb.clamp(0, 1), image.alpha)

    def predict_step(self, batch: AvatarBatch, batch_idx: int) -> AvatarImage:
        return self.test_step(batch, batch_idx)

    def initial_state(self) -> AvatarState:
        """The avatar before optimisation (a baseline of every result table)."""
        state = self.reconstruct()
        state.tensors |= {"global_delta": torch.zeros_like(self.global_delta), "stage": torch.tensor(1)}
        state.tensors.pop("blend_residual", None)
        return state
