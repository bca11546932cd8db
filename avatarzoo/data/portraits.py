"""Portraits with camera labels, the training data of 3D-aware GANs: folders as EG3D prepares them, or made-up people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import lightning as L
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatarzoo.data.frames import StepLoader, read_ahead
from avatarzoo.data.procedural_people import Portraits, render_people
from avatarzoo.errors import BadDatasetError, UsageError

MIRROR_SPLIT = "mirror"


class PortraitStore(Protocol):
    """Labelled pictures that can be read in any order."""

    labels: Float[Tensor, "n 25"]

    def pictures(self, rows: Tensor) -> UInt8[Tensor, "b 3 s s"]: ...


class MemoryStore:
    """All pictures as bytes in memory."""

    def __init__(self, portraits: Portraits) -> None:
        self.images, self.labels = portraits.images, portraits.labels

    def pictures(self, rows: Tensor) -> UInt8[Tensor, "b 3 s s"]:
        return self.images[rows]


class FileStore:
    """Pictures decoded when asked for, several at a time.

    Args:
        files: PNG or JPEG, square.
        labels: one row per file.
        size: side to which larger or smaller pictures are resized.
        threads: pictures decoded at a time.
    """

    def __init__(self, files: list[Path], labels: Float[Tensor, "n 25"], size: int, threads: int) -> None:
        self.files, self.labels, self.size = files, labels, size
        self.threads = ThreadPoolExecutor(threads)

    def pictures(self, rows: Tensor) -> UInt8[Tensor, "b 3 s s"]:
        """Raises BadDatasetError: a file is no picture, or not square."""
        return torch.stack(list(self.threads.map(self._read, [self.files[i] for i in rows.tolist()])))

    def _read(self, path: Path) -> UInt8[Tensor, "3 s s"]:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as file:
                picture = file.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise BadDatasetError(
                f"{path} cannot be read as a picture ({error}); copy or prepare it again."
            ) from error
        if picture.width != picture.height:
            raise BadDatasetError(
                f"{path} is {picture.width} x {picture.height}; EG3D's crops are square, prepare it again."
            )
        if picture.width != self.size:
            picture = picture.resize((self.size, self.size), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


class PortraitLoader:
    """Endless random batches cut to ``steps``; batch k is a function of (seed, k), whoever asks and whenever.

    Each batch holds pictures with their labels, the labels of cameras for generated pictures (drawn from the same set, apart from
    the pictures), and each one's neighbour among them. Of W processes that train together, number r gets rows r, r + W, ... of a
    batch of W times ``batch_size``, so that W processes see what one would with the larger batch.
    """

    def __init__(
        self,
        store: PortraitStore,
        batch_size: int,
        steps: int,
        seed: int,
        first: Callable[[], int],
        rank: int,
        world: int,
    ) -> None:
        self.store, self.steps, self.first = store, steps, first
        self.rank, self.world = rank, world
        whole = batch_size * world
        self.real = StepLoader(store.labels, whole, steps, 2 * seed, first)  # type: ignore[arg-type]
        self.fake = StepLoader(store.labels, whole, steps, 2 * seed + 1, first)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        yield from read_ahead(self.batch, range(self.first(), self.steps))

    def batch(self, step: int) -> dict[str, Tensor]:
        """This process's part of batch ``step``."""
        mine = slice(self.rank, None, self.world)
        real, fake = self.real.rows(step), self.fake.rows(step)
        labels = self.store.labels
        return {
            "image": self.store.pictures(real[mine]),
            "label": labels[real[mine]],
            "fake_label": labels[fake[mine]],
            "neighbour_label": labels[fake.roll(1)[mine]],
        }

    def state_dict(self) -> dict[str, int]:
        """Tells Lightning that this loader resumes by itself."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to restore: the module that trains counts the batches."""


class PortraitDataModule(L.LightningDataModule):
    """Portraits for a GAN; subclasses make the ``store`` in :meth:`setup`.

    Pictures arrive as floats in [0, 1]. A module that trains on them counts its batches in an ``iteration`` tensor, which a
    checkpoint keeps and from which a resumed run goes on.

    Args:
        batch_size: pictures per step and process.
        seed: order of the pictures.

    Raises:
        UsageError: an empty batch.
    """

    store: PortraitStore

    def __init__(self, batch_size: int, seed: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise UsageError(f"--data.batch_size must be at least 1, not {batch_size}.")
        self.batch_size, self.seed = batch_size, seed

    def train_dataloader(self) -> PortraitLoader:
        trainer = self.trainer
        assert trainer is not None
        return PortraitLoader(
            self.store,
            self.batch_size,
            trainer.max_steps,
            self.seed,
            lambda: int(trainer.lightning_module.iteration),  # type: ignore[arg-type]
            trainer.global_rank,
            trainer.world_size,
        )

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        return {**batch, "image": batch["image"].float().div_(255)}


class PortraitFolder(PortraitDataModule):
    """A folder as EG3D prepares it: pictures and one ``dataset.json`` with 25-number camera labels.

    Args:
        root: the folder.
        layout: its layout (``ffhq``, ``lpff``; see ``avatarzoo data``); every picture needs a camera.
        size: side of the pictures; others are resized.
        mirror: use the mirrored copies that the folder lists, too (EG3D does).
        limit: use only the first so many pictures; None: all.
        batch_size, seed: see :class:`PortraitDataModule`.
        threads: pictures decoded at a time.

    Raises:
        BadDatasetError: the folder has not this layout, or no picture with a camera.
    """

    def __init__(
        self,
        root: str,
        layout: str = "ffhq",
        size: int = 512,
        mirror: bool = True,
        limit: int | None = None,
        batch_size: int = 4,
        seed: int = 0,
        threads: int = 4,
    ) -> None:
        super().__init__(batch_size, seed)
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def setup(self, stage: str) -> None:
        from avatarzoo.data.layouts import layout

        hp, form = self.hparams, layout(self.hparams["layout"])
        items = list(form.items(hp["root"]))
        if hp["mirror"] and MIRROR_SPLIT in form.hidden_splits:
            items += form.items(hp["root"], MIRROR_SPLIT)
        items = [item for item in items if item.camera is not None][: hp["limit"]]
        if not items:
            raise BadDatasetError(
                f"No picture in {hp['root']} has a camera label; EG3D's preparation scripts write dataset.json."
            )
        labels = torch.tensor([item.camera for item in items])
        self.store = FileStore([item.path for item in items], labels, hp["size"], hp["threads"])


class ProceduralPortraits(PortraitDataModule):
    """Made-up people from random sides, rendered once when training starts (about a second a person) and kept as bytes.

    Results on this data say nothing about real people.

    Args:
        people: how many.
        views: pictures of each.
        size: side of the pictures.
        background: "noise" or a grey level in [0, 1].
        first: seed of the first person; the others follow.
        batch_size, seed: see :class:`PortraitDataModule`.
    """

    is_procedural = True

    def __init__(
        self,
        people: int = 32,
        views: int = 8,
        size: int = 128,
        background: str | float = 1.0,
        first: int = 0,
        batch_size: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        self.save_hyperparameters(logger=False)  # names may repeat those of the method

    def setup(self, stage: str) -> None:
        if hasattr(self, "store"):
            return
        hp = self.hparams
        seeds = range(hp["first"], hp["first"] + hp["people"])
        self.store = MemoryStore(render_people(seeds, hp["views"], hp["size"], hp["background"]))
