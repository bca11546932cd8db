"""The whole method: what is learnt, how it is drawn, and the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads import load_head
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarImage, AvatarModule, AvatarState
from avatarzoo.render.mesh import interpolate, rasterize_mesh, texture_lookup


class PaintedHead(AvatarModule):
    """A person as one painting on a head model, and a change of it for every expression coefficient.

    Learnt from a tracked video. There is nothing outside of the mesh, so hair is paint on the scalp.

    Args:
        head: name of the head model. head_file: the user's own model file, where the head needs one.
        uv_size: side of the painting.
        lr: learning rate of Adam. lambda_folds: weight of the mean square of what expressions change.
        background: grey level behind the head.
    """

    def __init__(
        self,
        head: str = "procedural",
        head_file: str | None = None,
        uv_size: int = 128,
        lr: float = 0.02,
        lambda_folds: float = 0.1,
        background: float = 1.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()  # plain values only: checkpoints are read with weights_only=True
        self.head = load_head(head, head_file)
        self.painting = nn.Parameter(torch.full((3, uv_size, uv_size), 0.5))
        self.folds = nn.Parameter(torch.zeros(self.head.n_expression, 3, uv_size, uv_size))
        self.register_buffer("identity", torch.zeros(1, self.head.n_identity))

    # ---- what every method answers

    @torch.no_grad()
    def reconstruct(self, images=None, params=None, cameras=None) -> AvatarState:
        """The person of this checkpoint; pictures are not needed."""
        tensors = {"painting": self.painting, "folds": self.folds, "identity": self.identity}
        return AvatarState("PaintedHead", tensors, {"head": self.head.signature})

    def animate(self, state: AvatarState, params: HeadParams, camera: Camera) -> AvatarImage:
        """Raises HeadModelMismatchError when the person was learnt with another head model."""
        self.check_head(state.meta["head"])
        image = torch.func.functional_call(self, state.tensors, (params, camera))
        return image._replace(rgb=image.rgb.clamp(0, 1))

    # ---- how it is drawn

    def forward(self, params: HeadParams, camera: Camera) -> AvatarImage:
        head = self.head
        vertices = head(params._replace(identity=self.identity.expand(params.batch, -1)))
        fragments = rasterize_mesh(vertices.detach(), head.faces, camera)
        places = interpolate(fragments, head.faces, head.uv[None], head.uv_faces)
        alpha = fragments.covered[:, None].float()
        painted = self.painting + torch.einsum("be,ecuv->bcuv", params.expression, self.folds)
        ground = float(self.hparams["background"])
        return AvatarImage(texture_lookup(painted, places, alpha) + ground * (1 - alpha), alpha)

    # ---- how it is learnt

    def on_fit_start(self) -> None:
        """The head's shape: the mean of what was tracked."""
        data = self.trainer.datamodule
        self.check_head(data.head_signature)
        self.identity.copy_(data.training_params().to(self.device).identity.mean(0, keepdim=True))

    def training_step(self, batch: AvatarBatch, batch_idx: int) -> Tensor:
        image = self(batch["params"], batch["camera"])
        error = ((image.rgb - batch["image"]).abs() * image.alpha).mean()
        loss = error + self.hparams["lambda_folds"] * self.folds.square().mean()
        self.log("l1", error, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam([self.painting, self.folds], lr=self.hparams["lr"])

    def test_step(self, batch: AvatarBatch, batch_idx: int) -> AvatarImage:
        return self.animate(self.reconstruct(), batch["params"], batch["camera"])

    predict_step = test_step
