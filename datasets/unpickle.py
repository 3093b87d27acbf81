"""An unpickler that loads numpy arrays and plain containers, and nothing that could run code.

Published image sets are pickles, often written by Python 2. Unpickling may import and call
anything; here only the globals that genuine files need are found, each by its full name.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import UsageError

# The C functions behind numpy's pickles, as this numpy names them: numpy._core from 2.0 on.
_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]
_SCALAR: Any = np.float64(0).__reduce__()[0]
_FROM_BUFFER: Any = np.empty(1).__reduce_ex__(5)[0]


def _encode(text: str, codec: str) -> bytes:
    """``_codecs.encode`` with the one codec that pickles name; the real one imports codecs."""
    if codec != "latin1":
        raise pickle.UnpicklingError(f"encoding {codec!r} is not latin1")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): bytes,
    ("builtins", "bytes"): bytes,
    ("collections", "OrderedDict"): OrderedDict,
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _RECONSTRUCT
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _SCALAR
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _FROM_BUFFER


class _Refused(pickle.UnpicklingError):
    pass


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Names come as the file spells them (`__builtin__`), and "a.b" would walk attributes.
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        return _ALLOWED[module, name]


def unpickle(path: Path) -> Any:
    """The object in a pickle file, of Python 2 (as latin1) or 3.

    Raises:
        UsageError: the file cannot be read, is truncated, or asks for a global that no genuine
            file needs; it is named, and nothing of it has run.
    """
    try:
        with path.open("rb") as file:
            return _Restricted(file, encoding="latin1").load()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); fetch it again") from error
    except _Refused as error:
        raise UsageError(
            f"{path}: refused, for the pickle asks for {str(error)!r}, which no genuine file "
            "needs; nothing was run; fetch it again from its publisher"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{path}: expected a whole pickle, it is truncated or damaged ({reason}); "
            "fetch it again"
        ) from error
