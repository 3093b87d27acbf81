"""The source files that define what is trained, with hashes that show whether they changed."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.origin import PACKAGE
from zoo.plugin_files import LOADED_PLUGINS

DEFINING = ("zoo.baselines.", "zoo.networks.", "zoo.methods.")  # modules that define learners


class SourceFiles(NamedTuple):
    """Names of files, each with the SHA-256 of its content."""

    plugins: dict[str, str]  # files that `--plugin` named
    own: dict[str, str]  # files of the zoo, by their paths below `zoo`


def source_files(things: Iterable[Any]) -> SourceFiles:
    """The files that define the classes of some objects, and the base classes of these.

    If a learner lies in several files, as MANN does, all of them belong to it.

    Args:
        things: the objects, such as the modules of a learner.
    """
    modules = {cls.__module__ for thing in things for cls in type(thing).__mro__}
    plugins = {
        LOADED_PLUGINS[module].file: LOADED_PLUGINS[module].sha256
        for module in sorted(modules & LOADED_PLUGINS.keys())
    }
    own = {}
    for module in sorted(modules):
        if module.startswith(DEFINING):
            for path in _files_of(module):
                name = path.relative_to(PACKAGE).as_posix()
                own[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return SourceFiles(plugins, own)


def _files_of(module: str) -> Iterator[Path]:
    """The file of one of our modules; for a learner also its parts, such as mann_memory.py."""
    path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    yield path
    if path.parent.name == "baselines":
        yield from sorted(path.parent.glob(f"{path.stem}_*.py"))


def changed_files(
    earlier: Sequence[Mapping[str, Mapping[str, str]]], now: SourceFiles
) -> list[dict[str, Any]]:
    """Which files of the zoo have changed since earlier parts of a training were made.

    Args:
        earlier: the `SourceFiles` of each part, as a dictionary.
        now: the source files of this process.

    Returns:
        For each file its name, its hash then and its hash now, as the record has them. A hash is
        None if the file did not, or does not, belong to what defines the training.
    """
    changes: list[dict[str, Any]] = []
    for part in earlier:
        for file in sorted({**part["own"], **now.own}):
            then, today = part["own"].get(file), now.own.get(file)
            change = {"file": file, "then": then, "now": today}
            if then != today and change not in changes:
                changes.append(change)
    return changes


def other_plugins(earlier: Mapping[str, Mapping[str, str]], now: SourceFiles) -> list[str]:
    """The names of plug-in files that have changed since an earlier part of a training."""
    plugins = earlier["plugins"]
    files = sorted({**plugins, **now.plugins})
    return [file for file in files if plugins.get(file) != now.plugins.get(file)]
