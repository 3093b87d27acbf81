"""What the names in pickles of numpy arrays stand for here: none is imported, none is called.

A pickle says how to make an array by naming numpy's functions. Only the names that genuine files
need are known (`GLOBALS`), and each stands for a function of this file that checks what it gets.
Bytes of the file stay where they are until someone needs them: an array is a view of the file.
"""

import codecs
import math
import sys
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any

import numpy as np

LARGE_TEXT = 256  # bytes, from which text and bytes stay in the file: what one byte cannot count
DECODED_AT_ONCE = 1 << 20  # bytes of UTF-8 decoded at once
LARGE_ARRAYS = 1 << 28  # bytes of memory, from which on to say so beforehand
ARRAY_KINDS = ("u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8", "f4", "f8", "b1")
# Hashing anything else could recurse without end.
KEYS = frozenset([str, bytes, int, float, bool, NoneType, *(np.dtype(k).type for k in ARRAY_KINDS)])


class RefusedError(Exception):
    """The pickle asks for something that no genuine file needs."""


class DamagedError(Exception):
    """The pickle breaks the rules of its format."""


class Span:
    """Bytes or text of the file, by their place: an array over them needs no copy.

    Every span is decoded once, for a few bytes of pickle can ask for the same span again.
    """

    __slots__ = ("_bytes", "_value", "buffer", "codec", "length", "start")

    def __init__(self, buffer: memoryview, start: int, length: int, codec: str | None) -> None:
        """``codec`` of a text is "latin1" or "utf-8"; None says bytes."""
        self.buffer, self.start, self.length, self.codec = buffer, start, length, codec
        self._value: str | bytes | None = None
        self._bytes: Span | None = None

    def value(self) -> str | bytes:
        """The text or the bytes themselves, a copy."""
        if self._value is None:
            view = self.buffer[self.start : self.start + self.length]
            self._value = str(view, self.codec) if self.codec else bytes(view)
        return self._value

    def as_bytes(self) -> "Span":
        """The latin1 bytes of a text: those of the file, unless it has them as UTF-8."""
        if self.codec is None:
            return self
        if self.codec == "latin1":
            return Span(self.buffer, self.start, self.length, None)
        if self._bytes is None:
            array = self._latin1()
            self._bytes = Span(array.data, 0, len(array), None)
        return self._bytes

    def _latin1(self) -> np.ndarray:
        """UTF-8 to latin1, by chunks, so that neither is in memory beside the array."""
        if self.length > LARGE_ARRAYS:
            print(
                "reading a pickle that Python 3 wrote at protocol 2: it must be held in memory, up "
                f"to {self.length / 1e9:.1f} GB",
                file=sys.stderr,
            )
        decode = codecs.getincrementaldecoder("utf-8")().decode
        array, filled = np.empty(self.length, np.uint8), 0
        end = self.start + self.length
        for start in range(self.start, end, DECODED_AT_ONCE):
            stop = min(start + DECODED_AT_ONCE, end)
            raw = decode(self.buffer[start:stop], stop == end).encode("latin1")
            array[filled : filled + len(raw)] = np.frombuffer(raw, np.uint8)
            filled += len(raw)
        array.resize(filled, refcheck=False)
        array.flags.writeable = False
        return array


class Loose(tuple):
    """A short tuple that holds a stand-in: arguments or a state, or else settled later."""

    __slots__ = ()

    def value(self) -> tuple[Any, ...]:
        """The tuple with values in place of stand-ins."""
        return tuple(settled(self))


class Name:
    """A global: a known name, and what a call of it does here."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[..., Any] | None) -> None:
        self.name, self.call = name, call

    def __call__(self, *arguments: Any) -> Any:
        """What the call gives: stand-ins, or data."""
        if self.call is None:
            raise RefusedError(f"a call of {self.name!r}")
        return self.call(*arguments)

    def value(self) -> Any:
        """No data hold a function or a class."""
        raise RefusedError(f"{self.name!r} as data")


class Kind:
    """``numpy.dtype``, of plain numbers: the real one would take a forged state."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, align: Any = False, copy: Any = True) -> None:
        if name not in ARRAY_KINDS:
            raise RefusedError(f"an array of {quoted(name)}")
        self.dtype = np.dtype(name)

    def build(self, state: Any) -> None:
        """Take the byte order, the one thing that a genuine state says."""
        order = state[1]
        if state != (3, order, None, None, None, -1, -1, 0) or order not in ("<", ">", "|"):
            raise RefusedError("a forged 'numpy.dtype'")
        self.dtype = self.dtype.newbyteorder(order)

    def value(self) -> np.dtype:
        """The dtype."""
        return self.dtype


class Holder:
    """An array whose state is still to come."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """The state is (1, shape, dtype, is Fortran's order, bytes)."""
        version, shape, kind, fortran, raw = state
        if version != 1:
            raise DamagedError(f"version {quoted(version)} of an array's state")
        self.array = array_over(raw, kind, shape, "F" if fortran else "C")

    def value(self) -> np.ndarray:
        """The array."""
        if self.array is None:
            raise DamagedError("an array without its state")
        return self.array


STAND_INS = frozenset([Span, Loose, Name, Kind, Holder])


def settled(things: Sequence[Any]) -> Sequence[Any]:
    """The things, with values in place of stand-ins."""
    if STAND_INS.isdisjoint(map(type, things)):
        return things
    return [thing.value() if type(thing) in STAND_INS else thing for thing in things]


def tuple_of(things: Sequence[Any]) -> tuple[Any, ...]:
    """A tuple; stand-ins stay in it if it can be arguments or a state, with at most 5 entries."""
    if STAND_INS.isdisjoint(map(type, things)):
        return tuple(things)
    if len(things) > 5:
        return tuple(settled(things))
    return Loose(thing.value() if type(thing) is Loose else thing for thing in things)


def store(target: Any, things: Sequence[Any]) -> Any:
    """Set entries of a dictionary: key, value, key, value. The dictionary is returned.

    Raises:
        DamagedError: it is no dictionary, a value is missing, or a key is no text or number.
    """
    if type(target) is not dict or len(things) % 2:
        raise DamagedError(f"entries of {quoted(target)}, no dictionary, or without a value")
    things = settled(things)
    if not KEYS.issuperset(map(type, things[::2])):
        raise DamagedError("a dictionary's key that is neither text nor number")
    target.update(zip(things[::2], things[1::2], strict=True))
    return target


def quoted(thing: Any) -> str:
    """How a message names a thing, however large: a text itself, else its type."""
    return repr(thing[:80]) if type(thing) is str else f"a {type(thing).__name__!r}"


def array_over(raw: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    """A read-only array over bytes, not copied.

    Raises:
        RefusedError: it would be an array of objects.
        DamagedError: shape and dtype ask for more or less than the bytes.
    """
    if type(raw) is str:  # of Python 2
        raw = raw.encode("latin1")
    if type(raw) is bytes:
        raw = Span(memoryview(raw), 0, len(raw), None)
    if type(raw) is not Span or type(kind) is not Kind:
        raise RefusedError("an array of objects")
    raw = raw.as_bytes()
    if (
        not isinstance(shape, tuple)
        or len(shape) > 32
        or not all(type(side) is int and 0 <= side < 1 << 63 for side in shape)
    ):
        raise DamagedError("an array's shape is not some whole numbers")
    if math.prod(shape) * kind.dtype.itemsize != raw.length:
        raise DamagedError(f"{raw.length} bytes for {kind.dtype} of shape {shape}")
    return np.ndarray(shape, kind.dtype, raw.buffer, raw.start, None, order)  # type: ignore[arg-type]


def _reconstruct(kind: Any, shape: Any, code: Any) -> Holder:
    if kind is not _NDARRAY or shape != (0,) or code not in ("b", b"b"):
        raise RefusedError("another 'numpy.ndarray' than an empty one to fill")
    return Holder()


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
    """Protocol 5's array; order "K" says how the axes of one in order "C" are permuted."""
    if order == "K" and isinstance(axes, tuple):
        return array_over(raw, kind, shape, "C").transpose(axes)
    if order not in ("C", "F"):
        raise DamagedError(f"an array's order is {quoted(order)}")
    return array_over(raw, kind, shape, order)


def _scalar(kind: Any, raw: Any) -> Any:
    return array_over(raw, kind, (), "C")[()]


def _encode(text: Any, codec: Any) -> bytes | Span:
    """Python 3's bytes at protocol 2: a text of latin1."""
    if codec != "latin1":
        raise RefusedError(f"the codec {quoted(codec)}")
    return text.as_bytes() if type(text) is Span else text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _ordered(pairs: Any = None) -> dict[Any, Any]:
    """A plain dict, which keeps its order too; Python 2 gives its entries as a list of lists."""
    if pairs is None:
        return {}
    entries = store({}, [thing for key, value in pairs for thing in (key, value)])
    pairs.clear()  # made for this call alone: a few bytes must not copy it again and again
    return entries


_NDARRAY = Name("numpy.ndarray", None)
_CALLS: dict[tuple[str, str], Callable[..., Any] | None] = {
    ("numpy", "dtype"): Kind,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): _ordered,
}
for _core in ("numpy.core", "numpy._core"):
    _CALLS[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _CALLS[f"{_core}.multiarray", "scalar"] = _scalar
    _CALLS[f"{_core}.numeric", "_frombuffer"] = _from_buffer
GLOBALS = {("numpy", "ndarray"): _NDARRAY} | {
    (module, name): Name(f"{module}.{name}", call) for (module, name), call in _CALLS.items()
}
