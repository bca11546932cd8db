"""Values out of what :mod:`avatarzoo.safe_pickle` wrote down: containers and numpy arrays, made from checked parts.

A reader of files is a :class:`Resolver` with its own ``makers``: one function for each exact (module, name) pair that
may stand in its pickles. numpy's own reconstruction code sees nothing of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from typing import Any, ClassVar

import numpy as np

from avatarzoo.errors import AvatarZooError, UnsafeCheckpointError
from avatarzoo.safe_pickle import PLAIN, Machine, Name, Record, Reference

SIMPLE_DTYPE = re.compile(r"[<>|=]?([biufcSUO])(\d*)|bool")
DEEPEST = 100
MOST_COPIES, SPARE_BYTES = 4, 1 << 20  # the values of a file may take so many times its bytes, and this
NDARRAY = Name("numpy", "ndarray")
OBJECT = Name("builtins", "object"), Name("__builtin__", "object")

Maker = Callable[[Any, Record], Any]


class Resolver:
    """Turns containers and records into containers and values; shared parts stay shared.

    Attributes:
        purpose: what the file should be, for messages ("a head model").
        makers: (module, name) -> the method that makes the value of a record, ``None`` for names that are only mentioned.
    """

    purpose: ClassVar[str]
    makers: ClassVar[dict[tuple[str, str], Maker | None]]

    def __init__(self, file: str) -> None:
        self.file = file
        self.bytes_left = SPARE_BYTES
        self.done: dict[int, tuple[Any, Any]] = {}
        self.busy: set[int] = set()

    def loads(self, content: bytes) -> Any:
        """The value of a pickle that fills ``content``.

        Raises:
            UnsafeCheckpointError: it names what has no maker, or refers to objects outside itself.
            AvatarZooError: of the class of :meth:`damaged`, where it is damaged.
        """
        self.bytes_left += MOST_COPIES * len(content)
        try:
            return self.read(content)
        except AvatarZooError:
            raise
        except Exception as error:  # a damaged pickle can fail in any way; nothing foreign is ever called
            raise self.damaged(error) from error

    def read(self, content: bytes) -> Any:
        """The value of a pickle; it may fail in any way."""
        return self.value(self.machine(content).run())

    def machine(self, content: bytes, **options: Any) -> Machine:
        """The machine that reads this kind of file."""
        return Machine(content, self.allowed, self.refuse, **options)

    def allowed(self, name: Name) -> bool:
        return (name.module, name.attribute) in self.makers

    def maker(self, name: Name) -> Maker | None:
        return self.makers[name.module, name.attribute]

    def refuse(self, what: str) -> UnsafeCheckpointError:
        return UnsafeCheckpointError(
            f"{self.file} {what}, which {self.purpose} has no use for: it was refused and nothing of it was run; get the "
            "file from its publisher again."
        )

    def damaged(self, error: Exception) -> AvatarZooError:
        """The error for a file that is no such file, or a damaged one."""
        raise NotImplementedError

    def spend(self, count: int) -> None:
        """Counts the bytes of a value that is about to be made: shared parts must not fill the memory."""
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise ValueError("values of far more bytes than the file has")

    def value(self, thing: Any) -> Any:
        """What ``thing``, an output of the machine, stands for."""
        if isinstance(thing, (*PLAIN, bytearray)):
            return thing
        if isinstance(thing, Name):
            return self.named(thing)
        if id(thing) in self.done:
            return self.done[id(thing)][1]
        if id(thing) in self.busy or len(self.busy) >= DEEPEST:
            raise ValueError("an object that contains itself, or is nested too deep")
        self.busy.add(id(thing))
        result = self._make(thing)
        self.busy.remove(id(thing))
        self.done[id(thing)] = (thing, result)
        return result

    def _make(self, thing: Any) -> Any:
        if isinstance(thing, Record):
            maker = self.maker(thing.name)
            if maker is None:
                raise ValueError(f"a call of {thing.name}")
            return maker(self, thing)
        if isinstance(thing, Reference):
            return self.referred(thing)
        if isinstance(thing, dict):
            return {key: self.value(x) for key, x in thing.items()}
        return type(thing)(self.value(x) for x in thing)

    def named(self, name: Name) -> Any:
        """The value of a name that is not called."""
        raise ValueError("a class where a value is expected")

    def referred(self, reference: Reference) -> Any:
        """The value of an object outside the pickle."""
        raise ValueError("a reference where a value is expected")

    def ordered(self, record: Record) -> dict:
        """``OrderedDict`` and other dictionaries; those of old protocols come with a list of pairs."""
        pairs = record.arguments[0] if record.arguments else ()
        if any(not isinstance(pair, (list, tuple)) or not isinstance(pair[0], PLAIN) for pair in pairs):
            raise ValueError("a dictionary of unexpected form")
        return {key: self.value(x) for key, x in [*pairs, *record.entries.items()]}

    def members(self, record: Record) -> set | frozenset:
        """``set`` and ``frozenset`` of old protocols, called with a list."""
        values = record.arguments[0] if record.arguments else ()
        if any(not isinstance(x, PLAIN) for x in values):
            raise ValueError("a set of unexpected form")
        return set(values) if record.name.attribute == "set" else frozenset(values)

    def reconstructed(self, record: Record) -> Any:
        """``copyreg._reconstructor(class, object, None)`` of protocols 0 and 1."""
        kind, base, state = record.arguments
        if not isinstance(kind, Name) or base not in OBJECT or state is not None:
            raise ValueError("copyreg._reconstructor of an unexpected class")
        maker = self.maker(kind)
        if maker is None or kind.module == base.module:
            raise ValueError(f"an object of {kind}")
        rebuilt = Record(kind, ())
        rebuilt.state, rebuilt.items, rebuilt.entries = record.state, record.items, record.entries
        return maker(self, rebuilt)

    def encoded(self, record: Record) -> bytes:
        """Bytes of protocol 2 and below."""
        if not record.arguments:
            return b""
        text, encoding = record.arguments
        if encoding != "latin1":
            raise ValueError(f"bytes in {encoding!r}")
        return text.encode("latin1")

    def array(self, record: Record) -> np.ndarray:
        if (
            record.arguments[:1] != (NDARRAY,)
            or not isinstance(record.state, tuple)
            or len(record.state) != 5
        ):
            raise ValueError("an array of an unexpected class")
        _, shape, dtype, fortran, raw = (self.value(x) for x in record.state)
        return self.checked(raw, dtype, shape, "F" if fortran else "C")

    def from_buffer(self, record: Record) -> np.ndarray:
        raw, dtype, shape, order = (self.value(x) for x in record.arguments[:4])
        return self.checked(raw, dtype, shape, order)

    def scalar(self, record: Record) -> Any:
        dtype, raw = (self.value(x) for x in record.arguments)
        return self.checked(raw, dtype, (), "C")[()]

    def dtype(self, record: Record) -> np.dtype:
        code = record.arguments[0]
        if not isinstance(code, str) or not SIMPLE_DTYPE.fullmatch(code):
            raise ValueError(f"an array of type {code!r}")
        state = record.state or (3, "=", None, None, None)
        if any(x is not None for x in state[2:5]) or state[1] not in ("<", ">", "|", "="):
            raise ValueError("an array with fields")
        return np.dtype(code).newbyteorder(str(state[1]))  # type: ignore[arg-type]

    def checked(self, raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
        """An own copy of the values, after checking that there are as many bytes (or objects) as the shape wants."""
        shape = (shape,) if isinstance(shape, int) else shape
        if not isinstance(dtype, np.dtype) or not isinstance(shape, tuple) or order not in ("C", "F"):
            raise ValueError("an array without type or shape")
        if any(not isinstance(n, int) or n < 0 for n in shape):
            raise ValueError(f"an array of shape {shape}")
        if dtype.hasobject:
            if not isinstance(raw, list) or len(raw) != prod(shape):
                raise ValueError("an object array without its objects")
            result = np.empty(len(raw), object)
            for i, thing in enumerate(raw):  # one by one: numpy would unpack lists
                result[i] = thing
            return result.reshape(shape, order=order)
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2's str
        if len(raw) != prod(shape) * dtype.itemsize:
            raise ValueError(f"{len(raw)} bytes for an array of shape {shape}")
        self.spend(len(raw))
        return np.frombuffer(raw, dtype).reshape(shape, order=order).copy()


def _common_makers() -> dict[tuple[str, str], Maker | None]:
    makers: dict[tuple[str, str], Maker | None] = {
        ("numpy", "ndarray"): None, ("numpy", "dtype"): Resolver.dtype, ("_codecs", "encode"): Resolver.encoded,
        ("collections", "OrderedDict"): Resolver.ordered,
    }  # fmt: skip
    for core in ("numpy.core", "numpy._core"):
        makers[f"{core}.multiarray", "_reconstruct"] = Resolver.array
        makers[f"{core}.multiarray", "scalar"] = Resolver.scalar
        makers[f"{core}.numeric", "_frombuffer"] = Resolver.from_buffer
    for module in ("copy_reg", "copyreg"):
        makers[module, "_reconstructor"] = Resolver.reconstructed
    for module in ("__builtin__", "builtins"):
        makers |= {(module, "object"): None, (module, "set"): Resolver.members}
        makers |= {(module, "frozenset"): Resolver.members, (module, "bytes"): Resolver.encoded}
    return makers


COMMON = _common_makers()
