"""Pickles as Python 2, or Python 3 with NumPy 1, wrote them when image sets were published."""

import codecs
import pickle
from io import BytesIO
from types import FunctionType
from typing import Any

import numpy as np

from tests.support.pickles import Python2Pickler as StringPickler

_ARRAY = np.zeros(1, np.uint8)
# Function or class -> the module and name under which NumPy 1 and Python 2 pickled it.
OLD_NAMES: dict[Any, str] = {
    np.ndarray: "numpy ndarray",
    np.dtype: "numpy dtype",
    _ARRAY.__reduce_ex__(2)[0]: "numpy.core.multiarray _reconstruct",
    _ARRAY.__reduce_ex__(5)[0]: "numpy.core.numeric _frombuffer",
    codecs.encode: "_codecs encode",
    bytes: "__builtin__ bytes",  # of an empty array
}


class Unicode(str):
    """A string that was unicode in Python 2, as all literals are under unicode_literals."""


class NumPy1Pickler(pickle._Pickler):
    """Writes what Python 3 with NumPy 1 wrote; with protocol 2, bytes by _codecs.encode."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module, name = OLD_NAMES[obj].split()
        if self.proto >= 4:  # type: ignore[attr-defined]
            self.save(module)
            self.save(name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        self.memoize(obj)

    def save_unicode(self, text: str) -> None:
        self.save_str(str(text))  # type: ignore[attr-defined]

    dispatch = {  # noqa: RUF012
        **pickle._Pickler.dispatch,
        type: save_global,
        FunctionType: save_global,
        Unicode: save_unicode,
    }


class Python2Pickler(NumPy1Pickler):
    """Writes what Python 2's cPickle wrote: str as Python 2's strings, which are bytes."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray):
            fortran = obj.flags.fnc
            state = 1, obj.shape, obj.dtype, fortran, obj.tobytes("F" if fortran else "C")
            return _ARRAY.__reduce_ex__(2)[0], (np.ndarray, (0,), "b"), state
        if isinstance(obj, np.dtype):
            order = obj.str[0]
            state = 3, order, None, None, None, -1, -1, 0
            return np.dtype, (obj.str[1:], 0, 1), state
        return NotImplemented

    dispatch = {  # noqa: RUF012
        **NumPy1Pickler.dispatch,
        bytes: StringPickler.save_string,
        str: StringPickler.save_string,
    }


def dumps(thing: Any, python: int, protocol: int) -> bytes:
    """A pickle as Python 2 or Python 3 wrote it.

    Args:
        thing: what to pickle; for Python 2, str is its str and `Unicode` its unicode.
        python: 2 or 3.
        protocol: up to 2 for Python 2.
    """
    file = BytesIO()
    pickler = Python2Pickler if python == 2 else NumPy1Pickler
    pickler(file, protocol).dump(thing)
    return file.getvalue()
