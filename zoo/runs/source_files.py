"""The files that define what is trained, to know later whether they were changed."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.origin import PACKAGE
from zoo.plugin_files import LOADED_PLUGINS

DEFINING = ("zoo.baselines.", "zoo.networks.", "zoo.methods.")  # modules that define learners


class SourceFiles(NamedTuple):
    """Names of files, each with the SHA-256 of its content."""

    plugins: dict[str, str]  # those that `--plugin` named
    own: dict[str, str]  # those of the zoo, by their paths below `zoo`


def source_files(things: Iterable[Any]) -> SourceFiles:
    """The files that define some objects: those of their classes and of all these inherit from.

    Of a learner that lies in several files, as MANN does, all of them.

    Args:
        things: such as the modules of a learner.
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
    """The file of a module of ours; behind that of a learner its parts, as mann_memory.py."""
    path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    yield path
    if path.parent.name == "baselines":
        yield from sorted(path.parent.glob(f"{path.stem}_*.py"))


def changed_files(
    earlier: Sequence[Mapping[str, Mapping[str, str]]], now: SourceFiles
) -> list[dict[str, Any]]:
    """Which files of the zoo are others now than when earlier parts of a training were made.

    Args:
        earlier: of each part, `SourceFiles` as a dictionary.
        now: of this process.

    Returns:
        The file, its hash then and its hash now, as the record has them; None where the file was
        not, or is not, among those that define what is trained.
    """
    found: list[dict[str, Any]] = []
    for part in earlier:
        for file in sorted({**part["own"], **now.own}):
            then, today = part["own"].get(file), now.own.get(file)
            change = {"file": file, "then": then, "now": today}
            if then != today and change not in found:
                found.append(change)
    return found


def other_plugins(earlier: Mapping[str, Mapping[str, str]], now: SourceFiles) -> list[str]:
    """The plug-ins that are others now than in an earlier part of a training, by file name."""
    then = earlier["plugins"]
    files = sorted({**then, **now.plugins})
    return [file for file in files if then.get(file) != now.plugins.get(file)]
