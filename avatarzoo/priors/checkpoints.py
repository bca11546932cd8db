"""Published checkpoints as data: weights and plain values, never code.

:func:`import_checkpoint` reads the pickles of the EG3D family and what ``torch.save`` wrote, and gives each network in the
file as a flat state dictionary under its official keys; :meth:`ImportedCheckpoint.save` keeps that as safetensors and JSON.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from avatarzoo.errors import AvatarZooError, BadCheckpointError, MissingAssetError
from avatarzoo.files import atomic_path
from avatarzoo.pickle_values import MOST_COPIES, SPARE_BYTES
from avatarzoo.priors.module_tree import LONGEST_NAME, MOST_ENTRIES, PlainValues, find_part, flat_state
from avatarzoo.priors.persistence_pickle import Part, TorchReader

FORMAT = "avatarzoo-checkpoint-1"
AVERAGED = ("G_ema", "g_ema", "params_ema", "ema")  # the network that people use, where a file has several
RUNTIME_BUFFERS = ("dataset_label_std",)  # registered while training, absent from a fresh network
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
DEEPEST_MODULE = 3
# Which two coordinates of the point (1, 2, 3) each plane sees, x first (EG3D issue 67).
PLANE_AXES: dict[tuple, Literal["eg3d", "fixed"]] = {
    ((1, 2), (1, 3), (3, 1)): "eg3d",
    ((1, 2), (1, 3), (2, 3)): "eg3d",  # InvertAvatar keeps the inverse of the matrices
    ((1, 2), (1, 3), (3, 2)): "fixed",
}


@dataclass
class ImportedModule:
    """One network of a checkpoint.

    Attributes:
        class_name: official class; ``None`` where the file holds a bare state dictionary.
        init_args, init_kwargs: what it was built with, plain values.
        attributes: its other plain values.
        state: official key -> tensor, on the CPU.
    """

    class_name: str | None
    state: dict[str, Tensor]
    init_args: list[Any] = field(default_factory=list)
    init_kwargs: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    def require(self, expect: Mapping[str, tuple[int, ...]], source: str = "The checkpoint") -> None:
        """Refuse a state that is not exactly of these keys and shapes; buffers that only training makes may be there.

        Raises:
            BadCheckpointError: a tensor is missing, is one too many, or has another shape.
        """
        missing = [key for key in expect if key not in self.state]
        extra = [key for key in self.state if key not in expect and key not in RUNTIME_BUFFERS]
        wrong = [
            key for key in expect if key in self.state and tuple(self.state[key].shape) != tuple(expect[key])
        ]
        problem = ""
        if missing:
            problem = f"lacks the tensor {_listed(missing)} of the network it is meant for"
        elif extra:
            problem = f"has the tensor {_listed(extra)}, which the network it is meant for does not know"
        elif wrong:
            shapes = f"{tuple(self.state[wrong[0]].shape)} instead of {tuple(expect[wrong[0]])}"
            problem = f"has the tensor {_listed(wrong)} of shape {shapes}"
        if problem:
            raise BadCheckpointError(
                f"{source} {problem}; give the checkpoint of that network and configuration."
            )


@dataclass
class ImportedCheckpoint:
    """Everything of a checkpoint that is data.

    Attributes:
        modules: name in the file (``G``, ``D``, ``G_ema``, ``state_dict``...) -> network. A bare state dictionary is
            ``model``, tensors that lie beside networks are ``tensors``.
        meta: the file's other plain values, e.g. ``training_set_kwargs``.
        plane_axes: how tri-planes are read, ``eg3d`` (the third plane sees (z, x)) or ``fixed`` ((z, y)); ``None`` where the
            file does not say.
        neural_resolution: raw resolution in pixels it was trained at, or ``None``.
        source_sha256: of the file.
        skipped: what was left out because it is neither a network nor plain (optimisers).
    """

    modules: dict[str, ImportedModule]
    meta: dict[str, Any]
    plane_axes: Literal["eg3d", "fixed"] | None
    neural_resolution: int | None
    source_sha256: str
    skipped: list[str] = field(default_factory=list)

    @property
    def main(self) -> str:
        """Name of the network that people use: the averaged generator, else the first."""
        return next((name for name in AVERAGED if name in self.modules), next(iter(self.modules)))

    def save(self, folder: str | Path) -> Path:
        """Write ``<module>.safetensors`` and, last, ``checkpoint.json``: a folder without it is incomplete.

        Raises:
            OutputError: the folder cannot be written.
        """
        folder = Path(folder)
        described = {}
        with atomic_path(folder / "checkpoint.json") as partial:
            (folder / "checkpoint.json").unlink(missing_ok=True)
            for name, module in self.modules.items():
                with atomic_path(folder / f"{name}.safetensors") as weights:
                    save_file(
                        {k: v.detach().cpu().clone().contiguous() for k, v in module.state.items()}, weights
                    )
                described[name] = {key: value for key, value in vars(module).items() if key != "state"}
                described[name]["entries"] = len(module.state)
            facts = {"format": FORMAT, **vars(self), "modules": described}
            partial.write_text(json.dumps(facts, indent=1))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> ImportedCheckpoint:
        """Read what :meth:`save` wrote.

        Raises:
            MissingAssetError: there is no such folder, or it is incomplete.
            BadCheckpointError: something in it is damaged or of another format.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / "checkpoint.json").read_text())
            if facts.pop("format") != FORMAT:
                raise ValueError("another format version")
            modules = {
                name: _load_module(folder, name, about) for name, about in facts.pop("modules").items()
            }
            return cls(modules=modules, **facts)
        except OSError as error:
            raise MissingAssetError(
                f"{folder} holds no complete imported checkpoint; run: avatarzoo assets import FILE {folder}"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise BadCheckpointError(
                f"{folder} is damaged ({type(error).__name__}: {error}); run: avatarzoo assets import FILE {folder}"
            ) from error


def import_checkpoint(
    path: str | Path, expect: Mapping[str, tuple[int, ...]] | None = None, module: str | None = None
) -> ImportedCheckpoint:
    """Read a published checkpoint without running anything of it.

    Args:
        path: a pickle of the EG3D family (``.pkl``) or a file of ``torch.save`` of any age (``.pth``, ``.pt``, ``.ckpt``).
        expect: official key -> shape that ``module`` must have exactly; ``None`` takes what is there.
        module: which network ``expect`` is about; ``None`` means :attr:`ImportedCheckpoint.main`.

    Raises:
        MissingAssetError: no such file.
        UnsafeCheckpointError: it asks for anything outside the allow-list; nothing of it was executed.
        BadCheckpointError: it is damaged, holds no network, or another one than expected.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingAssetError(
            f"{path} cannot be read ({error.strerror}); give the path of a checkpoint."
        ) from error
    reader = TorchReader(str(path))
    root = reader.loads(content)
    try:
        checkpoint = _Collector(MOST_COPIES * len(content) + SPARE_BYTES).collect(root)
    except AvatarZooError:
        raise
    except Exception as error:  # the shape of foreign data can be wrong in any way
        raise reader.damaged(error) from error
    checkpoint.source_sha256 = hashlib.sha256(content).hexdigest()
    if expect is not None:
        chosen = module or checkpoint.main
        if chosen not in checkpoint.modules:
            raise BadCheckpointError(f"{path} has no {chosen}; it holds {', '.join(checkpoint.modules)}.")
        checkpoint.modules[chosen].require(expect, str(path))
    return checkpoint


class _Collector:
    """Sorts what a file holds into networks, plain values and the rest."""

    def __init__(self, bytes_left: int) -> None:
        self.bytes_left, self.items_left = bytes_left, MOST_ENTRIES
        self.plain = PlainValues()
        self.modules: dict[str, ImportedModule] = {}
        self.parts: dict[str, Part] = {}
        self.skipped: list[str] = []

    def collect(self, root: Any) -> ImportedCheckpoint:
        if isinstance(root, Part) or _is_state(root):
            root = {"model": root}
        if not isinstance(root, (dict, list, tuple)):
            raise ValueError("it holds no weights")
        meta = self._mapping("", root, 0)
        if not self.modules:
            raise ValueError("it holds no weights")
        result = ImportedCheckpoint(self.modules, meta, None, None, "", self.skipped)
        main = self.modules[result.main]
        main.init_kwargs = main.init_kwargs or _dictionary(meta.get("init_kwargs"))
        part = self.parts.get(result.main)
        if part is not None:
            result.plane_axes = _plane_axes(find_part(part, "ImportanceRenderer"))
            resolution = part.state.get("neural_rendering_resolution")
            result.neural_resolution = resolution if type(resolution) is int else None
        return result

    def _mapping(self, prefix: str, values: Any, depth: int) -> dict[str, Any]:
        """Take the networks and loose tensors out of a dictionary or list; what is plain comes back."""
        items = values.items() if isinstance(values, dict) else enumerate(values)
        rest, loose = {}, {}
        for key, value in items:
            name = f"{prefix}{key}"
            self.items_left -= 1
            if self.items_left < 0 or len(name) > LONGEST_NAME:
                raise ValueError("names without end")
            if isinstance(value, Tensor):
                loose[str(key)] = value
            elif isinstance(value, Part) or _is_state(value):
                self._module(name, value)
            else:
                rest[str(key)] = value
        if loose:
            self._module(f"{prefix}tensors", loose)
        plain, others = self.plain.items(rest)
        for key in others:
            value, name = rest[key], f"{prefix}{key}"
            nested = isinstance(value, (dict, list, tuple)) and "param_groups" not in value
            if not nested or depth + 1 >= DEEPEST_MODULE:
                self.skipped.append(name)
                continue
            plain |= {f"{key}.{inner}": x for inner, x in self._mapping(f"{name}.", value, depth + 1).items()}
        return plain

    def _module(self, name: str, value: Part | dict[str, Tensor]) -> None:
        if not FILE_NAME.fullmatch(name) or name in self.modules:
            raise ValueError(f"a network named {name[:64]!r}")
        if isinstance(value, Part):
            arguments, others = self.plain.items(value.state, private=("_init_args", "_init_kwargs"))
            if "_init_args" in others or "_init_kwargs" in others:
                raise ValueError("a network built with something else than plain values")
            module = ImportedModule(
                value.class_name, flat_state(value), arguments.pop("_init_args", []),
                arguments.pop("_init_kwargs", {}), arguments,
            )  # fmt: skip
            self.parts[name] = value
        else:
            module = ImportedModule(None, dict(value))
        if any(len(key) > LONGEST_NAME or not key.isprintable() for key in module.state):
            raise ValueError("a tensor without a proper name")
        self.bytes_left -= sum(x.numel() * x.element_size() for x in module.state.values())
        if self.bytes_left < 0:
            raise ValueError("weights of far more bytes than the file has")
        self.modules[name] = module


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(
        isinstance(key, str) and isinstance(x, Tensor) for key, x in value.items()
    )  # fmt: skip


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _plane_axes(renderer: Part | None) -> Literal["eg3d", "fixed"] | None:
    """Read off the renderer's three matrices; old renderers keep none and project as EG3D does."""
    if renderer is None:
        return None
    axes = renderer.state.get("plane_axes")
    if axes is None:
        return "eg3d"
    point = torch.tensor([1.0, 2.0, 3.0])
    seen = [tuple(round(x) for x in (point @ torch.linalg.inv(plane.float()))[:2].tolist()) for plane in axes]
    if tuple(seen) not in PLANE_AXES:
        raise ValueError(f"planes that see {seen} of the point (1, 2, 3)")
    return PLANE_AXES[tuple(seen)]


def _load_module(folder: Path, name: str, about: dict[str, Any]) -> ImportedModule:
    if not FILE_NAME.fullmatch(name):
        raise ValueError(f"a network named {name[:64]!r}")
    state = load_file(folder / f"{name}.safetensors")
    if about.pop("entries") != len(state):
        raise ValueError(f"{name}.safetensors has {len(state)} tensors")
    return ImportedModule(state=state, **about)


def _listed(keys: list[str]) -> str:
    return repr(keys[0][:120]) + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
