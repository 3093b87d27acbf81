"""Plug-ins: files from anywhere that register learners, benchmarks and backbones."""

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
    """A file as records name it."""
    return Plugin(path.name, hashlib.sha256(content).hexdigest())


LOADED_PLUGINS: dict[str, Plugin] = {}  # module -> what it was made from


def load_plugin_file(path: Path) -> None:
    """Run a file that registers what it defines.

    Raises:
        UsageError: there is no such file, it does not run, or registers nothing or wrongly.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--plugin {path}: {error.strerror}; name a Python file") from None
    path = path.resolve()
    name = f"plugin_{path.stem}"
    if (before := sys.modules.get(name)) is not None:
        if before.__file__ == str(path):
            return
        raise UsageError(f"--plugin {path}: {before.__file__} has the same name; rename one")
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        # Not by the import system: it might run an older file's bytecode.
        exec(compile(content, str(path), "exec", dont_inherit=True), vars(module))
        _verify(name)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, UsageError):
            raise UsageError(f"--plugin {path}: {error}") from None
        if isinstance(error, Exception | SystemExit):
            raise UsageError(f"--plugin {path}: {_where(error, path)}") from None
        raise
    LOADED_PLUGINS[name] = plugin_of_file(path, content)


def _where(error: BaseException, path: Path) -> str:
    """An error as a line: kind, text, and the line of the file."""
    frames = traceback.extract_tb(error.__traceback__)
    numbers = [frame.lineno for frame in frames if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else numbers[-1] if numbers else None
    text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" + (f" (line {line})" if line else "")


def _verify(module: str) -> None:
    """Refuse what could not be used.

    Raises:
        UsageError: nothing is registered, or what is cannot be a learner or benchmark.
    """
    own = [
        (register, key)
        for register in (learners, benchmarks, backbones)
        for key, entry in register.entries.items()
        if entry.module == module
    ]
    if not own:
        raise UsageError(
            "it registers nothing: expected @register, @register_benchmark or @register_backbone"
        )
    from zoo.learner import Learner

    for register, key in own:
        thing = register.get(key)
        if register is learners and not (isinstance(thing, type) and issubclass(thing, Learner)):
            raise UsageError(f"learner {key!r} is no class of zoo.Learner")
        if register is benchmarks and getattr(thing, "key", None) != key:
            raise UsageError(f"benchmark {key!r}: its class needs the attribute `key = {key!r}`")
