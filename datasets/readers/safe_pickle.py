"""A reader of pickles that hold numpy arrays and plain containers, and can run nothing.

Published image sets are pickles, often written by Python 2. Python's own unpickler may import
and call anything; this one knows no names but those of safe_pickle_arrays.py. It maps the file,
and arrays are views of the map: a file larger than the memory loads in an instant.
"""

import codecs
import mmap
import pickletools
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zoo.datasets.readers.safe_pickle_arrays import (
    GLOBALS,
    LARGE_TEXT,
    DamagedError,
    Holder,
    Kind,
    Name,
    RefusedError,
    Span,
    quoted,
    settled,
    store,
    tuple_of,
)
from zoo.errors import UsageError

STOP = ord(".")
DIGITS = 32  # of a number written out: 24 for a float, 20 for uint64
BYTES = 9  # of a long: uint64; the hashes of longer ones can be made to collide
MISSING = object()  # an entry of the memo that was never put there


def unpickle(path: Path) -> Any:
    """The object in a pickle file, of Python 2 (its strings as latin1) or 3.

    Arrays are read-only views of the mapped file, in its byte order and not always aligned. The
    map lives while they do; nobody may overwrite the file meanwhile. An OrderedDict comes as a
    dict, a bytearray as bytes; keys are text or numbers.

    Raises:
        UsageError: the file cannot be read, is truncated, or asks for a global that no genuine
            file needs; it is named, and nothing of it has run.
    """
    try:
        with path.open("rb") as file:
            return _Machine(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).run()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); fetch it again") from error
    except RefusedError as error:
        raise UsageError(
            f"{path}: refused, for the pickle asks for {error}, which no genuine file needs; "
            "nothing was run; fetch it again from its publisher"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{path}: expected a whole pickle, it is truncated or damaged ({reason}); "
            "fetch it again"
        ) from error


class _Machine:
    """The stack machine whose program a pickle is.

    No opcode costs more than the bytes it reads and the entries it takes off the stack, so a
    small file cannot take long or much memory.
    """

    def __init__(self, file: mmap.mmap) -> None:
        self.file, self.size, self.at = file, len(file), 0
        self.buffer = np.frombuffer(file, np.uint8).data  # an array keeps the map open
        self.stack: list[Any] = []  # since the last mark
        self.marked: list[list[Any]] = []  # the stacks before the marks
        self.memo: list[Any] = []  # no dict, which would weigh more than many small arrays

    def run(self) -> Any:
        """The object whose making the file describes."""
        file = self.file
        while self.at < self.size:
            opcode = file[self.at]
            self.at += 1
            if opcode == STOP:
                return self.result()
            _HANDLERS[opcode](self)
        raise DamagedError("it has no end")

    def result(self) -> Any:
        things = self.pop_many(1)
        if self.stack or self.marked or self.at < self.size:
            raise DamagedError(f"it ends at byte {self.at} of {self.size}, with more on its stack")
        return settled(things)[0]

    # What follows an opcode in the file.

    def take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > self.size:
            raise DamagedError("it ends within an opcode")
        return self.file[start : self.at]

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self, longest: int) -> bytes:
        start, end = self.at, self.file.find(b"\n", self.at, self.at + longest + 1)
        if end < 0:
            raise DamagedError(f"no line of at most {longest} bytes at byte {start}")
        self.at = end + 1
        return self.file[start:end]

    def integer(self) -> int:
        return int(self.line(DIGITS).removesuffix(b"L"))

    def load_int(self) -> None:
        truths = {b"00": False, b"01": True}
        line = self.line(DIGITS)
        self.push(truths[line] if line in truths else int(line))

    def load_long(self, size: int) -> None:
        if not 0 <= size <= BYTES:
            raise DamagedError(f"an integer of {size} bytes")
        self.push(self.number(size, signed=True))

    def load_payload(self, length: int, codec: str | None) -> None:
        start, self.at = self.at, self.at + length
        if not start <= self.at <= self.size:
            raise DamagedError(f"{length} bytes of data at byte {start} of {self.size}")
        self.push_span(Span(self.buffer, start, length, codec))

    def load_string(self) -> None:
        line = self.line(self.size)  # as Python 2's repr has it
        if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
            raise DamagedError("a string without quotes")
        raw = codecs.escape_decode(line[1:-1])[0]
        self.push_span(Span(memoryview(raw), 0, len(raw), "latin1"))

    def load_unicode(self) -> None:
        raw = str(self.line(self.size), "raw-unicode-escape").encode()
        self.push_span(Span(memoryview(raw), 0, len(raw), "utf-8"))

    # The stack and the memo.

    def push(self, thing: Any) -> None:
        self.stack.append(thing)  # looked up here: the argument may have popped a mark

    def push_span(self, span: Span) -> None:
        self.push(span if span.length >= LARGE_TEXT else span.value())

    def pop_many(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise DamagedError("its stack is empty")
        things = self.stack[-count:]
        del self.stack[-count:]
        return things

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def pop_marked(self) -> list[Any]:
        if not self.marked:
            raise DamagedError("a mark is missing")
        things, self.stack = self.stack, self.marked.pop()
        return things

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_marked()

    def put(self, index: int) -> None:
        thing = self.stack[-1]
        if index == 1 and not self.memo:
            self.memo.append(MISSING)  # Python 2 in C counts from 1
        if index == len(self.memo):
            self.memo.append(thing)
        elif 0 <= index < len(self.memo):
            self.memo[index] = thing
        else:
            raise DamagedError(f"its memo skips from entry {len(self.memo)} to {index}")

    def get(self, index: int) -> None:
        thing = self.memo[index] if 0 <= index < len(self.memo) else MISSING
        if thing is MISSING:
            raise DamagedError(f"its memo has no entry {index}")
        self.push(thing)

    # Containers, globals and calls.

    def append(self, things: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise DamagedError(f"entries of {quoted(self.stack[-1])}, no list")
        self.stack[-1].extend(settled(things))

    def store(self, things: list[Any]) -> None:
        store(self.stack[-1], things)

    def find(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise DamagedError("the name of a global is no text")
        if (module, name) not in GLOBALS:
            raise RefusedError(quoted(f"{module}.{name}"))
        self.push(GLOBALS[module, name])

    def reduce(self) -> None:
        function, arguments = self.pop_many(2)
        if type(function) is not Name or not isinstance(arguments, tuple):
            raise RefusedError(f"a call of {quoted(function)} with {quoted(arguments)}")
        self.push(function(*arguments))

    def build(self) -> None:
        target, state = self.pop_many(2)
        if not isinstance(target, Holder | Kind):
            raise RefusedError(f"a state of {quoted(target)}")
        target.build(state)
        self.push(target)


def _unknown(machine: _Machine) -> None:
    raise DamagedError(f"no opcode at byte {machine.at - 1}")


def _refuse(name: str, _: _Machine) -> None:
    raise RefusedError(f"the opcode {name!r}")


# By the names of the standard library's `pickletools`, which explains each.
_KNOWN: dict[str, Callable[[_Machine], object]] = {
    "PROTO": lambda m: m.take(1),
    "FRAME": lambda m: m.take(8),
    "NONE": lambda m: m.push(None),
    "NEWTRUE": lambda m: m.push(True),
    "NEWFALSE": lambda m: m.push(False),
    "INT": _Machine.load_int,
    "BININT": lambda m: m.push(m.number(4, signed=True)),
    "BININT1": lambda m: m.push(m.number(1)),
    "BININT2": lambda m: m.push(m.number(2)),
    "LONG": lambda m: m.push(m.integer()),
    "LONG1": lambda m: m.load_long(m.number(1)),
    "LONG4": lambda m: m.load_long(m.number(4, signed=True)),
    "FLOAT": lambda m: m.push(float(m.line(DIGITS))),
    "BINFLOAT": lambda m: m.stack.extend(struct.unpack(">d", m.take(8))),
    "STRING": _Machine.load_string,
    "BINSTRING": lambda m: m.load_payload(m.number(4, signed=True), "latin1"),
    "SHORT_BINSTRING": lambda m: m.load_payload(m.number(1), "latin1"),
    "UNICODE": _Machine.load_unicode,
    "BINUNICODE": lambda m: m.load_payload(m.number(4), "utf-8"),
    "SHORT_BINUNICODE": lambda m: m.load_payload(m.number(1), "utf-8"),
    "BINUNICODE8": lambda m: m.load_payload(m.number(8), "utf-8"),
    "BINBYTES": lambda m: m.load_payload(m.number(4), None),
    "SHORT_BINBYTES": lambda m: m.load_payload(m.number(1), None),
    "BINBYTES8": lambda m: m.load_payload(m.number(8), None),
    "BYTEARRAY8": lambda m: m.load_payload(m.number(8), None),
    "EMPTY_TUPLE": lambda m: m.push(()),
    "TUPLE1": lambda m: m.push(tuple_of(m.pop_many(1))),
    "TUPLE2": lambda m: m.push(tuple_of(m.pop_many(2))),
    "TUPLE3": lambda m: m.push(tuple_of(m.pop_many(3))),
    "TUPLE": lambda m: m.push(tuple_of(m.pop_marked())),
    "EMPTY_LIST": lambda m: m.push([]),
    "LIST": lambda m: m.push(list(settled(m.pop_marked()))),
    "APPEND": lambda m: m.append(m.pop_many(1)),
    "APPENDS": lambda m: m.append(m.pop_marked()),
    "EMPTY_DICT": lambda m: m.push({}),
    "DICT": lambda m: m.push(store({}, m.pop_marked())),
    "SETITEM": lambda m: m.store(m.pop_many(2)),
    "SETITEMS": lambda m: m.store(m.pop_marked()),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_marked,
    "DUP": lambda m: m.push(m.stack[-1]),
    "PUT": lambda m: m.put(m.integer()),
    "BINPUT": lambda m: m.put(m.number(1)),
    "LONG_BINPUT": lambda m: m.put(m.number(4)),
    "MEMOIZE": lambda m: m.put(len(m.memo)),
    "GET": lambda m: m.get(m.integer()),
    "BINGET": lambda m: m.get(m.number(1)),
    "LONG_BINGET": lambda m: m.get(m.number(4)),
    "GLOBAL": lambda m: m.find(str(m.line(LARGE_TEXT), "utf-8"), str(m.line(LARGE_TEXT), "utf-8")),
    "STACK_GLOBAL": lambda m: m.find(*m.pop_many(2)),
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
_HANDLERS: list[Callable[[_Machine], object]] = [_unknown] * 256
for _opcode in pickletools.opcodes:
    _HANDLERS[ord(_opcode.code)] = _KNOWN.get(_opcode.name, partial(_refuse, _opcode.name))
