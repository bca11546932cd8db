"""Reading other people's pickles without running them.

Head models come as pickles of numpy arrays, scipy sparse matrices and chumpy arrays. Here a pickle may name only the exact
(module, name) pairs of :data:`ALLOWED`, and each of them is answered by a stand-in of ours that records its arguments:
neither numpy's nor scipy's nor chumpy's own reconstruction code sees them. Real arrays are made afterwards, from
checked values.
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from avatarzoo.errors import MissingAssetError, UnsafeCheckpointError

SIMPLE_DTYPE = re.compile(r"[<>|=]?([biufcSUO])(\d*)|bool")


def load_pickle(path: str | Path) -> Any:
    """The content of a pickle of protocol 0 to 5, Python 2's included (its strings are read as latin1).

    Raises:
        MissingAssetError: no such file, or it is damaged.
        UnsafeCheckpointError: it asks for anything outside the allow-list; nothing of it was executed.
    """
    return loads(_read(path), str(path))


def load_npy(path: str | Path) -> Any:
    """The content of an .npy file; arrays of objects go through :func:`loads`, and one holding a single object gives it.

    Raises:
        MissingAssetError, UnsafeCheckpointError: as :func:`load_pickle`.
    """
    file = io.BytesIO(_read(path))
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"version {version}")
        _, _, dtype = readers[version](file)
        if not dtype.hasobject:
            file.seek(0)
            return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, TypeError) as error:
        raise MissingAssetError(
            f"{path} is not a readable .npy file ({error}); get it again from its origin."
        ) from error
    content = loads(file.read(), str(path))
    return content.item() if isinstance(content, np.ndarray) and content.size == 1 else content


def loads(content: bytes, name: str) -> Any:
    """Unpickle bytes; ``name`` is what messages call them. See :func:`load_pickle`."""
    try:
        return _Resolver().value(_Unpickler(content, name).load())
    except UnsafeCheckpointError:
        raise
    except (
        Exception
    ) as error:  # a damaged pickle can fail in any way, always before anything foreign is called
        raise MissingAssetError(
            f"{name} is damaged or holds something else than arrays ({type(error).__name__}: {error}); get it again."
        ) from error


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MissingAssetError(
            f"{path} cannot be read ({error.strerror}); give the path of the model file."
        ) from error


class _Sealed(type):
    """Classes whose attributes a pickle cannot set (BUILD can call setattr on whatever lies on its stack)."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("a pickle may not change classes")


class _StandIn(metaclass=_Sealed):
    """Records what a pickle wants to build."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_StandIn):
    __slots__ = ()


class _FromBuffer(_StandIn):
    __slots__ = ()


class _Scalar(_StandIn):
    __slots__ = ()


class _Dtype(_StandIn):
    __slots__ = ()


class _Encoded(_StandIn):
    __slots__ = ()


class _Chumpy(_StandIn):
    __slots__ = ()


class _Select(_StandIn):
    __slots__ = ()


class _Csc(_StandIn):
    __slots__ = ()


class _Csr(_StandIn):
    __slots__ = ()


class _Coo(_StandIn):
    __slots__ = ()


class _Token:
    """A class that is only ever passed as an argument; calling or changing it fails."""

    __slots__ = ()


class _Reconstructor:
    """``copyreg._reconstructor(class, object, None)`` of protocols 0 and 1, for stand-ins only."""

    __slots__ = ()

    def __call__(self, kind: Any, base: Any, state: Any) -> _StandIn:
        if not (isinstance(kind, _Sealed) and base is OBJECT and state is None):
            raise pickle.UnpicklingError("copyreg._reconstructor of an unexpected class")
        return kind()


NDARRAY, OBJECT = _Token(), _Token()


def _table() -> dict[tuple[str, str], Any]:
    numpy_core = ("numpy.core", "numpy._core")
    table: dict[tuple[str, str], Any] = {("numpy", "ndarray"): NDARRAY, ("numpy", "dtype"): _Dtype}
    for core in numpy_core:
        table[f"{core}.multiarray", "_reconstruct"] = _Array
        table[f"{core}.multiarray", "scalar"] = _Scalar
        table[f"{core}.numeric", "_frombuffer"] = _FromBuffer
    for kind, stand_in in (("csc", _Csc), ("csr", _Csr), ("coo", _Coo)):
        for module in (f"scipy.sparse.{kind}", f"scipy.sparse._{kind}"):
            table[module, f"{kind}_matrix"] = table[module, f"{kind}_array"] = stand_in
    table["chumpy.ch", "Ch"] = table["chumpy", "Ch"] = _Chumpy
    table["chumpy.reordering", "Select"] = _Select
    for module in ("copy_reg", "copyreg"):
        table[module, "_reconstructor"] = _Reconstructor()
    for module in ("__builtin__", "builtins"):
        table |= {(module, "object"): OBJECT, (module, "set"): set, (module, "frozenset"): frozenset}
        table[module, "bytes"] = _Encoded
    return table | {("_codecs", "encode"): _Encoded, ("collections", "OrderedDict"): OrderedDict}


ALLOWED = _table()


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.name = name

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UnsafeCheckpointError(
                f"{self.name} asks for {module}.{name}, which a head model has no use for: it was refused and nothing of "
                "it was run; get the file from its publisher again."
            )
        return ALLOWED[module, name]

    def persistent_load(self, key: Any) -> Any:
        raise UnsafeCheckpointError(
            f"{self.name} refers to an object outside itself ({key!r}), which a head model has no use for: it was refused; "
            "get the file from its publisher again."
        )


class _Resolver:
    """Turns what the unpickler left (containers and stand-ins) into containers and real arrays; shared parts stay shared."""

    def __init__(self) -> None:
        self.done: dict[int, tuple[Any, Any]] = {}
        self.busy: set[int] = set()

    def value(self, thing: Any) -> Any:
        if not isinstance(thing, (dict, list, tuple, set, frozenset, _StandIn)):
            if isinstance(thing, (_Token, _Reconstructor, type)):
                raise ValueError("a class where a value is expected")
            return thing
        if id(thing) in self.done:
            return self.done[id(thing)][1]
        if id(thing) in self.busy:
            raise ValueError("an object that contains itself")
        self.busy.add(id(thing))
        result = (
            self._container(thing) if not isinstance(thing, _StandIn) else MAKERS[type(thing)](self, thing)
        )
        self.done[id(thing)] = (thing, result)
        return result

    def _container(self, thing: Any) -> Any:
        if isinstance(thing, dict):
            return {self.value(k): self.value(v) for k, v in thing.items()}
        return type(thing)(self.value(x) for x in thing)

    def array(self, thing: _StandIn) -> np.ndarray:
        if thing.arguments[:1] != (NDARRAY,) or not isinstance(thing.state, tuple) or len(thing.state) != 5:
            raise ValueError("an array of an unexpected class")
        _, shape, dtype, fortran, raw = (self.value(x) for x in thing.state)
        return _array(raw, dtype, shape, "F" if fortran else "C")

    def from_buffer(self, thing: _StandIn) -> np.ndarray:
        raw, dtype, shape, order = (self.value(x) for x in thing.arguments[:4])
        return _array(raw, dtype, shape, order)

    def scalar(self, thing: _StandIn) -> Any:
        dtype, raw = (self.value(x) for x in thing.arguments)
        return _array(raw, dtype, (), "C")[()]

    def dtype(self, thing: _StandIn) -> np.dtype:
        code = thing.arguments[0]
        if not isinstance(code, str) or not SIMPLE_DTYPE.fullmatch(code):
            raise ValueError(f"an array of type {code!r}")
        state = thing.state or (3, "=", None, None, None)
        if any(x is not None for x in state[2:5]) or state[1] not in ("<", ">", "|", "="):
            raise ValueError("an array with fields")
        return np.dtype(code).newbyteorder(str(state[1]))  # type: ignore[arg-type]

    def encoded(self, thing: _StandIn) -> bytes:
        if not thing.arguments:
            return b""  # bytes() of protocol 2 and below
        text, encoding = thing.arguments
        if encoding != "latin1":
            raise ValueError(f"bytes in {encoding!r}")
        return text.encode("latin1")

    def chumpy(self, thing: _StandIn) -> np.ndarray:
        return np.asarray(self.value(thing.state["x"]))

    def select(self, thing: _StandIn) -> np.ndarray:
        source, rows = self.value(thing.state["a"]), self.value(thing.state["idxs"])
        picked = np.asarray(source).ravel()[np.asarray(rows)]
        shape = self.value(thing.state.get("preferred_shape"))
        return picked if shape is None else picked.reshape(shape)

    def compressed(self, thing: _StandIn) -> Any:
        state = {key.lstrip("_"): self.value(v) for key, v in thing.state.items()}
        make = scipy.sparse.csc_matrix if isinstance(thing, _Csc) else scipy.sparse.csr_matrix
        matrix = make((state["data"], state["indices"], state["indptr"]), shape=state["shape"])
        matrix.check_format(full_check=True)
        return matrix

    def coordinates(self, thing: _StandIn) -> Any:
        state = {key.lstrip("_"): self.value(v) for key, v in thing.state.items()}
        rows, columns = state["coords"] if "coords" in state else (state["row"], state["col"])
        return scipy.sparse.coo_matrix((state["data"], (rows, columns)), shape=state["shape"])


def _array(raw: Any, dtype: np.dtype, shape: Any, order: Any) -> np.ndarray:
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
    return np.frombuffer(raw, dtype).reshape(shape, order=order).copy()


MAKERS: dict[type, Callable[[_Resolver, Any], Any]] = {
    _Array: _Resolver.array, _FromBuffer: _Resolver.from_buffer, _Scalar: _Resolver.scalar, _Dtype: _Resolver.dtype,
    _Encoded: _Resolver.encoded, _Chumpy: _Resolver.chumpy, _Select: _Resolver.select, _Csc: _Resolver.compressed,
    _Csr: _Resolver.compressed, _Coo: _Resolver.coordinates,
}  # fmt: skip
