"""Checkpoint files of PyTorch networks, read without running them.

Three containers: a plain pickle (the published GANs, whose modules carry their own source code as text), the archive
that ``torch.save`` writes, and the stream that it wrote before version 1.6. :mod:`avatarzoo.safe_pickle` reads the pickle
in each; a storage must be exactly as long as the file says, and a tensor must lie within its storage, before memory is
taken. Embedded source stays text.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from avatarzoo.errors import BadCheckpointError
from avatarzoo.pickle_values import COMMON, Maker, Resolver
from avatarzoo.safe_pickle import Machine, Name, Record, Reference, shown

STREAM_MAGIC, STREAM_VERSION = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
    "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
# Classes of the EG3D family that are stored by name only, in the module trees of the repositories that grew out of it
# (their modules are named training..., and _imported_module_<hex> once a loaded network was saved again), and of the encoders of
# pSp, e4e, TriPlaneNet and InvertAvatar.
PARTS = (
    "OSGDecoder", "ImportanceRenderer", "MipRayMarcher2", "RaySampler", "bottleneck_IR", "bottleneck_IR_SE", "SEModule",
    "GradualStyleBlock", "DoubleConv", "Up", "ConvGRU",
)  # fmt: skip
PARTS_MODULE = re.compile(r"((training|encoder|models)\w*|_imported_module_[0-9a-f]+)(\.\w+)*", re.ASCII)
TORCH_PARTS = {
    "container": ("Sequential", "ModuleList", "ModuleDict"), "linear": ("Linear", "Identity"), "conv": ("Conv2d",),
    "activation": ("Softplus", "ReLU", "LeakyReLU", "PReLU", "Sigmoid", "Tanh", "GELU"), "normalization": ("LayerNorm",),
    "batchnorm": ("BatchNorm1d", "BatchNorm2d"), "pooling": ("MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d"),
    "dropout": ("Dropout",), "upsampling": ("Upsample",), "pixelshuffle": ("PixelShuffle",),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Part:
    """An object of a class that the file names.

    Attributes:
        class_name: without its module.
        state: its attributes, values like everything else that was read.
    """

    class_name: str
    state: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Storage:
    values: Tensor


class TorchReader(Resolver):
    """Values of a checkpoint: containers, plain values, arrays, tensors and :class:`Part`."""

    purpose = "a checkpoint of a network"

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def damaged(self, error: Exception) -> BadCheckpointError:
        return BadCheckpointError(
            f"{self.file} is damaged or no checkpoint ({type(error).__name__}: {shown(error)}); get it again from its publisher."
        )

    def read(self, content: bytes) -> Any:
        if content.startswith(b"PK\x03\x04"):
            return self.value(self._archive(content))
        machine = self.machine(content)
        root = machine.run()
        if root == STREAM_MAGIC:
            return self.value(self._stream(content, machine.position))
        if machine.position != len(content):
            raise ValueError("bytes after its end")
        return self.value(root)

    def _archive(self, content: bytes) -> Any:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            if any("/code/" in name for name in entries):
                raise self.refuse("is a TorchScript program")
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values())
            if packed or sum(entry.file_size for entry in entries.values()) > len(content):
                raise ValueError("an archive that unpacks to more than it holds")
            pickles = [name for name in entries if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ValueError("an archive that torch did not write")
            folder = pickles[0].removesuffix("data.pkl")
            if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
                raise ValueError("numbers of a big-endian machine")
            machine = self.machine(archive.read(pickles[0]), references=True)
            root = machine.run()
            for key, (dtype, count) in _wanted(machine).items():
                self.storages[key] = self._storage(archive.read(f"{folder}data/{key}"), dtype, count)
        return root

    def _stream(self, content: bytes, position: int) -> Any:
        version = self.machine(content, position=position)
        if version.run() != STREAM_VERSION:
            raise ValueError("a stream of an unknown version")
        info = self.machine(content, position=version.position)
        if info.run().get("little_endian") is not True:
            raise ValueError("numbers of a big-endian machine")
        machine = self.machine(content, position=info.position, references=True)
        root = machine.run()
        listed = self.machine(content, position=machine.position)
        wanted, keys = _wanted(machine), listed.run()
        if any(not isinstance(key, str) for key in keys) or sorted(keys) != sorted(wanted):
            raise ValueError("storages that are not listed")
        rest, position = memoryview(content), listed.position
        for key in keys:
            dtype, count = wanted[key]
            end = position + 8 + count * dtype.itemsize
            if struct.unpack("<q", rest[position : position + 8]) != (count,):
                raise ValueError("a storage of another size than promised")
            self.storages[key] = self._storage(rest[position + 8 : end], dtype, count)
            position = end
        if position != len(content):
            raise ValueError("bytes after its end")
        return root

    def _storage(self, raw: bytes | memoryview, dtype: torch.dtype, count: int) -> _Storage:
        if len(raw) != count * dtype.itemsize:
            raise ValueError(f"{len(raw)} bytes for a storage of {count} numbers")
        self.spend(len(raw))
        own = bytearray(raw)
        return _Storage(torch.frombuffer(own, dtype=dtype) if count else torch.empty(0, dtype=dtype))

    def allowed(self, name: Name) -> bool:
        return super().allowed(name) or _is_part(name)

    def maker(self, name: Name) -> Maker | None:
        return TorchReader.part if _is_part(name) else super().maker(name)

    def named(self, name: Name) -> Any:
        if name.module == "torch" and name.attribute in DTYPES:
            return name.attribute
        return super().named(name)

    def referred(self, reference: Reference) -> _Storage:
        return self.storages[reference.key[2]]

    def nested_storage(self, record: Record) -> _Storage:
        """A storage inside a plain pickle is a whole stream of its own."""
        (raw,) = (self.value(x) for x in record.arguments)
        if not isinstance(raw, bytes):
            raise ValueError("a storage that is not made of bytes")
        self.spend(len(raw))
        storage = _StorageReader(self.file).loads(raw)
        if not isinstance(storage, _Storage):
            raise ValueError("something else where a storage is expected")
        return storage

    def tensor(self, record: Record) -> Tensor:
        source, offset, size, stride = (self.value(x) for x in record.arguments[:4])
        if not isinstance(source, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
            raise ValueError("a tensor without storage or shape")
        numbers = (offset, *size, *stride)
        if (
            len(size) != len(stride)
            or len(size) > 16
            or any(not isinstance(n, int) or n < 0 for n in numbers)
        ):
            raise ValueError(f"a tensor of shape {size}")
        count, held = prod(size), source.values.numel()
        last = offset + sum((n - 1) * step for n, step in zip(size, stride))
        if count > held or (count and last >= held):
            raise ValueError(f"a tensor of shape {size} in a storage of {held} numbers")
        self.spend(count * source.values.element_size())
        return source.values.as_strided(size, stride, offset if count else 0)

    def parameter(self, record: Record) -> Tensor:
        tensor = self.value(record.arguments[0])
        if not isinstance(tensor, Tensor):
            raise ValueError("a parameter that is no tensor")
        return tensor

    def device(self, record: Record) -> str:
        return ":".join(map(str, self.value(record.arguments)))

    def size(self, record: Record) -> tuple:
        return tuple(self.value(record.arguments[0]))

    def part(self, record: Record) -> Part:
        """An object that is stored as the name of its class and its attributes."""
        state = self.value(record.state)
        if record.arguments or record.keywords or not isinstance(state, dict):
            raise ValueError(f"a {record.name.attribute} of unexpected form")
        return Part(record.name.attribute, state)

    def persistent(self, record: Record) -> Part:
        """An object of a class that carries its source: the text is passed over."""
        (meta,) = (self.value(x) for x in record.arguments)
        state, name = meta["state"], meta["class_name"]
        if (
            meta["type"] != "class"
            or not isinstance(name, str)
            or not isinstance(state, dict)
            or record.state
        ):
            raise ValueError("a persistent object of unexpected form")
        return Part(name, state)

    def namespace(self, record: Record) -> dict:
        state = self.value(record.state)
        if not isinstance(state, dict):
            raise ValueError("a namespace without its names")
        return state


class _StorageReader(TorchReader):
    """Reads the one storage of a nested stream; nothing else may be in it."""

    makers = {("torch", name): None for name in STORAGES}  # noqa: RUF012

    def allowed(self, name: Name) -> bool:
        return (name.module, name.attribute) in self.makers


def _wanted(machine: Machine) -> dict[str, tuple[torch.dtype, int]]:
    """The storages that a pickle refers to: key -> type, number of values."""
    wanted: dict[str, tuple[torch.dtype, int]] = {}
    for reference in machine.references or ():
        kind, storage, key, _, count, *view = reference.key
        if (
            kind != "storage"
            or not isinstance(key, str)
            or not isinstance(count, int)
            or count < 0
            or any(view)
        ):
            raise ValueError("a reference to something else than a storage")
        dtype = STORAGES[storage.attribute]
        if wanted.setdefault(key, (dtype, count)) != (dtype, count):
            raise ValueError("a storage of two sizes")
    return wanted


def _is_part(name: Name) -> bool:
    module = name.module.removeprefix("torch.nn.modules.")
    if module != name.module:
        return name.attribute in TORCH_PARTS.get(module, ())
    return name.attribute in PARTS and PARTS_MODULE.fullmatch(module) is not None


TorchReader.makers = {
    **COMMON,
    **{("torch", name): None for name in (*STORAGES, *DTYPES)},
    ("torch._utils", "_rebuild_tensor"): TorchReader.tensor,  # before torch 0.4
    ("torch._utils", "_rebuild_tensor_v2"): TorchReader.tensor,
    ("torch._utils", "_rebuild_parameter"): TorchReader.parameter,
    ("torch.storage", "_load_from_bytes"): TorchReader.nested_storage,
    ("torch", "device"): TorchReader.device,
    ("torch", "Size"): TorchReader.size,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): TorchReader.persistent,
    ("dnnlib.util", "EasyDict"): TorchReader.ordered,
    ("argparse", "Namespace"): TorchReader.namespace,
}
