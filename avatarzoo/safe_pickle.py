"""A pickle machine that calls nothing.

A pickle is a program: it names functions and classes and asks for them to be called. The machine here runs the stack
operations of protocols 0 to 5 and nothing else: a name stays a :class:`Name`, and a call, a construction or a state
becomes a note in a :class:`Record`. No module is imported, no function is called, no attribute is set, whatever the file
says. Names outside the reader's list are refused as soon as they are read. :mod:`avatarzoo.pickle_values` turns records
into values.

What a file can cost is bounded as well: at most :data:`MAX_OPERATIONS` operations, lengths are compared with the bytes
that are there before anything is made of them, and keys are plain values (hashing a deep tuple takes for ever).
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from avatarzoo.errors import UnsafeCheckpointError

MAX_OPERATIONS = 4_000_000  # G, D and G_ema of EG3D take 36 000
MAX_INTEGER_BYTES = 256
PLAIN = (str, int, float, bool, bytes, type(None))


@dataclass(frozen=True, slots=True)
class Name:
    """A function or class that a pickle names; nothing was imported."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}.{self.attribute}"


class Record:
    """A call or an object that a pickle asks for, written down instead of made.

    Attributes:
        name: what would have been called.
        arguments, keywords: with what.
        state: what it would have got as its state (``__setstate__`` or ``__dict__``), else ``None``.
        items, entries: what would have been appended, and set by key.
    """

    __slots__ = ("arguments", "entries", "items", "keywords", "name", "state")

    def __init__(self, name: Name, arguments: tuple, keywords: dict | None = None) -> None:
        self.name, self.arguments, self.keywords = name, arguments, keywords or {}
        self.state: Any = None
        self.items: list = []
        self.entries: dict = {}


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """An object outside the pickle (torch keeps its storages so), by the key the file gives it."""

    key: Any


class Machine:
    """Runs one pickle of ``content`` from ``position`` on; afterwards ``position`` is where it ended.

    Args:
        allowed: whether a name may stand in the file.
        refuse: makes the error for a name that may not, or for a reference where ``references`` is off.
        references: whether the pickle may refer to objects outside itself; they are collected in ``self.references``.
    """

    def __init__(
        self,
        content: bytes,
        allowed: Callable[[Name], bool],
        refuse: Callable[[str], UnsafeCheckpointError],
        *,
        position: int = 0,
        references: bool = False,
    ) -> None:
        self.content, self.position = content, position
        self.allowed, self.refuse = allowed, refuse
        self.references: list[Reference] | None = [] if references else None
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object that the pickle describes, made of plain containers, records, names and references.

        Raises:
            UnsafeCheckpointError: a name or a reference that may not be there.
            ValueError, EOFError: the pickle is damaged or too long.
        """
        for _ in range(MAX_OPERATIONS):
            operation = self.take(1)
            if operation in VALUES:
                self.stack.append(VALUES[operation](self))
            elif operation == b".":
                return self.pop()
            elif operation in ACTIONS:
                ACTIONS[operation](self)
            else:
                raise ValueError(f"operation {operation!r}")
        raise ValueError(f"more than {MAX_OPERATIONS} operations")

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.content) - self.position:
            raise EOFError("the file ends early")
        self.position += count
        return self.content[self.position - count : self.position]

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def line(self) -> bytes:
        end = self.content.find(b"\n", self.position)
        if end < 0:
            raise EOFError("the file ends early")
        return self.take(end + 1 - self.position)[:-1]

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        self.stack.append(self.pop())
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("an empty stack")
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def remember(self, place: int) -> None:
        self.memo[place] = self.top()

    def recall(self, place: int) -> Any:
        if place not in self.memo:
            raise ValueError("a memory that was never written")
        return self.memo[place]

    def find(self, module: Any, attribute: Any) -> Name:
        if not (isinstance(module, str) and isinstance(attribute, str)):
            raise ValueError("a name that is no text")
        name = Name(module, attribute)
        if not self.allowed(name):
            raise self.refuse(f"asks for {shown(name)}")
        return name

    def call(self, name: Any, arguments: Any, keywords: Any = None) -> Record:
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of something that is no name")
        if not isinstance(keywords, (dict, type(None))):
            raise ValueError("keywords that are no dictionary")
        return Record(name, arguments, keywords)

    def reduce(self) -> Record:
        arguments = self.pop()
        return self.call(self.pop(), arguments)

    def new_with_keywords(self) -> Record:
        keywords, arguments = self.pop(), self.pop()
        return self.call(self.pop(), arguments, keywords)

    def instance(self) -> Record:
        name = self.find(self.line().decode("ascii"), self.line().decode("ascii"))
        return self.call(name, tuple(self.pop_mark()))

    def object(self) -> Record:
        kind, *arguments = self.pop_mark()
        return self.call(kind, tuple(arguments))

    def stack_name(self) -> Name:
        attribute = self.pop()
        return self.find(self.pop(), attribute)

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if not isinstance(target, Record) or target.state is not None:
            raise ValueError("a state for something that takes none")
        target.state = state

    def extend(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, (list, Record)):
            raise ValueError("items for something that is no list")
        (target if isinstance(target, list) else target.items).extend(values)

    def set_entries(self, flat: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, (dict, Record)):
            raise ValueError("entries for something that is no dictionary")
        (target if isinstance(target, dict) else target.entries).update(_pairs(flat))

    def add(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, set):
            raise ValueError("members for something that is no set")
        target.update(map(_plain, values))

    def refer(self, key: Any) -> Reference:
        if self.references is None:
            raise self.refuse("refers to an object outside itself")
        self.references.append(Reference(key))
        return self.references[-1]

    def last(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def extension(self) -> None:
        raise self.refuse("uses the extension registry")


def shown(thing: Any) -> str:
    """What a file says, fit for one line of a message."""
    text = str(thing)
    return "".join(x if x.isprintable() else "?" for x in text[:200]) + ("..." if len(text) > 200 else "")


def _plain(key: Any) -> Any:
    if not isinstance(key, PLAIN):
        raise ValueError("a key or a member of a set that is no plain value")
    return key


def _pairs(flat: list[Any]) -> dict:
    if len(flat) % 2:
        raise ValueError("a key without its value")
    return dict(zip(map(_plain, flat[::2]), flat[1::2]))


def _integer(raw: bytes) -> int:
    if len(raw) > MAX_INTEGER_BYTES:
        raise ValueError("an integer of an unbelievable size")
    return int.from_bytes(raw, "little", signed=True)


def _line_integer(machine: Machine) -> int | bool:
    text = machine.line()
    if text in (b"00", b"01"):
        return text == b"01"
    if len(text) > MAX_INTEGER_BYTES:
        raise ValueError("an integer of an unbelievable size")
    return int(text.rstrip(b"L"))


def _quoted(text: bytes) -> str:
    """Python 2's ``repr`` of a string, read as latin1."""
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    return codecs.escape_decode(text[1:-1])[0].decode("latin1")  # type: ignore[attr-defined]


def _latin1(raw: bytes) -> str:
    return raw.decode("latin1")


def _utf8(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _counted(code: str, make: Callable[[bytes], Any]) -> Callable[[Machine], Any]:
    return lambda machine: make(machine.take(machine.number(code)))


def _remember(code: str) -> Callable[[Machine], None]:
    return lambda machine: machine.remember(machine.number(code))


def _recall(code: str) -> Callable[[Machine], Any]:
    return lambda machine: machine.recall(machine.number(code))


# What pushes one value.
VALUES: dict[bytes, Callable[[Machine], Any]] = {
    b"N": lambda m: None, b"\x88": lambda m: True, b"\x89": lambda m: False,
    b"I": _line_integer, b"L": _line_integer, b"F": lambda m: float(m.line()), b"G": lambda m: m.number(">d"),
    b"J": lambda m: m.number("<i"), b"K": lambda m: m.number("<B"), b"M": lambda m: m.number("<H"),
    b"\x8a": _counted("<B", _integer), b"\x8b": _counted("<i", _integer),
    b"S": lambda m: _quoted(m.line()), b"T": _counted("<i", _latin1), b"U": _counted("<B", _latin1),
    b"V": lambda m: m.line().decode("raw-unicode-escape"), b"X": _counted("<I", _utf8),
    b"\x8c": _counted("<B", _utf8), b"\x8d": _counted("<Q", _utf8),
    b"B": _counted("<I", bytes), b"C": _counted("<B", bytes), b"\x8e": _counted("<Q", bytes),
    b"\x96": _counted("<Q", bytearray),
    b"]": lambda m: [], b"}": lambda m: {}, b"\x8f": lambda m: set(), b")": lambda m: (),
    b"l": Machine.pop_mark, b"d": lambda m: _pairs(m.pop_mark()), b"t": lambda m: tuple(m.pop_mark()),
    b"\x85": lambda m: tuple(m.last(1)), b"\x86": lambda m: tuple(m.last(2)), b"\x87": lambda m: tuple(m.last(3)),
    b"\x91": lambda m: frozenset(map(_plain, m.pop_mark())), b"2": Machine.top,
    b"g": lambda m: m.recall(int(m.line()[:20])), b"h": _recall("<B"), b"j": _recall("<I"),
    b"c": lambda m: m.find(_utf8(m.line()), _utf8(m.line())), b"\x93": Machine.stack_name,
    b"i": Machine.instance, b"o": Machine.object, b"R": Machine.reduce, b"\x81": Machine.reduce,
    b"\x92": Machine.new_with_keywords,
    b"P": lambda m: m.refer(m.line().decode("ascii")), b"Q": lambda m: m.refer(m.pop()),
}  # fmt: skip

# What changes the stack, the memory or an object on the stack.
ACTIONS: dict[bytes, Callable[[Machine], Any]] = {
    b"\x80": lambda m: m.take(1), b"\x95": lambda m: m.take(8), b"(": lambda m: m.marks.append(len(m.stack)),
    b"0": lambda m: m.pop() if len(m.stack) > (m.marks[-1] if m.marks else 0) else m.pop_mark(), b"1": Machine.pop_mark,
    b"p": lambda m: m.remember(int(m.line()[:20])), b"q": _remember("<B"), b"r": _remember("<I"),
    b"\x94": lambda m: m.remember(len(m.memo)), b"b": Machine.build,
    b"a": lambda m: m.extend(m.last(1)), b"e": lambda m: m.extend(m.pop_mark()),
    b"s": lambda m: m.set_entries(m.last(2)), b"u": lambda m: m.set_entries(m.pop_mark()),
    b"\x90": lambda m: m.add(m.pop_mark()),
    b"\x82": Machine.extension, b"\x83": Machine.extension, b"\x84": Machine.extension,
}  # fmt: skip
