"""Pickles that Python 3 does not write by itself: Python 2's strings, calls of any function."""

import pickle
import struct
from collections.abc import Callable


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 writes its strings; to be used with protocol 2."""

    def save_string(self, text: bytes | str) -> None:
        raw = text.encode("latin1") if isinstance(text, str) else text
        if len(raw) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_string, str: save_string}  # noqa: RUF012


class Call:
    """An object whose pickle calls a function with these arguments, and sets the result's state."""

    def __init__(self, function: Callable[..., object], *args: object, state: object = None):
        self.reduced = function, args, state

    def __reduce__(self) -> tuple[object, ...]:
        return self.reduced
