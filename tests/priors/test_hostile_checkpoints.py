"""Hostile checkpoints: each is refused with one sentence, and a canary shows that nothing in it ran."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import official_names, persistent, published
from torch import nn

from avatarzoo import safe_pickle
from avatarzoo.errors import BadCheckpointError, UnsafeCheckpointError
from avatarzoo.priors.checkpoints import import_checkpoint

MEGABYTE = 1 << 20


class Evil:
    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def saved(content: Any, archive: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=archive)
    return file.getvalue()


def rewritten(
    archive: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> bytes:
    """An archive of torch.save with other contents."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(out, "w", compression) as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return out.getvalue()


def in_module(thing: Any) -> bytes:
    with official_names() as names:
        module = persistent("TriPlaneGenerator", "", names)
        module.hook = thing
        return pickle.dumps({"G_ema": module}, 4)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def foreign(marker: Path) -> dict[str, bytes]:
    """Files that name what no checkpoint needs; run by the plain unpickler most of them create ``marker``."""
    system = Evil(os.system, f"touch {marker}")
    evaluate = Evil(eval, f"open({str(marker)!r}, 'w').close()")
    raw_system = text(f"touch {marker}")
    storage = b"ctorch.storage\n_load_from_bytes\n"
    inner = pickle.dumps(system, 2)
    result = {f"system-{p}": pickle.dumps({"G_ema": system}, p) for p in range(6)}
    result |= {f"eval-{p}": pickle.dumps([evaluate], p) for p in range(6)}
    result |= {
        "system-exec": pickle.dumps(Evil(exec, f"open({str(marker)!r}, 'w').close()")),
        "system-in-module": in_module(system),
        "system-in-archive": saved({"G_ema": system}),
        "system-in-stream": saved({"G_ema": system}, archive=False),
        "system-after-honest-file": published(marker, more=system)[1],
        "in-nested-storage": b"\x80\x02" + storage + b"B" + struct.pack("<I", len(inner)) + inner + b"\x85R.",
        "inst": b"(" + raw_system + b"ios\nsystem\n.",
        "obj": b"(cos\nsystem\n" + raw_system + b"o.",
        "newobj": b"\x80\x02cos\nsystem\n" + raw_system + b"\x85\x81.",
        "stack-global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + raw_system + b"\x85R.",
        "getattr": b"\x80\x02cbuiltins\ngetattr\ncos\nsystem\n" + text("__call__") + b"\x86R.",
        "import": b"cbuiltins\n__import__\n" + text("os") + b"\x85R.",
        "torch-load": b"ctorch\nload\n" + text("x") + b"\x85R.",
        "numpy-load": b"cnumpy\nload\n" + text("x") + b"\x85R.",
        "dotted": b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        "official-importer": b"ctorch_utils.persistence\n_src_to_module\n" + text("x") + b"\x85R.",
        "class-of-the-family": b"ctraining.triplane\nAnything\n)\x81.",
        "class-in-embedded-source": b"c_imported_module_00ff\nEvil\n)\x81.",
        "lookalike-module": b"ctorch.nn.modules.container.os\nSequential\n)\x81.",
        "torch-part-unknown": b"ctorch.nn.modules.module\nModule\n)\x81.",
        "extension-registry": b"\x80\x02\x82\x01.",
        "reference-in-plain-pickle": b"Pos.system\n.",
        "torchscript": rewritten(saved({"a": torch.ones(2)}), lambda n, c: c).replace(b"archive/version", b"archive/code/xx"),
    }  # fmt: skip
    return result


def test_attacks_would_work_on_the_plain_unpickler(tmp_path):
    """Otherwise the next test would prove nothing."""
    marker = tmp_path / "ran"
    attacks = foreign(marker)
    for name in ("system-0", "system-4", "eval-2", "system-exec", "inst", "obj", "stack-global"):
        pickle.loads(attacks[name])
        assert marker.exists(), name
        marker.unlink()
    path = tmp_path / "x.pth"
    for name in ("system-in-archive", "system-in-stream"):
        path.write_bytes(attacks[name])
        torch.load(path, weights_only=False)
        assert marker.exists(), name
        marker.unlink()


@pytest.mark.parametrize("name", foreign(Path("x")))
def test_foreign_names_are_refused_and_nothing_runs(name, tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "eg3d.pkl"
    path.write_bytes(foreign(marker)[name])
    with pytest.raises(UnsafeCheckpointError, match=r"eg3d\.pkl.*nothing of it was run") as refused:
        import_checkpoint(path)
    assert not marker.exists()
    assert "\n" not in str(refused.value)
    if name.startswith("system-") and name != "system-exec":
        assert "posix.system" in str(refused.value)


def tensor_pickle(storage: bytes, size: tuple, stride: tuple, offset: int = 0) -> bytes:
    """A plain pickle {"a": tensor} of these numbers over a pickled storage."""
    numbers = b"".join(pickle.dumps(x, 0)[:-1] for x in (offset, size, stride))
    empty = b"\x89ccollections\nOrderedDict\n)R"
    body = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers
    return b"\x80\x02}" + text("a") + body + empty + b"tRs."


def nested(stream: bytes) -> bytes:
    return b"ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(stream)) + stream + b"\x85R"


def doubling(start: bytes, again: bytes, levels: int = 25) -> bytes:
    """``start``, then ``levels`` times something that holds the last thing twice."""
    return start + b"".join(b"\x940" + again.replace(b"LAST", b"h" + bytes([i])) for i in range(levels))


PART = b"ctorch.nn.modules.container\nSequential\n)\x81"
STORAGE = saved(torch.ones(4)._typed_storage(), archive=False)
ARCHIVE, STREAM = saved({"a": torch.ones(4)}), saved({"a": torch.ones(4)}, archive=False)
STATE = saved({"G_ema": {"weight": torch.ones(3, 3)}})
FOUR = struct.pack("<q", 4)


def forged_count(name: str, content: bytes) -> bytes:
    """data.pkl with a storage of 2**31 - 1 numbers instead of 4."""
    return content.replace(b"K\x04", b"J\xff\xff\xff\x7f") if name.endswith("data.pkl") else content


def damaged() -> dict[str, bytes]:
    """Files that are broken, forged, or would fill memory or time."""
    children = b"}" + text("_modules") + b"}(" + text("a") + b"LAST" + text("b") + b"LASTusb"
    promise = b"\xff\xff\xff\xff\xff\xff\xff\x7f"
    two = b"(LASTLASTt"
    return {
        "empty": b"", "text": b"hello\n", "a-number": pickle.dumps(5), "no-weights": pickle.dumps({"a": 1}),
        "bytes-promised": b"\x80\x04\x8e" + promise + b".", "text-promised": b"\x80\x04\x8d" + promise + b".",
        "array-promised": b"\x80\x05\x96" + promise + b".", "integer-promised": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "negative-length": b"\x80\x02\x8b\xff\xff\xff\xff.", "long-integer": b"L" + b"9" * 100_000 + b"L\n.",
        "memory-far-away": b"\x80\x04Nr\xff\xff\xff\xffj\xff\xff\xff\xff0.",
        "nothing-on-the-stack": b"\x80\x02R.", "forgotten": b"\x80\x02h\x05.", "marks-only": b"(" * 1000 + b"t" * 1001 + b".",
        "state-of-a-dictionary": b"\x80\x02}}" + text("__class__") + b"Nsb.", "state-of-a-name": b"cnumpy\nndarray\n}b.",
        "state-twice": PART + b"}b}b.", "call-of-a-call": b"ctorch\nSize\n)\x85R)R.",
        "name-as-value": b"}" + text("a") + b"cnumpy\ndtype\ns.", "key-that-shows-nothing": saved({"\ud800\x1b": torch.ones(2)}),
        "doubled-names": saved({"a" * 300: {"b" * 300: {"weight": torch.ones(2), "x": 1}}}),
        "reconstructor": b"ccopyreg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR.",
        "storage-as-value": b"}" + text("a") + nested(STORAGE) + b"s.",
        "contains-itself": b"\x80\x04]\x94h\x00a.",
        "module-contains-itself": PART + b"\x94}" + text("_modules") + b"}" + text("a") + b"h\x00ssb.",
        "deep-tuples": b"\x80\x04)" + b"\x85" * 30_000 + b".", "deep-lists": b"]" * 30_000 + b"a" * 29_999 + b".",
        "deep-records": b"ctorch\nSize\n" * 30_000 + b")" + b"\x85R" * 30_000 + b".",
        "string-of-brackets": b"S" + b"(" * 9999 + b"\n.",
        "deep-key": b"}" + b")" + b"\x85" * 30_000 + b"Ns.", "doubled-key": b"}" + doubling(b")", two) + b"Ns.",
        "doubled-values": b"\x80\x04}" + text("a") + doubling(b"K\x01\x85", two) + b"s.",
        "doubled-lists": b"\x80\x04" + doubling(b"K\x01\x85", two) + b".",
        "doubled-modules": b"\x80\x04" + doubling(PART + b"}b", PART + children) + b".",
        "operations-without-end": b"N0" * 50_000 + b".",
        "broadcast-tensor": tensor_pickle(nested(STORAGE), (1 << 40,), (0,)),
        "shape-beyond-storage": tensor_pickle(nested(STORAGE), (2, 3), (3, 1)),
        "strides-beyond-storage": tensor_pickle(nested(STORAGE), (2,), (4,)),
        "offset-beyond-storage": tensor_pickle(nested(STORAGE), (2,), (1,), 3),
        "negative-offset": tensor_pickle(nested(STORAGE), (2,), (1,), -1),
        "negative-stride": tensor_pickle(nested(STORAGE), (2,), (-1,), 2),
        "shape-of-text": tensor_pickle(nested(STORAGE), ("2",), (1,)),
        "nested-storage-forged": tensor_pickle(nested(STORAGE.replace(FOUR, b"\xff" * 7 + b"\x7f")), (4,), (1,)),
        "nested-storage-cut": tensor_pickle(nested(STORAGE[:-4]), (4,), (1,)),
        "nested-pickle": tensor_pickle(nested(pickle.dumps([1, 2])), (4,), (1,)),
        "stream-forged": STREAM.replace(FOUR, b"\xff" * 7 + b"\x7f"), "stream-longer": STREAM + b"more",
        "stream-count-forged": STREAM.replace(b"K\x04N", b"J\xff\xff\xff\x7fN"),
        "archive-count-forged": rewritten(ARCHIVE, forged_count),
        "archive-storage-cut": rewritten(ARCHIVE, lambda n, c: c[:-1] if "/data/" in n else c),
        "archive-unpacks-to-more": rewritten(ARCHIVE, lambda n, c: bytes(MEGABYTE) if "/data/" in n else c, zipfile.ZIP_DEFLATED),
        "archive-of-a-big-endian": rewritten(ARCHIVE, lambda n, c: b"big" if n.endswith("byteorder") else c),
        "archive-without-pickle": rewritten(ARCHIVE, lambda n, c: c).replace(b"data.pkl", b"fata.pkl"),
        "two-pickles": published(Path("x"))[1] * 2,
        "path-as-name": saved({"../../x": {"weight": torch.ones(2)}}),
        "name-of-dots": saved({"..": {"weight": torch.ones(2)}}),
        "parameter-is-text": PART + b"}" + text("_parameters") + b"}" + text("a") + text("b") + b"ssb.",
        "state-is-a-list": PART + b"]b.", "name-with-dots": PART + b"}" + text("_modules") + b"}" + text("a.b") + PART + b"}bssb.",
    }  # fmt: skip


REASONS = {
    "broadcast-tensor": "in a storage of 4", "shape-beyond-storage": "in a storage of 4", "deep-records": "nested too deep",
    "strides-beyond-storage": "in a storage of 4", "offset-beyond-storage": "in a storage of 4", "shape-of-text": "of shape",
    "negative-offset": "of shape", "negative-stride": "of shape", "doubled-values": "plain values without end",
    "doubled-lists": "plain values without end", "doubled-modules": "module tree without end", "doubled-names": "names without",
    "deep-tuples": "nested too deep", "contains-itself": "contains itself", "operations-without-end": "operations",
    "bytes-promised": "ends early", "archive-count-forged": "16 bytes for a storage of 2147483647", "path-as-name": "named",
    "two-pickles": "after its end", "nested-storage-forged": "another size", "stream-forged": "another size",
    "archive-unpacks-to-more": "unpacks to more",
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", damaged())
def test_damage_and_bombs_are_one_sentence_without_cost(name, tmp_path, monkeypatch):
    monkeypatch.setattr(safe_pickle, "MAX_OPERATIONS", 99_000)
    path = tmp_path / "eg3d.pkl"
    path.write_bytes(damaged()[name])
    size, started = path.stat().st_size, time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(BadCheckpointError, match=r"eg3d\.pkl is damaged or no checkpoint") as refused:
            import_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * MEGABYTE + 8 * size
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 30
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600
    assert REASONS.get(name, "") in str(refused.value)


@pytest.mark.parametrize("kind", ["pickle", "archive", "stream"])
def test_truncated_files_are_refused_wherever_they_end(kind, tmp_path):
    files = {"pickle": published(tmp_path / "ran")[1], "archive": STATE, "stream": STREAM}
    data, path = files[kind], tmp_path / "cut.pkl"
    for end in {*np.linspace(0, len(data) - 1, 40, dtype=int).tolist(), len(data) - 2}:
        path.write_bytes(data[:end])
        with pytest.raises(BadCheckpointError, match=r"cut\.pkl is damaged"):
            import_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_flipped_bytes_never_run_anything_and_never_escape(tmp_path):
    """Whatever a byte becomes, the answer is a checkpoint or one of the two sentences."""
    data, path = bytearray(published(tmp_path / "ran")[1]), tmp_path / "flipped.pkl"
    rng = np.random.default_rng(0)
    answers = set()
    for _ in range(80):
        flipped = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            flipped[place] = rng.integers(256)
        path.write_bytes(flipped)
        try:
            import_checkpoint(path)
            answers.add("read")
        except (BadCheckpointError, UnsafeCheckpointError) as error:
            answers.add(type(error).__name__)
    assert answers == {"read", "BadCheckpointError", "UnsafeCheckpointError"}
    assert not (tmp_path / "ran").exists()


def test_shared_weights_are_read_but_not_multiplied(tmp_path):
    """A tied weight comes out under both keys; a thousand keys for one big tensor are a bomb."""
    path = tmp_path / "tied.pkl"
    layer = nn.Linear(512, 512)
    tied = {"G_ema": {"a": layer.weight, "b": layer.weight}}
    torch.save(tied, path)
    state = import_checkpoint(path).modules["G_ema"].state
    assert torch.equal(state["a"], state["b"])
    torch.save({"G_ema": {str(i): layer.weight for i in range(1000)}}, path)
    with pytest.raises(BadCheckpointError, match="far more bytes"):
        import_checkpoint(path)
