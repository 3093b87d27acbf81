"""Plug-ins: Python files from anywhere that register learners, benchmarks or backbones."""

import hashlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from zoo.errors import UsageError
from zoo.registry import backbones, benchmarks, learners


class Plugin(NamedTuple):
    """What a record says of a plug-in."""

    file: str
    sha256: str


def plugin_of_file(path: Path, content: bytes) -> Plugin:
    """What a record says of the plug-in file with this content."""
    return Plugin(path.name, hashlib.sha256(content).hexdigest())


LOADED_PLUGINS: dict[str, Plugin] = {}  # module name -> the file it was loaded from


def load_plugin_file(path: Path) -> None:
    """Run a plug-in file, which registers what it defines.

    Raises:
        UsageError: there is no such file, it fails, or it registers nothing or something unusable.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--plugin {path}: {error.strerror}; name a Python file") from None
    path = path.resolve()
    name = f"plugin_{path.stem}"
    if (loaded := sys.modules.get(name)) is not None:
        if loaded.__file__ == str(path):
            return
        raise UsageError(f"--plugin {path}: {loaded.__file__} has the same name; rename one")
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        # Not by the import system, which might run the cached bytecode of an older file.
        exec(compile(content, str(path), "exec", dont_inherit=True), vars(module))
        _verify(name)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, UsageError):
            raise UsageError(f"--plugin {path}: {error}") from None
        if isinstance(error, Exception | SystemExit):
            raise UsageError(f"--plugin {path}: {_error_line(error, path)}") from None
        raise
    LOADED_PLUGINS[name] = plugin_of_file(path, content)


def fault_in_plugin(error: BaseException) -> str | None:
    """One line on an error that a plug-in's code raised, with file and line; None for any other."""
    paths = {sys.modules[name].__file__ for name in LOADED_PLUGINS}
    frames = traceback.extract_tb(error.__traceback__)
    path = next((frame.filename for frame in frames[::-1] if frame.filename in paths), None)
    return None if path is None else f"{path}: {_error_line(error, Path(path))}"


def _error_line(error: BaseException, path: Path) -> str:
    """An error in one line: its type, its text, and the line of the file that raised it."""
    line: int | None = None
    if isinstance(error, SyntaxError):
        text, line = error.msg, error.lineno
    else:
        text = " ".join(str(error).split())
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == str(path):
                line = frame.lineno  # the last one is the innermost call in the file
    place = f" (line {line})" if line else ""
    return f"{type(error).__name__}: {text}{place}"


def _verify(module: str) -> None:
    """Refuse a plug-in that could not be used.

    Raises:
        UsageError: it registers nothing, or something that is no learner or benchmark.
    """
    registered = [
        (register, key)
        for register in (learners, benchmarks, backbones)
        for key, entry in register.entries.items()
        if entry.module == module
    ]
    if not registered:
        raise UsageError(
            "it registers nothing: expected @register, @register_benchmark or @register_backbone"
        )
    from zoo.learner import Learner

    for register, key in registered:
        value = register.get(key)
        if register is learners and not (isinstance(value, type) and issubclass(value, Learner)):
            raise UsageError(f"learner {key!r} is not a subclass of zoo.Learner")
        if register is benchmarks and getattr(value, "key", None) != key:
            raise UsageError(f"benchmark {key!r}: its class needs the attribute `key = {key!r}`")
