"""Reading other people's head models without running them.

They come as pickles of numpy arrays, scipy sparse matrices and chumpy arrays. :mod:`avatarzoo.safe_pickle` reads the
pickle without calling anything; it may name only the exact (module, name) pairs of :data:`ALLOWED`, and real arrays are
made afterwards, from checked values.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from avatarzoo.errors import MissingAssetError
from avatarzoo.pickle_values import COMMON, Maker, Resolver
from avatarzoo.safe_pickle import Record, shown


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
    return _Heads(name).loads(content)


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MissingAssetError(
            f"{path} cannot be read ({error.strerror}); give the path of the model file."
        ) from error


class _Heads(Resolver):
    purpose = "a head model"

    def damaged(self, error: Exception) -> MissingAssetError:
        return MissingAssetError(
            f"{self.file} is damaged or holds something else than arrays ({type(error).__name__}: {shown(error)}); get it again."
        )

    def chumpy(self, record: Record) -> np.ndarray:
        return np.asarray(self.value(record.state["x"]))

    def select(self, record: Record) -> np.ndarray:
        source, rows = self.value(record.state["a"]), self.value(record.state["idxs"])
        picked = np.asarray(source).ravel()[np.asarray(rows)]
        shape = self.value(record.state.get("preferred_shape"))
        return picked if shape is None else picked.reshape(shape)

    def compressed(self, record: Record) -> Any:
        state = {key.lstrip("_"): self.value(v) for key, v in record.state.items()}
        csc = record.name.attribute.startswith("csc")
        make = scipy.sparse.csc_matrix if csc else scipy.sparse.csr_matrix
        matrix = make((state["data"], state["indices"], state["indptr"]), shape=state["shape"])
        matrix.check_format(full_check=True)
        return matrix

    def coordinates(self, record: Record) -> Any:
        state = {key.lstrip("_"): self.value(v) for key, v in record.state.items()}
        rows, columns = state["coords"] if "coords" in state else (state["row"], state["col"])
        return scipy.sparse.coo_matrix((state["data"], (rows, columns)), shape=state["shape"])


def _makers() -> dict[tuple[str, str], Maker | None]:
    makers = dict(COMMON)
    kinds = (("csc", _Heads.compressed), ("csr", _Heads.compressed), ("coo", _Heads.coordinates))
    for kind, maker in kinds:
        for module in (f"scipy.sparse.{kind}", f"scipy.sparse._{kind}"):
            makers[module, f"{kind}_matrix"] = makers[module, f"{kind}_array"] = maker
    makers["chumpy.ch", "Ch"] = makers["chumpy", "Ch"] = _Heads.chumpy
    makers["chumpy.reordering", "Select"] = _Heads.select
    return makers


ALLOWED = _Heads.makers = _makers()
