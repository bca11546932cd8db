"""What every 3D morphable head model offers: parameters in, vertices out (metres, y up, face towards +z)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class HeadParams(NamedTuple):
    """Parameters of a head, one row per picture. Widths of the first two depend on the head model.

    Attributes:
        identity: ``(B, n_identity)``.
        expression: ``(B, n_expression)``.
        jaw: ``(B, 3)`` axis-angle of the jaw joint.
        neck: ``(B, 3)`` axis-angle of the neck joint.
        eyes: ``(B, 6)`` axis-angle of the left eye, then of the right eye (the subject's left and right).
        eyelids: ``(B, 2)`` closing of the left and right lid, 0 open to 1 closed; zero where the model has no such shape.
        rotation: ``(B, 3)`` axis-angle of the whole head; zero faces +z.
        translation: ``(B, 3)`` metres.
    """

    identity: Float[Tensor, "b i"]
    expression: Float[Tensor, "b e"]
    jaw: Float[Tensor, "b 3"]
    neck: Float[Tensor, "b 3"]
    eyes: Float[Tensor, "b 6"]
    eyelids: Float[Tensor, "b 2"]
    rotation: Float[Tensor, "b 3"]
    translation: Float[Tensor, "b 3"]

    @property
    def batch(self) -> int:
        return self.identity.shape[0]

    def to(self, device: torch.device | str) -> HeadParams:
        return HeadParams(*(x.to(device) for x in self))

    def rows(self, index) -> HeadParams:
        """Rows at ``index`` (int, slice, list or tensor); an int keeps the batch dimension."""
        if isinstance(index, int):
            index = slice(index, index + 1) if index != -1 else slice(-1, None)
        return HeadParams(*(x[index] for x in self))

    def spoken(self, said: Float[Tensor, "b n"]) -> HeadParams:
        """The same heads with what a voice drives replaced: the expression, and the jaw where ``said`` has 3 numbers more."""
        width = self.expression.shape[1]
        heads = self._replace(expression=said[:, :width])
        return heads._replace(jaw=said[:, width:]) if said.shape[1] > width else heads

    def in_head_frame(self) -> HeadParams:
        """The same face with the rigid motion of the head removed (Deja-vu keeps that motion in the camera)."""
        return self._replace(
            rotation=torch.zeros_like(self.rotation), translation=torch.zeros_like(self.translation)
        )


class LandmarkEmbedding(NamedTuple):
    """Landmarks on a surface: landmark i is the barycentric mix of the corners of one triangle.

    Attributes:
        faces: ``(L,)`` triangle indices.
        barycentrics: ``(L, 3)``.
    """

    faces: Int[Tensor, "l"]
    barycentrics: Float[Tensor, "l 3"]


class HeadModel(nn.Module, ABC):
    """A linear head model with joints.

    Subclasses set, in ``__init__`` (tensors as non-persistent buffers, so that licensed data never enters checkpoints):

    Attributes:
        name: short name used in files, e.g. ``"flame"``.
        version: e.g. ``"2020"``.
        source_hash: sha256 of the file it was loaded from, or of the generating code's version.
        n_identity, n_expression: widths of the coefficient vectors.
        expression_names: one name per expression coefficient (ARKit names where they apply), or ``exp_000``...
        expression_bounds: ``(low, high)`` a coefficient may take; ``None`` where unbounded.
        v_template: ``(V, 3)``; faces: ``(F, 3)`` int64.
        uv: ``(T, 2)`` in [0, 1], v = 1 on top; uv_faces: ``(F, 3)`` int64 into uv. One atlas without overlaps.
        vertex_regions / face_regions: name -> int64 indices. Every model offers the faces ``skin`` (the outer head surface),
            ``eyeball_left``, ``eyeball_right`` and, where it has them, ``teeth``, ``mouth`` (the cavity), ``neck``.
    """

    name: str
    version: str
    source_hash: str
    n_identity: int
    n_expression: int
    expression_names: tuple[str, ...]
    expression_bounds: tuple[float, float] | None
    v_template: Tensor
    faces: Tensor
    uv: Tensor
    uv_faces: Tensor
    vertex_regions: dict[str, Tensor]
    face_regions: dict[str, Tensor]

    @abstractmethod
    def forward(self, params: HeadParams) -> Float[Tensor, "b v 3"]:
        """Vertices in metres, with all joints and the global motion applied."""

    @abstractmethod
    def linear_basis(self) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 i"], Float[Tensor, "v 3 e"]]:
        """``(template, identity basis, expression basis)`` of the part that is linear at rest pose; what a solver needs."""

    @abstractmethod
    def landmarks(self) -> LandmarkEmbedding:
        """The 478 MediaPipe points on this head's surface.

        Raises:
            MissingAssetError: no embedding is stored yet for this model file; the message names the command that makes one.
        """

    @abstractmethod
    def joints(self, params: HeadParams) -> dict[str, Float[Tensor, "b 3"]]:
        """Rest positions, before posing, of the joints ``neck``, ``jaw``, ``eye_left``, ``eye_right`` for these identities."""

    @property
    def signature(self) -> dict[str, str]:
        """What a file of parameters stores to say which head it belongs to."""
        return {"name": self.name, "version": self.version, "hash": self.source_hash}

    def zeros(self, batch: int = 1, device: torch.device | str | None = None) -> HeadParams:
        """The neutral mean head facing +z."""
        device = self.v_template.device if device is None else device
        widths = (self.n_identity, self.n_expression, 3, 3, 6, 2, 3, 3)
        return HeadParams(*(torch.zeros(batch, w, device=device) for w in widths))

    def landmark_points(self, vertices: Float[Tensor, "b v 3"]) -> Float[Tensor, "b l 3"]:
        """Positions of the embedded landmarks on given vertices."""
        faces, weights = self.landmarks()
        corners = vertices[:, self.faces[faces]]
        return (corners * weights.to(vertices)[None, :, :, None]).sum(2)
