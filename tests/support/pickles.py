"""Writers of pickles that Python 3 does not write by itself."""

import pickle
import struct
from collections.abc import Callable


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 writes its strings; give it protocol 2."""

    def save_string(self, text: bytes | str) -> None:
        raw = text.encode("latin1") if isinstance(text, str) else text
        if len(raw) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_string, str: save_string}  # noqa: RUF012


class Call:
    """Pickles as a call of a function, and a state that its result is to take."""

    def __init__(self, function: Callable[..., object], *args: object, state: object = None):
        self.reduced = function, args, state

    def __reduce__(self) -> tuple[object, ...]:
        return self.reduced
