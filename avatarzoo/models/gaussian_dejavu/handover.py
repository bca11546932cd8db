"""A reconstructed person as an avatar of its own, which is what programs take that know no network (section 3.4: where a video would
go on from)."""

from __future__ import annotations

from avatarzoo.models.base import AvatarState
from avatarzoo.models.gaussian_dejavu.module import GaussianDejaVu
from avatarzoo.models.gaussian_dejavu.reconstruction import GaussianReconstruction

SHARED = ("head", "head_file", "uv_size", "initialization", "background", "backend")
"""Options that mean the same in both modules."""


def as_avatar(network: GaussianReconstruction, state: AvatarState) -> GaussianDejaVu:
    """The person of a state that ``network`` made: its mean offsets and identity, and nothing learnt beyond (stage 1).

    Raises:
        HeadModelMismatchError: the state belongs to another head model.
    """
    network.check_head(state.meta["head"])
    options = {name: network.hparams[name] for name in SHARED}
    module = GaussianDejaVu(**options, n_blendmaps=1, bake_colors=False)
    module.mean_offsets.copy_(module.uv_map.from_map(state.tensors["mean_offsets"]))
    module.identity.copy_(state.tensors["identity"])
    return module.eval()
