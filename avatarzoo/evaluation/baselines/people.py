"""Made-up people from the procedural actor."""

from __future__ import annotations

from functools import lru_cache

import torch

from avatarzoo.data.procedural import ProceduralActor
from avatarzoo.errors import UsageError
from avatarzoo.evaluation.baselines.base import Baseline
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadParams
from avatarzoo.models.base import AvatarImage, AvatarState


class ProceduralPeople(Baseline):
    """People from :class:`avatarzoo.data.procedural.ProceduralActor`, one per seed.

    This is no generative prior and learns nothing: it stands in for one in the procedural twins, so that protocols of generation
    run without weights. Its pictures say nothing about real people.

    Raises:
        UsageError: another head than the procedural one.
    """

    def __init__(
        self, head: str = "procedural", head_file: str | None = None, background: float | None = 1.0
    ) -> None:
        if head != "procedural":
            raise UsageError(
                f"ProceduralPeople has no head but the procedural one; give --head procedural, not {head}."
            )
        super().__init__(head, head_file, background)

    def generate(self, seed: int) -> AvatarState:
        return self.keep({"identity": _actor(seed).identity}, seed=seed)

    def reconstruct(self, images=None, params=None, cameras=None) -> AvatarState:
        """Refuses.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "ProceduralPeople makes people up, it does not reconstruct them; choose a method that does."
        )

    @torch.no_grad()
    def animate(self, state: AvatarState, params: HeadParams, camera: Camera) -> AvatarImage:
        """See :meth:`AvatarModule.animate`; shoulders are shown only where the background stays."""
        self.check_head(state.meta["head"])
        device, count = params.identity.device, params.batch
        identity = state.tensors["identity"].cpu().expand(count, -1)
        rgb, person, head = _actor(state.meta["seed"]).render(
            params.to("cpu")._replace(identity=identity), camera.to("cpu")
        )
        ground = self.hparams["background"]
        if ground is None:
            return AvatarImage(rgb.to(device), person.to(device))
        return AvatarImage(torch.lerp(torch.full_like(rgb, ground), rgb, head).to(device), head.to(device))


@lru_cache(maxsize=2)
def _actor(seed: int) -> ProceduralActor:
    return ProceduralActor(seed)
