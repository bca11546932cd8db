"""Gaussian Deja-vu, reconstruction from a single picture (paper section 3.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.errors import UsageError
from avatarzoo.geometry.camera import Camera
from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarImage, AvatarModule, AvatarState
from avatarzoo.models.gaussian_dejavu.picture_texture import TEXTURE_CHANNELS, PictureTexture
from avatarzoo.models.gaussian_dejavu.reconstruction_loss import (
    ProgressiveSchedule,
    ReconstructionLoss,
    ReconstructionPreset,
)
from avatarzoo.models.gaussian_dejavu.reconstruction_maps import PositionMap, at_pixels, most_frontal
from avatarzoo.models.gaussian_dejavu.uv_gaussians import CHANNELS, COLOR, Initialization, UVGaussianMap
from avatarzoo.networks.ednet import EDNet, InputRange
from avatarzoo.networks.ops import resize
from avatarzoo.render import rasterize_gaussians
from avatarzoo.render.gaussians import Gaussians
from avatarzoo.render.splatting import Backend


class GaussianReconstruction(AvatarModule):
    """A picture with its head parameters to a drivable head of UV Gaussians: ``U_SIR = U_init + Delta U`` (Figure 2 a).

    Args:
        head, head_file: the head model, as in :class:`GaussianDejaVu`; flame is the paper's.
        uv_size: S, side of the UV map (paper: 320).
        network_size, network_width: working size and first width of the network (published: 320, 64).
        input_range, antialias: see :class:`avatarzoo.networks.ednet.EDNet`.
        texture: give the network what the picture shows under each texel, see :class:`PictureTexture` (ours; published: not);
            training then starts from that picture laid on the head instead of from U_init.
        initialization: U_init; an avatar's personalisation must start from the same.
        preset: loss weights, ``avatarzoo`` or ``paper``; each ``lambda_*`` overrides one weight.
        uniform_weights: ablation without the position weight map (supplement section 6.3).
        lr, lr_decay, lr_decay_every, portrait_rate, resolutions, stage_steps: see :class:`ProgressiveSchedule`; the defaults are
            the paper's.
        targets: pictures that each input is compared with (paper: 1; on a CPU rendering costs far less than the network).
        random_background: compare on a new plain colour behind the head at each step, so that Gaussians outside the head become
            transparent instead of white (ours; the paper compares on white).
        background: grey level behind the network's input and the pictures (paper: white).
        backend: rasteriser.
        seed: of weights, pairs and backgrounds.
        start: a ``reconstruction.safetensors`` of the same network whose weights training starts from, or ``small``, the one that
            comes with avatarzoo.

    Attributes:
        provenance: steps and data of the training that a file of weights tells of; empty otherwise.
    """

    takes_pictures: ClassVar[bool] = True

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        uv_size: int = 320,
        network_size: int = 320,
        network_width: int = 64,
        input_range: InputRange = "uint8",
        antialias: bool = False,
        texture: bool = False,
        initialization: Initialization = "surface",
        preset: ReconstructionPreset = "avatarzoo",
        lambda_rgb: float | None = None,
        lambda_lpips: float | None = None,
        lambda_ssim: float | None = None,
        lambda_position: float | None = None,
        lambda_scale: float | None = None,
        lambda_view: float | None = None,
        uniform_weights: bool = False,
        lr: float = 1e-4,
        lr_decay: float = 0.95,
        lr_decay_every: int = 10_000,
        portrait_rate: float = 0.1,
        resolutions: list[int] = [128, 256, 512],  # noqa: B006 - jsonargparse copies it
        stage_steps: int = 100_000,
        targets: int = 1,
        random_background: bool = True,
        background: float = 1.0,
        backend: Backend = "auto",
        seed: int = 0,
        start: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.provenance: dict[str, Any] = {}
        self.head = load_head(head, head_file)
        self.uv_map = UVGaussianMap(self.head, uv_size, initialization)
        self.position_map = PositionMap(self.head, uv_size)
        self.picture_texture = PictureTexture(self.head, uv_size, background) if texture else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            textures = TEXTURE_CHANNELS if texture else 0
            self.network = EDNet(network_size, network_width, CHANNELS, input_range, antialias, textures)
        # ours (the released training code is not published): the first picture is U_init, whatever the weights
        nn.init.zeros_(self.network.head.weight)
        nn.init.zeros_(self.network.head.bias)
        if texture:
            nn.init.zeros_(self.network.skip.weight)
            nn.init.eye_(self.network.skip.weight.data[COLOR, :3, 0, 0])
        weights = {k.removeprefix("lambda_"): v for k, v in self.hparams.items() if k.startswith("lambda_")}
        self.loss = ReconstructionLoss(preset, weights, uniform_weights)
        self.schedule = ProgressiveSchedule(
            resolutions, stage_steps, lr, lr_decay, lr_decay_every, portrait_rate
        )
        if start is not None:
            from avatarzoo.models.gaussian_dejavu.reconstruction_files import read_weights

            self.network.load_state_dict(read_weights(start, self))

    # ---- the avatar ------------------------------------------------------------------------------------------------

    def offsets(
        self, images: Float[Tensor, "b 3 h w"], params: HeadParams, camera: Camera
    ) -> Float[Tensor, "b n 13"]:
        """Delta U of pictures on the plain background, seen by B cameras, at the Gaussians."""
        vertices = self.head(params.in_head_frame())
        texture = None
        if self.picture_texture is not None:
            seen = camera.after(axis_angle_to_matrix(params.rotation), params.translation)
            texture = self.picture_texture(images, vertices, seen)
        offsets = self.network(images, self.position_map(vertices), texture)
        return at_pixels(offsets, self.uv_map.pixels, self.uv_map.size)

    def gaussians(self, params: HeadParams, offsets: Float[Tensor, "b n 13"]) -> Gaussians:
        """Gaussians in the head frame, where ``params`` put the surface."""
        return self.uv_map.gaussians(self.uv_map.positions(self.head(params.in_head_frame())), offsets)

    def render(
        self, params: HeadParams, offsets: Tensor, camera: Camera, ground: Tensor | None = None
    ) -> AvatarImage:
        """B heads by B cameras in one call; the rigid motion of a head is handed to its camera."""
        seen = camera.after(axis_angle_to_matrix(params.rotation), params.translation)
        if ground is None:
            ground = torch.full((3,), float(self.hparams["background"]), device=offsets.device)
        image = rasterize_gaussians(self.gaussians(params, offsets), seen, ground, self.hparams["backend"])
        return AvatarImage(image.rgb, image.alpha)

    def forward(
        self, images: Tensor, source: HeadParams, source_camera: Camera, target: HeadParams, camera: Camera
    ) -> AvatarImage:
        """Figure 2 (a): reconstruct from ``images`` with their tracking, render as ``target`` seen by ``camera`` (B rows)."""
        return self.render(target, self.offsets(images, source, source_camera), camera)

    @torch.no_grad()
    def reconstruct(self, images=None, params=None, cameras=None) -> AvatarState:
        """The mean of the offsets of one or more pictures of a person (section 3.4), as personalisation reads it.

        Args:
            images: RGB in [0, 1], head on the plain background, as a tracker crops.
            params: of the same pictures; cameras: as many, or one for all.

        Raises:
            UsageError: no picture, or pictures without parameters and cameras.
        """
        if images is None or params is None or cameras is None:
            raise UsageError(
                "GaussianReconstruction needs pictures of a person with their tracked head parameters and cameras."
            )
        cameras = cameras.rows([0] * len(images)) if cameras.batch == 1 else cameras
        each = [
            self.offsets(images[i : i + 1], params.rows(i), cameras.rows([i])) for i in range(len(images))
        ]
        mean = torch.cat(each).mean(0)
        return self._state(mean, params.identity.mean(0, keepdim=True))

    def initial_state(self) -> AvatarState:
        """U_init of the mean person: the head before the network says anything."""
        device = self.uv_map.initial.device
        return self._state(
            torch.zeros(len(self.uv_map), CHANNELS, device=device), self.head.zeros(1, device).identity
        )

    def _state(self, offsets: Float[Tensor, "n 13"], identity: Float[Tensor, "1 i"]) -> AvatarState:
        tensors = {"mean_offsets": self.uv_map.to_map(offsets), "identity": identity}
        meta = {"hyper_parameters": dict(self.hparams), "head": self.head.signature}
        return AvatarState(type(self).__name__, tensors, meta)

    @torch.no_grad()
    def animate(self, state: AvatarState, params: HeadParams, camera: Camera) -> AvatarImage:
        """See :meth:`AvatarModule.animate`.

        Raises:
            HeadModelMismatchError: the state belongs to another head model.
        """
        image = self.render(*self._worn(state, params), camera)
        return AvatarImage(image.rgb.clamp(0, 1), image.alpha)

    @torch.no_grad()
    def gaussians_of(self, state: AvatarState, params: HeadParams) -> Gaussians:
        """The person's Gaussians in the head frame, for PLY export.

        Raises:
            HeadModelMismatchError: the state belongs to another head model.
        """
        return self.gaussians(*self._worn(state, params))

    def _worn(self, state: AvatarState, params: HeadParams) -> tuple[HeadParams, Float[Tensor, "1 n 13"]]:
        """``params`` with the person's identity, and the person's offsets."""
        self.check_head(state.meta["head"])
        device = self.uv_map.initial.device
        identity = state.tensors["identity"].to(device).expand(params.batch, -1)
        offsets = self.uv_map.from_map(state.tensors["mean_offsets"].to(device))
        return params._replace(identity=identity), offsets[None]

    def export(self, folder: str | Path) -> Path:
        """Write ``reconstruction.safetensors``, which ``load_reconstruction`` reads."""
        from avatarzoo.models.gaussian_dejavu.reconstruction_files import save_reconstruction

        path = Path(folder) / "reconstruction.safetensors"
        data = self.trainer.datamodule.describe()  # type: ignore[attr-defined]
        save_reconstruction(self, path, self.global_step, data)
        print(f"Reconstruction network: {path}")
        return path

    # ---- training --------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One Adam for people with several views, one for real portraits (each has its own rate and its own moments)."""
        fused = self.device.type in ("cpu", "cuda")
        return [
            torch.optim.Adam(self.network.parameters(), lr=self.hparams["lr"], fused=fused) for _ in range(2)
        ]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See :meth:`AvatarModule.on_save_checkpoint`; the weights that training started from are not needed again."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["hyper_parameters"] = checkpoint["hyper_parameters"] | {"start": None}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """An update on identities with several views, then one on real portraits (section 4.2)."""
        moment = self.schedule.at(self.global_step)
        generator = torch.Generator().manual_seed(int(self.hparams["seed"]) * 1_000_003 + self.global_step)
        steps = self.optimizers()
        self._update(batch["views"], batch["people"], moment.resolution, moment.lr, steps[0], generator)
        if "portraits" in batch and moment.portraits > 0:
            self._update(batch["portraits"], None, moment.resolution, moment.portraits, steps[1], generator)
        self.log_dict({"resolution": float(moment.resolution), "lr": moment.lr})

    def _update(
        self,
        batch: AvatarBatch,
        people: int | None,
        resolution: int,
        lr: float,
        optimizer: Any,
        generator: torch.Generator,
    ) -> None:
        terms, psnr = self.losses(batch, people, resolution, generator)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        self.manual_backward(torch.stack(list(terms.values())).sum())
        for parameter in self.network.parameters():
            parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        # Lightning counts an update on views and one on portraits as one step
        (optimizer.optimizer if people is None else optimizer).step()
        kind = "portrait" if people is None else "view"
        self.log_dict({f"{kind}_loss/{k}": v.detach() for k, v in terms.items()})
        self.log(f"{kind}_psnr", psnr, prog_bar=True)

    def losses(
        self, batch: AvatarBatch, people: int | None, resolution: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Weighted terms of Eq. 8 and the PSNR.

        Input i predicts, target j is compared: its own picture for portraits, a random one of the same person otherwise, seen by j's
        camera on j's mesh (section 3.3: "we also randomly pair the input and target images").
        """
        offsets = self.offsets(batch["image"], batch["params"], batch["camera"])
        rounds = self.hparams["targets"] if people is not None else 1
        pairs = torch.cat([_pairs(len(offsets), people, generator) for _ in range(rounds)]).to(offsets.device)
        resolution = min(resolution, batch["image"].shape[-1])
        ground = torch.full((3,), float(self.hparams["background"]))
        if self.hparams["random_background"]:
            ground = torch.rand(3, generator=generator)
        target = self._target(batch, ground.to(offsets.device))[pairs]
        camera = batch["camera"].rows(pairs).resized(resolution, resolution)
        heads = offsets.repeat(rounds, 1, 1)
        image = self.render(batch["params"].rows(pairs), heads, camera, ground.to(offsets.device))
        target = resize(target, resolution)
        terms = self.loss.photometric(image.rgb, target)
        terms |= self.loss.regularizers(offsets, self.uv_map, people)
        return terms, _psnr(image.rgb.detach(), target)

    def _target(self, batch: AvatarBatch, ground: Tensor) -> Tensor:
        """Pictures on another plain background."""
        change = (ground - float(self.hparams["background"]))[:, None, None]
        return batch["image"] + change * (1 - batch["mask"])

    # ---- held-out people -------------------------------------------------------------------------------------------

    def validation_step(self, batch: dict[str, AvatarBatch], batch_idx: int) -> None:
        """One person: all views from the most frontal one, before (U_init) and after, and how much views disagree.

        ``facial`` makes both pictures equal outside the face and measures the whole, as the protocols of Tables 2 and 3 do.
        """
        views = batch["views"]
        params, image, camera = views["params"], views["image"], views["camera"]
        rows = range(len(image))
        offsets = torch.cat([self.offsets(image[i : i + 1], params.rows(i), camera.rows([i])) for i in rows])
        source = int(
            most_frontal(axis_angle_to_matrix(params.rotation), views["camera"].world_to_camera.float())
        )
        rendered = self.render(params, offsets[source : source + 1], views["camera"]).rgb.clamp(0, 1)
        before = self.render(params, torch.zeros_like(offsets[:1]), views["camera"]).rgb.clamp(0, 1)
        face = views["features"]
        results = {
            "psnr": _psnr(rendered, image),
            "psnr_facial": _psnr(rendered * face, image * face),
            "psnr_before": _psnr(before, image),
            "psnr_facial_before": _psnr(before * face, image * face),
            "spread": (offsets - offsets.mean(0)).norm(dim=-1).mean(),
        }
        self.log_dict({f"held_out/{k}": v for k, v in results.items()}, batch_size=1)


def _pairs(count: int, people: int | None, generator: torch.Generator) -> Tensor:
    """Target of each picture: a permutation of the pictures within each person's group, the identity for portraits."""
    if people is None:
        return torch.arange(count)
    views = count // people
    return torch.cat([p * views + torch.randperm(views, generator=generator) for p in range(people)])


def _psnr(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean over pictures, data range 1."""
    return -10 * (rendered.clamp(0, 1) - target).square().mean((1, 2, 3)).clamp_min(1e-10).log10().mean()
