"""Pictures of a person as they come: cropped, checked, and taken into what is known of the person (section 3.4)."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from avatarzoo.data.batch import AvatarBatch
from avatarzoo.data.eg3d_views import eg3d_crop, eg3d_labels
from avatarzoo.errors import HeadModelMismatchError, NoFaceError
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.models.invertavatar.assembly import Aggregation
from avatarzoo.models.invertavatar.inversion import Frames, Inversion, Person
from avatarzoo.models.invertavatar.person import merged
from avatarzoo.networks.irse import batch_statistics

OTHER_PERSON = 0.0025
"""Metres, root mean square over the skin, between two shapes of a head that are taken for different people. Made-up people lie 3 to 10
millimetres apart; numbers that are off by a fifth of their spread move the skin by one."""
CROPPED = 16
"""Pictures that are cropped at a time, so that memory does not grow with their number."""


class Known(NamedTuple):
    """A person so far: features, mean identity numbers, pictures that were used and that were skipped."""

    person: Person | None
    identity: Float[Tensor, "1 i"]
    frames: int = 0
    skipped: int = 0


class Stream:
    """Takes pictures in, any number at a time.

    Args:
        networks: prior and encoders. head: the head model of all parameters.
        fusing: how several pictures become one person; ``first`` reads the first alone (E_latent).
        chunk: pictures in a pass of the encoders, and the length of fixed windows.
        official: decoders use the statistics of the frames at hand, as in the released script.
        background: grey level beside crops.
    """

    def __init__(
        self,
        networks: Inversion,
        head: HeadModel,
        fusing: Aggregation | str,
        chunk: int,
        official: bool,
        background: float,
    ) -> None:
        self.networks, self.head, self.fusing = networks, head, fusing
        self.chunk, self.official, self.background = chunk, official, background

    def extended(self, known: Known, batch: AvatarBatch) -> Known:
        """The person after the pictures of ``batch``; those without a face are skipped and counted.

        Raises:
            NoFaceError: no picture with a face so far. HeadModelMismatchError: parameters of another head model.
        """
        images, params, camera = batch["image"], batch["params"], batch["camera"]
        check_widths(self.head, params)
        count = len(images)
        camera = Camera(
            camera.world_to_camera.expand(count, 4, 4), camera.intrinsics.expand(count, 3, 3), camera.size
        )
        good = usable(images, params, camera).nonzero()[:, 0]
        known = known._replace(skipped=known.skipped + len(images) - len(good))
        if len(good) < len(images):
            warnings.warn(
                f"{len(images) - len(good)} of {len(images)} pictures show no face; they are skipped.",
                stacklevel=4,
            )
        if len(good) == 0 and known.person is None:
            raise NoFaceError(
                f"None of the {len(images)} pictures shows a tracked face; give a picture in which a face is seen."
            )
        for some in good.split(CROPPED) if len(good) else ():
            known = self._next(known, images[some], params.rows(some), camera.rows(some))
        return known

    def _next(self, known: Known, images: Tensor, params: HeadParams, camera: Camera) -> Known:
        """After some good pictures."""
        shown = self.cropped(images, params, camera)
        first = shown.params.identity[:1] if known.frames == 0 else known.identity
        self.compare(first, shown.params.identity)
        total = known.frames + len(images)
        identity = (known.identity * known.frames + shown.params.identity.sum(0, keepdim=True)) / total
        return Known(self._fused(known, shown), identity, total, known.skipped)

    def _fused(self, known: Known, shown: Frames) -> Person:
        networks, old = self.networks, known.person
        if self.fusing == "first":
            return old or networks.coarse(networks.codes(shown.image[:1]))
        if self.fusing != "recurrent":
            new = self._windows(shown)
            return new if old is None else merged(old, new, known.frames, len(shown.image))
        given = (None,) if old is None else (old.codes, old.memories)
        if not self.official:
            return networks(shown, 1, *given, chunk=self.chunk)
        encoders = networks.encoders
        with batch_statistics(encoders.texture.unet.blocks, encoders.triplane.unet.blocks):
            return networks(shown, 1, *given, chunk=self.chunk)

    def _windows(self, shown: Frames) -> Person:
        """The mean of what single pictures, or windows of pictures, give (section 4.2.3)."""
        window = 1 if self.fusing == "mean" else self.chunk
        whole, seen = None, 0
        for rows in torch.arange(len(shown.image), device=shown.image.device).split(window):
            person = self.networks(shown.rows(rows), 1, chunk=window)
            whole = person if whole is None else merged(whole, person, seen, len(rows))
            seen += len(rows)
        assert whole is not None
        return whole

    def compare(self, known: Float[Tensor, "1 i"], identity: Float[Tensor, "b i"]) -> None:
        """Warn of pictures that seem to show different people."""
        farthest = float(shape_distance(self.head, known, identity.unique(dim=0)).max())
        if farthest > OTHER_PERSON:
            warnings.warn(
                f"The pictures seem to show different people (tracked head shapes lie {1000 * farthest:.1f} mm apart); give pictures "
                "of one person.",
                stacklevel=5,
            )

    def cropped(self, images: Float[Tensor, "b 3 h w"], params: HeadParams, camera: Camera) -> Frames:
        """EG3D's crops of tracked pictures on the plain background."""
        device = self.networks.encoders.mean_code.device
        moved = images.to(device), None, params.to(device), camera.to(device)
        return as_frames(eg3d_crop(*moved, self.networks.size, self.background))


def as_frames(batch: AvatarBatch) -> Frames:
    """Pictures that are EG3D's crops already."""
    label = eg3d_labels(batch["params"], batch["camera"])
    return Frames(batch["image"], batch["params"], batch["camera"], label)


def check_widths(head: HeadModel, params: HeadParams) -> None:
    """
    Raises:
        HeadModelMismatchError: as many numbers as another head model has.
    """
    given = params.identity.shape[1], params.expression.shape[1]
    if given != (head.n_identity, head.n_expression):
        raise HeadModelMismatchError(
            f"These parameters have {given[0]} identity and {given[1]} expression numbers, {head.name} has {head.n_identity} and "
            f"{head.n_expression}; track the pictures with --head {head.name}."
        )


def usable(images: Tensor, params: HeadParams, camera: Camera) -> Tensor:
    """``(B,)`` bool: pictures with finite pixels and parameters; trackers write nan where there is no face."""
    parts = [images, *params, camera.world_to_camera]
    return torch.stack([torch.isfinite(x).flatten(1).all(1).cpu() for x in parts]).all(0)


@torch.no_grad()
def shape_distance(
    head: HeadModel, one: Float[Tensor, "1 i"], others: Float[Tensor, "b i"]
) -> Float[Tensor, " b"]:
    """Root mean square distance in metres between the skins of heads at rest."""
    skin = head.faces[head.face_regions["skin"]].unique()
    rest = head.zeros(1, others.device)
    first = head(rest._replace(identity=one))[:, skin]
    rows = [head(rest._replace(identity=identity[None]))[:, skin] for identity in others]
    return torch.stack([(row - first).square().sum(-1).mean().sqrt() for row in rows])
