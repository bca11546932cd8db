"""What the file-based head models share: a linear shape, five joints, skinning, a rigid motion at the end."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from avatarzoo.geometry.rotations import axis_angle_to_matrix
from avatarzoo.heads.base import HeadModel, HeadParams, LandmarkEmbedding
from avatarzoo.heads.lbs import lbs, pose_correctives

JOINTS = ("neck", "jaw", "eye_left", "eye_right")


class Rig(NamedTuple):
    """Joints and skinning. Order of J = 5: root, neck, jaw, left eye, right eye.

    Attributes:
        joints: ``(5, 3)`` rest positions of the mean head.
        joint_identity: ``(5, 3, I)`` their change with the identity coefficients.
        joint_expression: ``(5, 3, E)`` their change with the expression coefficients, or ``None`` for none.
        weights: ``(V, 5)``, rows sum to one.
        correctives: ``(V, 3, 36)`` offsets linear in R - I of the four joints, or ``None``.
    """

    joints: Tensor
    joint_identity: Tensor
    joint_expression: Tensor | None
    weights: Tensor
    correctives: Tensor | None


class LinearHead(HeadModel):
    """Head model whose rest shape is ``template + identity + expression (+ eyelids)``.

    The rigid motion of :class:`HeadParams` is applied last and turns about the origin for every model, so that it can be
    moved into the camera (``Camera.after``). On the CPU the identity part is kept from call to call while the identity
    stays the same, and joints at rest cost nothing: that is what animation at 25 frames/s needs.
    """

    identity_basis: Tensor
    expression_basis: Tensor
    eyelid_basis: Tensor | None
    skin_weights: Tensor
    joint_template: Tensor
    joint_identity: Tensor
    joint_expression: Tensor | None
    correctives: Tensor | None
    local_vertices: Tensor
    local_weights: Tensor

    def __init__(
        self,
        template: Float[Tensor, "v 3"],
        identity_basis: Float[Tensor, "v 3 i"],
        expression_basis: Float[Tensor, "v 3 e"],
        rig: Rig,
        eyelid_basis: Float[Tensor, "v 3 2"] | None = None,
    ) -> None:
        super().__init__()

        def keep(name: str, value: Tensor | None) -> None:
            self.register_buffer(name, None if value is None else value.contiguous(), persistent=False)

        keep("v_template", template.float())
        keep("identity_basis", identity_basis.float().flatten(0, 1))
        keep("expression_basis", expression_basis.float().flatten(0, 1))
        keep("eyelid_basis", None if eyelid_basis is None else eyelid_basis.float().flatten(0, 1))
        keep("skin_weights", rig.weights.float())
        keep("joint_template", rig.joints.float())
        keep("joint_identity", rig.joint_identity.float().flatten(0, 1))
        keep(
            "joint_expression",
            None if rig.joint_expression is None else rig.joint_expression.float().flatten(0, 1),
        )
        keep("correctives", None if rig.correctives is None else rig.correctives.float().flatten(0, 1))
        local = (rig.weights[:, 2:] > 0).any(1).nonzero()[:, 0]
        keep("local_vertices", local)
        keep("local_weights", rig.weights[local].float())
        self.n_identity, self.n_expression = identity_basis.shape[2], expression_basis.shape[2]
        self._cache: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, params: HeadParams) -> Float[Tensor, "b v 3"]:
        vertices = self.pose(self.rest(params), params)
        if _at_rest(params.rotation) and _at_rest(params.translation):
            return vertices
        turn = axis_angle_to_matrix(params.rotation)
        return torch.baddbmm(params.translation[:, None], vertices, turn.transpose(1, 2))

    def rest(self, params: HeadParams) -> Float[Tensor, "b v 3"]:
        """Vertices with identity, expression and eyelids, before any joint or rigid motion."""
        shape, _ = self._identity(params.identity)
        vertices = shape + linear(params.expression, self.expression_basis).unflatten(1, (-1, 3))
        if self.eyelid_basis is not None and not _at_rest(params.eyelids):
            vertices = vertices + linear(params.eyelids, self.eyelid_basis).unflatten(1, (-1, 3))
        return vertices

    def pose(self, vertices: Float[Tensor, "b v 3"], params: HeadParams) -> Float[Tensor, "b v 3"]:
        """Turn neck, jaw and eyes."""
        neck_rests = _at_rest(params.neck)
        if neck_rests and _at_rest(params.jaw) and _at_rest(params.eyes):
            return vertices
        angles = torch.stack(
            [torch.zeros_like(params.neck), params.neck, params.jaw, params.eyes[:, :3], params.eyes[:, 3:]],
            1,
        )
        rotations, joints = axis_angle_to_matrix(angles), self._joints(params)
        if self.correctives is not None:
            vertices = vertices + pose_correctives(rotations, self.correctives)
        if not neck_rests:
            return lbs(vertices, joints, rotations, self.skin_weights)
        moved = lbs(vertices[:, self.local_vertices], joints, rotations, self.local_weights)
        return vertices.index_copy(1, self.local_vertices, moved)

    def joints(self, params: HeadParams) -> dict[str, Float[Tensor, "b 3"]]:
        return dict(zip(JOINTS, self._joints(params)[:, 1:].unbind(1)))

    def linear_basis(self) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 i"], Float[Tensor, "v 3 e"]]:
        return (
            self.v_template,
            self.identity_basis.unflatten(0, (-1, 3)),
            self.expression_basis.unflatten(0, (-1, 3)),
        )

    def landmarks(self) -> LandmarkEmbedding:
        from avatarzoo.heads.embedding_files import load_embedding

        return load_embedding(self)

    def _joints(self, params: HeadParams) -> Float[Tensor, "b 5 3"]:
        _, joints = self._identity(params.identity)
        if self.joint_expression is None:
            return joints
        return joints + linear(params.expression, self.joint_expression).unflatten(1, (-1, 3))

    def _identity(
        self, identity: Float[Tensor, "b i"]
    ) -> tuple[Float[Tensor, "b v 3"], Float[Tensor, "b 5 3"]]:
        """Shape and joints of identities; on the CPU, those of the last identity are remembered."""
        if identity.device.type != "cpu" or identity.requires_grad or identity.shape[0] == 0:
            return self._identity_parts(identity)
        row = identity[:1]
        if identity.shape[0] > 1 and not bool((identity == row).all()):
            return self._identity_parts(identity)
        if self._cache is None or self._cache[1].device != row.device or not torch.equal(self._cache[0], row):
            with torch.inference_mode(False), torch.no_grad():
                key = row.clone()
                self._cache = (key, *self._identity_parts(key))
        _, shape, joints = self._cache
        return shape.expand(identity.shape[0], -1, -1), joints.expand(identity.shape[0], -1, -1)

    def _identity_parts(self, identity: Tensor) -> tuple[Tensor, Tensor]:
        shape = self.v_template + linear(identity, self.identity_basis).unflatten(1, (-1, 3))
        return shape, self.joint_template + linear(identity, self.joint_identity).unflatten(1, (-1, 3))

    def _apply(
        self, fn, recurse: bool = True
    ):  # .to(), .float(), ...: what is remembered belongs to the old buffers
        self._cache = None
        return super()._apply(fn, recurse)


def _at_rest(values: Tensor) -> bool:
    """Whether a pose can be skipped: known to be zero without waiting for a GPU, and no gradient is wanted for it."""
    return values.device.type == "cpu" and not values.requires_grad and not bool(values.any())
