"""What every method answers, so that evaluation, viewer, export and live know no method by name."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import lightning as L
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avatarzoo.errors import BadSequenceError, HeadModelMismatchError, UsageError
from avatarzoo.files import atomic_path
from avatarzoo.geometry.camera import Camera
from avatarzoo.heads.base import HeadModel, HeadParams
from avatarzoo.models.seen import Seen
from avatarzoo.render.gaussians import Gaussians

STATE_FORMAT = "avatarzoo-state-1"


class AvatarImage(NamedTuple):
    """What a method renders.

    Attributes:
        rgb: ``(B, 3, H, W)`` in [0, 1], background composited.
        alpha: ``(B, 1, H, W)`` in [0, 1].
    """

    rgb: Float[Tensor, "b 3 h w"]
    alpha: Float[Tensor, "b 1 h w"]


@dataclass
class AvatarState:
    """Whatever a method keeps of one person: tensors and plain values, no code.

    Attributes:
        method: class name of the method that made it.
        tensors: name -> tensor.
        meta: JSON-able facts (head model and hash, resolution, consent note...).
    """

    method: str
    tensors: dict[str, Tensor]
    meta: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file whose header carries ``meta`` as JSON; atomic."""
        header = {"format": STATE_FORMAT, "method": self.method, "meta": json.dumps(self.meta)}
        with atomic_path(path) as partial:
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in self.tensors.items()}, partial, metadata=header
            )
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> AvatarState:
        """Read a file written by :meth:`save`.

        Raises:
            BadSequenceError: no such file, or no avatar state.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                header = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        except FileNotFoundError as error:
            raise BadSequenceError(f"There is no avatar state {path}; avatarzoo fit writes one.") from error
        except (SafetensorError, OSError) as error:
            raise BadSequenceError(f"{path} is damaged or no safetensors file ({error}).") from error
        if header.get("format") != STATE_FORMAT:
            raise BadSequenceError(f"{path} is not an avatar state; write one with AvatarState.save.")
        return cls(header["method"], tensors, json.loads(header["meta"]))


class AvatarModule(L.LightningModule, ABC):
    """A head-avatar method: one or more source pictures in, a drivable avatar out.

    Attributes:
        takes_pictures: a person is made from pictures; otherwise the checkpoint keeps its person.
        seen: what the checkpoint's person showed in training, where that is one person with tracked frames.
        consent: the statement that the person agreed (see :mod:`avatarzoo.consent`), where real people were learnt from.
    """

    takes_pictures: ClassVar[bool] = False
    head: HeadModel
    seen: Seen | None = None
    consent: dict[str, str] | None = None

    @abstractmethod
    def reconstruct(
        self,
        images: Float[Tensor, "b 3 h w"] | None = None,
        params: HeadParams | None = None,
        cameras: Camera | None = None,
    ) -> AvatarState:
        """Source pictures (with their tracking) to whatever this method keeps of a person.

        A personalised method keeps its person in the checkpoint and takes no pictures.
        """

    @abstractmethod
    def animate(self, state: AvatarState, params: HeadParams, camera: Camera) -> AvatarImage:
        """Render the person with the expression and pose of ``params`` (B rows) seen by ``camera`` (1 or B)."""

    def animation(self, state: AvatarState) -> Callable[..., AvatarImage]:
        """:meth:`animate` of one person, for many frames: methods that can prepare something for it do so here, once."""
        return partial(self.animate, state)

    def generate(self, seed: int) -> AvatarState:
        """Make a person up; the same seed gives the same person.

        Raises:
            UsageError: the method has no generative prior.
        """
        raise UsageError(
            f"{type(self).__name__} reconstructs people, it does not make them up; choose a method with a generative prior."
        )

    def speak(
        self, state: AvatarState, samples: Float[Tensor, " n"], rate: int, fps: float, frames: int
    ) -> Float[Tensor, "t e"]:
        """Expression coefficients of ``frames`` pictures, ``fps`` a second, that go with a sound; see :meth:`HeadParams.spoken`.

        Of head models whose mouth is opened by the jaw joint alone (FLAME), its axis-angle follows as three more columns.

        Args:
            samples: mono, in [-1, 1]; rate: in hertz.

        Raises:
            UsageError: the method is not driven by sound.
        """
        raise UsageError(
            f"{type(self).__name__} is not driven by sound; choose a method that is, or the baseline LoudnessMouth."
        )

    def initial_state(self) -> AvatarState | None:
        """The avatar before optimisation, where a method has such a thing (a baseline of result tables)."""
        return None

    def gaussians_at(self, params: HeadParams) -> Gaussians | None:
        """The avatar's Gaussians for given parameters, where the method is made of Gaussians (PLY export asks)."""
        return None

    @property
    def made_of(self) -> dict[str, Any]:
        """What content credentials say of pictures of this avatar."""
        return {"method": type(self).__name__, "consent_statement_on_record": self.consent is not None}

    @property
    def place(self) -> tuple[int, int]:
        """Which of the processes that train together this is, and how many they are."""
        return self.trainer.global_rank, self.trainer.world_size

    def log(self, name: str, value: Any, *args: Any, **options: Any) -> None:
        """As Lightning's; of several processes the mean is logged."""
        super().log(name, value, *args, **{**options, "sync_dist": True})

    def adapt(self, progress: Callable[[str], None] = print) -> None:
        """Called once before training with the data module attached; methods that need statistics gather them here."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say which method and head model a checkpoint belongs to, and what its person showed in training."""
        checkpoint["avatarzoo_method"] = type(self).__name__
        checkpoint["avatarzoo_head"] = self.head.signature
        if self.consent is not None:
            checkpoint["avatarzoo_consent"] = dict(self.consent)
        data = getattr(self._trainer, "datamodule", None)
        seen = self.seen if self.takes_pictures or data is None else Seen.of_data(data)
        if seen is not None:
            checkpoint["avatarzoo_seen"] = seen.plain()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another head model file.

        Raises:
            HeadModelMismatchError: see :meth:`check_head`.
        """
        if "avatarzoo_head" in checkpoint:
            self.check_head(checkpoint["avatarzoo_head"])
        if "avatarzoo_seen" in checkpoint:
            self.seen = Seen.from_plain(checkpoint["avatarzoo_seen"])
        self.consent = checkpoint.get("avatarzoo_consent", self.consent)

    def check_head(self, signature: dict[str, str]) -> None:
        """Refuse parameters that were fitted with another head model.

        Raises:
            HeadModelMismatchError: naming both models and the way out.
        """
        mine = self.head.signature
        if signature != mine:
            raise HeadModelMismatchError(
                f"These parameters were fitted with head model {signature['name']} {signature['version']} "
                f"({signature['hash'][:8]}), this avatar uses {mine['name']} {mine['version']} "
                f"({mine['hash'][:8]}); track the video again with --head {mine['name']}."
            )
