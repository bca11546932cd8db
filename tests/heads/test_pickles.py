"""The restricted unpickler: every protocol of honest files, and no effect at all of dishonest ones."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import pickletools
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from avatarzoo.errors import MissingAssetError, UnsafeCheckpointError
from avatarzoo.heads.pickles import ALLOWED, load_npy, load_pickle, loads


@contextlib.contextmanager
def fake_chumpy():
    """A module named chumpy.ch with a class Ch, only while pickling."""
    package, module, reordering = (types.ModuleType(n) for n in ("chumpy", "chumpy.ch", "chumpy.reordering"))
    module.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    reordering.Select = type("Select", (module.Ch,), {"__module__": "chumpy.reordering"})
    names = {"chumpy": package, "chumpy.ch": module, "chumpy.reordering": reordering}
    sys.modules.update(names)
    try:
        yield module.Ch, reordering.Select
    finally:
        for name in names:
            del sys.modules[name]


def honest(protocol: int) -> tuple[dict, bytes]:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(4, 3))
    sparse = scipy.sparse.random(5, 7, 0.4, "csc", random_state=0)
    content = {
        "float": shared, "again": shared, "fortran": np.asfortranarray(rng.normal(size=(3, 2)).astype(">f4")),
        "int": rng.integers(0, 9, (6, 3)).astype(np.uint32), "bool": np.array([True, False]), "empty": np.zeros((0, 3)),
        "text": np.array(["ab", "c"]), "objects": np.array([[1, 2], "x", None], dtype=object), "scalar": np.float32(2.5),
        "csc": sparse, "csr": sparse.tocsr(), "coo": sparse.tocoo(), "names": ["a", ("b", 3)], "set": {1, 2},
        "bytes": b"\xff\x00",
    }  # fmt: skip
    with fake_chumpy() as (ch, select):
        array, picked = ch(), select()
        array.__dict__.update(x=shared, _dirty_vars=set(), _itr=None)
        picked.__dict__.update(a=array, idxs=np.array([5, 0, 7, 2]), preferred_shape=(2, 2))
        return content, pickle.dumps({**content, "chumpy": array, "select": picked}, protocol)


@pytest.mark.parametrize("protocol", range(6))
def test_reads_arrays_sparse_matrices_and_chumpy_of_every_protocol(protocol):
    content, data = honest(protocol)
    assert "chumpy" not in sys.modules
    read = loads(data, "file")
    for key in ("float", "fortran", "int", "bool", "empty", "text", "scalar"):
        np.testing.assert_array_equal(read[key], content[key])
        assert read[key].dtype == content[key].dtype
    assert read["again"] is read["float"]
    assert read["float"].flags.writeable
    assert list(read["objects"]) == [[1, 2], "x", None]
    for key in ("csc", "csr", "coo"):
        assert read[key].format == key
        np.testing.assert_array_equal(read[key].toarray(), content[key].toarray())
    np.testing.assert_array_equal(read["chumpy"], content["float"])
    np.testing.assert_array_equal(read["select"], content["float"].ravel()[[5, 0, 7, 2]].reshape(2, 2))
    assert (read["names"], read["set"], read["bytes"]) == (["a", ("b", 3)], {1, 2}, b"\xff\x00")


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_reads_python2_strings_and_both_numpy_module_paths(core):
    """What Python 2 wrote: str (opcode U) for raw bytes, copy_reg and __builtin__ names, numpy.core."""
    data = (
        b"\x80\x02c"
        + core
        + b".multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
    )
    data += (
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    )
    data += b"U\x08" + struct.pack("<2f", 1.5, -3.0) + b"tb."
    np.testing.assert_array_equal(loads(data, "file"), np.array([1.5, -3.0], np.float32))


class Evil:
    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def raw(body: bytes) -> bytes:
    return b"\x80\x02" + body


def attacks(marker: Path) -> dict[str, bytes]:
    """Pickles that would create ``marker``; each is shown to work on the plain unpickler where that is harmless."""
    command = f"touch {marker}"
    system, evaluate = Evil(os.system, command), Evil(eval, f"open({str(marker)!r}, 'w').close()")
    text = command.encode()
    result = {f"system-{p}": pickle.dumps({"v_template": system}, p) for p in range(6)}
    result |= {f"eval-{p}": pickle.dumps([evaluate], p) for p in range(6)}
    with fake_chumpy() as (ch, _):
        nested = ch()
        nested.__dict__.update(x=np.zeros(3), _cache=system)
        result["in-chumpy-state"] = pickle.dumps({"shapedirs": nested}, 2)
    objects = np.empty(1, object)
    objects[0] = system
    result["in-object-array"] = pickle.dumps(objects, 4)
    result["inst"] = b"(S'" + text + b"'\nios\nsystem\n."
    result["obj"] = b"(cos\nsystem\nS'" + text + b"'\no."
    result["stack-global"] = (
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + bytes([len(text)]) + text + b"\x85R."
    )
    result["getattr"] = raw(b"cbuiltins\ngetattr\ncos\nsystem\nX\x08\x00\x00\x00__call__\x86R.")
    result["dotted"] = b"\x80\x04\x8c\x05numpy\x8c\x10f2py.os.system.x\x93."
    result["numpy-load"] = raw(b"cnumpy\nload\n(X\x01\x00\x00\x00xNI01\ntR.")
    result["numpy-exec"] = raw(b"cnumpy.testing._private.utils\nrunstring\n(X\x01\x00\x00\x00x}tR.")
    result["persistent"] = b"Pos.system\n."
    return result


def test_attacks_would_work_on_the_plain_unpickler(tmp_path):
    """Otherwise the next test would prove nothing."""
    marker = tmp_path / "ran"
    prepared = attacks(marker)
    for name in (
        "system-0",
        "system-4",
        "eval-2",
        "in-object-array",
        "inst",
        "obj",
        "stack-global",
        "in-chumpy-state",
    ):
        with fake_chumpy():
            pickle.loads(prepared[name])
        assert marker.exists(), name
        marker.unlink()


@pytest.mark.parametrize("name", list(attacks(Path("x"))))
def test_attacks_are_refused_and_nothing_runs(name, tmp_path):
    marker = tmp_path / "ran"
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(attacks(marker)[name])
    with pytest.raises(UnsafeCheckpointError, match=r"generic_model\.pkl") as refused:
        load_pickle(path)
    assert not marker.exists()
    if "system" in name:
        assert "posix.system" in str(refused.value)


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
CRAFTED = {
    "reconstruct-of-another-class": raw(
        RECONSTRUCT + b"cscipy.sparse.csc\ncsc_matrix\nK\x00\x85U\x01b\x87R."
    ),
    "reconstruct-of-a-set": raw(RECONSTRUCT + b"c__builtin__\nset\nK\x00\x85U\x01b\x87R."),
    "dtype-with-fields": raw(
        b"cnumpy\ndtype\nU\x02V8K\x00K\x01\x87R(K\x03U\x01|NU\x01a\x85}K\x08K\x01K\x00tb."
    ),
    "dtype-from-a-list": raw(b"cnumpy\ndtype\n(U\x01au.".replace(b"u.", b"lK\x00K\x01\x87R.")),
    "encode-with-another-codec": raw(b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00idna.\x86R."),
    "a-class-as-value": raw(b"cnumpy\nndarray\n."),
    "reconstructor-of-a-set": b"ccopyreg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR.",
    "change-a-class": raw(b"cchumpy.ch\nCh\nN}X\x0c\x00\x00\x00__setstate__c_codecs\nencode\ns\x86b."),
    "change-a-function": raw(b"ccopyreg\n_reconstructor\nN}X\x01\x00\x00\x00aK\x01s\x86b."),
    "call-a-token": raw(b"cnumpy\nndarray\nK\x05\x85R."),
    "contains-itself": raw(b"](h\x00e0.").replace(b"](h\x00e0.", b"]q\x00h\x00a."),
    "cut-off": honest(4)[1][:-40],
    "empty": b"",
}


@pytest.mark.parametrize("name", CRAFTED)
def test_allowed_names_cannot_be_put_to_another_use(name):
    before = dict(ALLOWED)
    with pytest.raises((MissingAssetError, UnsafeCheckpointError)):
        loads(CRAFTED[name], "file")
    assert before == ALLOWED
    content, data = honest(2)
    np.testing.assert_array_equal(
        loads(data, "file")["chumpy"], content["float"]
    )  # nothing was changed for later loads


def test_array_that_promises_more_than_it_holds_is_refused():
    data = pickle.dumps(np.arange(4.0), 2)
    positions = [p for op, arg, p in pickletools.genops(data) if op.name == "BININT1" and arg == 4]
    assert positions
    for position in positions:
        forged = data[: position + 1] + b"\x7f" + data[position + 2 :]
        with pytest.raises(MissingAssetError, match="bytes for an array"):
            loads(forged, "file")


def test_sparse_matrix_with_indices_out_of_range_is_refused():
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    matrix.indices = np.array([0, 1, 1000], np.int32)
    with pytest.raises(MissingAssetError, match="indices"):
        loads(pickle.dumps(matrix, 2), "file")


def test_npy_with_one_object_gives_that_object(tmp_path):
    content = {"meanshape": np.arange(6.0), "names": ["a"]}
    np.save(tmp_path / "dict.npy", content)
    read = load_npy(tmp_path / "dict.npy")
    np.testing.assert_array_equal(read["meanshape"], content["meanshape"])
    np.save(tmp_path / "plain.npy", np.eye(2, dtype=np.float32))
    np.testing.assert_array_equal(load_npy(tmp_path / "plain.npy"), np.eye(2))


def test_malicious_npy_is_refused(tmp_path):
    marker = tmp_path / "ran"
    np.save(tmp_path / "evil.npy", {"x": Evil(os.system, f"touch {marker}")})
    with pytest.raises(UnsafeCheckpointError, match=r"posix\.system"):
        load_npy(tmp_path / "evil.npy")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    (tmp_path / "raw.npy").write_bytes(
        header.getvalue() + pickle.dumps(Evil(os.system, f"touch {marker}"), 4)
    )
    with pytest.raises(UnsafeCheckpointError):
        load_npy(tmp_path / "raw.npy")
    assert not marker.exists()


def test_missing_or_foreign_files_are_one_sentence(tmp_path):
    with pytest.raises(MissingAssetError, match="cannot be read"):
        load_pickle(tmp_path / "none.pkl")
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(MissingAssetError, match=r"not a readable \.npy"):
        load_npy(tmp_path / "text.npy")
