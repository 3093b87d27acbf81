"""A reader of pickles that hold numpy arrays and plain containers, and can run nothing.

Published image sets are pickles, often written by Python 2. Python's own unpickler imports and
calls whatever a file names. `_ArrayUnpickler` is Python's with three locks:

- a global is a name and nothing more; only the names in `_FUNCTIONS` are known, and a call of one
  calls a method here that checks its arguments;
- only the opcodes in `_ALLOWED` are executed;
- a dictionary's keys are text or numbers, a state is given to arrays and their dtypes alone, and
  what is made by calls is limited by the size of the file.

It is `pickle._Unpickler`, the one written in Python, because the one written in C cannot be locked
from outside: 7 bytes that put an object into a far entry of its memo take 4 GB and more, and a
dictionary's key of a million nested tuples overflows its stack.
"""

import os
import pickle
import pickletools
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO

import numpy as np

from zoo.errors import UsageError

LARGE_FILE = 1 << 28  # bytes; it is said of larger files that they are held in memory
INTEGER_BITS = 64  # larger keys of a dictionary could be chosen so that all have the same hash
ARRAY_KINDS = ("u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8", "f4", "f8", "b1")
# Hashing a tuple could recurse without end.
KEY_TYPES = {str, bytes, int, float, bool, NoneType, *(np.dtype(kind).type for kind in ARRAY_KINDS)}


class RefusedError(Exception):
    """The pickle asks for something that no genuine file needs."""


class DamagedError(Exception):
    """The pickle breaks the rules of its format."""


def unpickle(path: Path) -> Any:
    """The object in a pickle file, of Python 2 (its strings as latin1) or 3.

    An OrderedDict comes as a dict, a bytearray as bytes, a string of Python 2 of 256 characters and
    more as bytes; keys are text or numbers. Memory: at most 2.2 times the file while it is read.

    Raises:
        UsageError: the file cannot be read, is truncated, or asks for something that no genuine
            file needs; that is named, and nothing of it has run.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGE_FILE:
                print(f"{path}: held in memory: {size / 1e9:.1f} GB or more", file=sys.stderr)
            content = _ArrayUnpickler(file, size).load()
            if file.read(1):
                raise DamagedError("there is more after its end")
            return content
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); fetch it again") from error
    except RefusedError as error:
        raise UsageError(
            f"{path}: refused, for the pickle asks for {error}, which no genuine file needs; "
            "nothing was run; fetch it again from its publisher"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(
            f"{path}: expected a whole pickle, it is truncated or damaged ({reason}); "
            "fetch it again"
        ) from error


class _GlobalName(str):
    """The name of a function or class, which is all that a pickle gets of it."""


class _ArrayUnpickler(pickle._Unpickler):
    """Python's own unpickler, for arrays and plain containers alone."""

    # What the base class has, of which mypy does not know.
    stack: list[Any]  # of what is not yet in a container, since the last mark
    append: Callable[[Any], None]  # to the stack
    read: Callable[[int], bytes]  # from the file
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, encoding="latin1")
        # A call can make much of few bytes, as when it is given the same text again and again.
        # Genuine files have a piece of data once; some encode it first and then make it an array.
        self.left_to_make = 2 * size

    def find_class(self, module: str, name: str) -> Any:
        """The name itself, if it is a known one."""
        full_name = f"{module}.{name}"
        is_known = full_name == "numpy.ndarray" or full_name in _FUNCTIONS
        if not is_known or "." in name:
            raise RefusedError(_described(full_name))
        return _GlobalName(full_name)

    def load_reduce(self) -> None:
        """Call a known function."""
        arguments = self.stack.pop()
        function = self.stack.pop()
        if type(function) is not _GlobalName or type(arguments) is not tuple:
            raise RefusedError(f"a call of {_described(function)} with {_described(arguments)}")
        if function not in _FUNCTIONS:
            raise RefusedError(f"a call of {_described(function)}")
        self.append(_FUNCTIONS[function](self, *arguments))

    def load_build(self) -> None:
        """Give an array its content, or a dtype its byte order."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, np.dtype):
            order = state[1]
            if order not in ("<", ">", "|") or state != (3, order, None, None, None, -1, -1, 0):
                raise RefusedError("a forged 'numpy.dtype'")
        elif type(target) is np.ndarray and target.shape == (0,) and target.base is None:
            version, shape, dtype, fortran, raw = state
            if version != 1:
                raise DamagedError(f"version {_described(version)} of an array's state")
            state = 1, shape, dtype, bool(fortran), self.array_data(raw, dtype, shape)
        else:
            raise RefusedError(f"a state of {_described(target)}")
        self.stack[-1].__setstate__(state)

    # The functions that pickles of arrays call.

    def dtype(self, name: Any, align: Any = False, copy: Any = True) -> np.dtype:
        """``numpy.dtype``, of plain numbers; a copy, because its state is set afterwards."""
        if type(name) is not str or name not in ARRAY_KINDS:
            raise RefusedError(f"an array of {_described(name)}")
        return np.dtype(name, copy=True)

    def reconstruct(self, array_class: Any, shape: Any, code: Any) -> np.ndarray:
        """``_reconstruct``: an empty array, which is given its content afterwards."""
        is_array = type(array_class) is _GlobalName and array_class == "numpy.ndarray"
        if not is_array or shape != (0,) or code not in ("b", b"b"):
            raise RefusedError("another 'numpy.ndarray' than an empty one to fill")
        return np.empty(0, np.uint8)

    def from_buffer(
        self, raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None
    ) -> np.ndarray:
        """``_frombuffer``, of protocol 5; order "K" has the axes of one in order "C" permuted."""
        if order not in ("C", "F", "K"):
            raise DamagedError(f"an array's order is {_described(order)}")
        raw = self.array_data(raw, dtype, shape)
        array = np.ndarray(shape, dtype, raw, order="F" if order == "F" else "C")
        return array.transpose(axes) if order == "K" else array

    def scalar(self, dtype: Any, raw: Any) -> np.generic:
        """``scalar``: a number of numpy's."""
        return np.frombuffer(self.array_data(raw, dtype, ()), dtype)[0]

    def encode(self, text: Any, codec: Any) -> bytes:
        """``_codecs.encode``: bytes, which Python 3 at protocol 2 writes as a text of latin1."""
        if codec != "latin1":
            raise RefusedError(f"the codec {_described(codec)}")
        self.count_as_made(len(text))
        return text.encode("latin1")

    def no_bytes(self) -> bytes:
        """``bytes``, which is called for empty ones alone."""
        return b""

    def ordered_dict(self, pairs: Any = ()) -> dict[Any, Any]:
        """``OrderedDict``: a plain dict, which keeps its order too; ``pairs`` are [key, value]."""
        self.count_as_made(len(pairs))
        _check_keys([key for key, _ in pairs])
        return dict(pairs)

    def array_data(self, raw: Any, dtype: Any, shape: Any) -> bytes:
        """The bytes of an array, which must be as many as its shape and dtype ask for.

        Raises:
            RefusedError: it would be an array of objects.
            DamagedError, ValueError, TypeError: the shape is none, or there are more or fewer
                bytes.
        """
        if type(raw) not in (bytes, str) or not isinstance(dtype, np.dtype):
            raise RefusedError("an array of objects")
        self.count_as_made(len(raw))
        if type(raw) is str:  # of Python 2
            raw = raw.encode("latin1")
        array = np.ndarray(shape, dtype, raw)  # refuses shapes that are none, or too large
        if array.nbytes != len(raw):
            raise DamagedError(f"{len(raw)} bytes of data for an array of {array.nbytes} bytes")
        return raw

    def count_as_made(self, count: int) -> None:
        """Refuse to make more than the file can hold."""
        self.left_to_make -= count
        if self.left_to_make < 0:
            raise RefusedError("more data than it holds")

    # Opcodes that are executed with more care than Python's own unpickler takes.

    def load_binstring(self) -> None:
        """A string of Python 2 of 256 characters or more: an array's bytes, so they stay bytes."""
        length = int.from_bytes(self.read(4), "little", signed=True)
        if length < 0:
            raise DamagedError(f"a string of {length} bytes")
        self.append(self.read(length))

    def load_dict(self) -> None:
        """A dictionary of the entries since the mark."""
        entries = self.pop_mark()
        self.append({})
        self.add_entries(entries)

    def load_setitem(self) -> None:
        """Another entry of a dictionary."""
        value = self.stack.pop()
        key = self.stack.pop()
        self.add_entries([key, value])

    def load_setitems(self) -> None:
        """Further entries of a dictionary, those since the mark."""
        self.add_entries(self.pop_mark())

    def add_entries(self, entries: list[Any]) -> None:
        """Add entries, which are key, value, key, value, to the dictionary on top of the stack."""
        target = self.stack[-1]
        if type(target) is not dict:
            raise DamagedError(f"entries of {_described(target)}, no dictionary")
        _check_keys(entries[::2])
        target.update(zip(entries[::2], entries[1::2], strict=True))


def _check_keys(keys: list[Any]) -> None:
    if not KEY_TYPES.issuperset(map(type, keys)):
        raise DamagedError("a dictionary's key that is neither text nor number")


def _described(value: Any) -> str:
    """A value as messages show it: a text in quotes, of any other value its type."""
    return repr(value[:80]) if isinstance(value, str) else f"a {type(value).__name__!r}"


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _ArrayUnpickler.dtype,
    "_codecs.encode": _ArrayUnpickler.encode,
    "__builtin__.bytes": _ArrayUnpickler.no_bytes,
    "builtins.bytes": _ArrayUnpickler.no_bytes,
    "collections.OrderedDict": _ArrayUnpickler.ordered_dict,
}
for _core in ("numpy.core", "numpy._core"):  # of numpy 1 and 2
    _FUNCTIONS[f"{_core}.multiarray._reconstruct"] = _ArrayUnpickler.reconstruct
    _FUNCTIONS[f"{_core}.multiarray.scalar"] = _ArrayUnpickler.scalar
    _FUNCTIONS[f"{_core}.numeric._frombuffer"] = _ArrayUnpickler.from_buffer


def _unknown_opcode(unpickler: _ArrayUnpickler) -> None:
    raise DamagedError("a byte that is no opcode")


def _refused_opcode(name: str, unpickler: _ArrayUnpickler) -> None:
    raise RefusedError(f"the opcode {name!r}")


def _small_integer(load: Callable[[Any], None], unpickler: _ArrayUnpickler) -> None:
    load(unpickler)
    if unpickler.stack[-1].bit_length() > INTEGER_BITS:
        raise DamagedError(f"an integer of more than {INTEGER_BITS} bits")


# By the names of the standard library's `pickletools`, which explains each.
_ALLOWED = """
PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE
INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT
STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE EMPTY_LIST LIST APPEND APPENDS
EMPTY_DICT DICT SETITEM SETITEMS
PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
GLOBAL STACK_GLOBAL REDUCE BUILD
""".split()


def _handlers() -> dict[int, Callable[[Any], None]]:
    """What is done for each byte that may stand where an opcode is expected."""
    handlers: dict[int, Callable[[Any], None]] = dict.fromkeys(range(256), _unknown_opcode)
    for opcode in pickletools.opcodes:
        code = ord(opcode.code)
        if opcode.name in _ALLOWED:
            handlers[code] = pickle._Unpickler.dispatch[code]
        else:
            handlers[code] = partial(_refused_opcode, opcode.name)
    for code in (pickle.INT[0], pickle.LONG[0], pickle.LONG1[0]):
        handlers[code] = partial(_small_integer, handlers[code])
    # Python's own makes a bytearray of the length that the file claims before it reads that much.
    handlers[pickle.BYTEARRAY8[0]] = handlers[pickle.BINBYTES8[0]]
    handlers[pickle.BINSTRING[0]] = _ArrayUnpickler.load_binstring
    handlers[pickle.DICT[0]] = _ArrayUnpickler.load_dict
    handlers[pickle.SETITEM[0]] = _ArrayUnpickler.load_setitem
    handlers[pickle.SETITEMS[0]] = _ArrayUnpickler.load_setitems
    handlers[pickle.REDUCE[0]] = _ArrayUnpickler.load_reduce
    handlers[pickle.BUILD[0]] = _ArrayUnpickler.load_build
    return handlers


_ArrayUnpickler.dispatch = _handlers()
