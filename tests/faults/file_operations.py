"""Disturb a process at its n-th file operation: a moment that is the same each time it runs."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
WRITING = os.O_WRONLY | os.O_RDWR


def at_operation(folder: Path, number: int, act: Callable[[], None]) -> None:
    """Call `act` right before this process's n-th change of a file below a folder, from 0."""
    left = number

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if _changes(event, arguments, folder):
            left -= 1
            if left == -1:
                act()

    sys.addaudithook(hook)


def count_operations(folder: Path, into: Path) -> None:
    """Write into a file how many files below a folder this process has changed, a byte each."""
    file = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if _changes(event, arguments, folder):
            os.write(file, b".")

    sys.addaudithook(hook)


def _changes(event: str, arguments: tuple[Any, ...], folder: Path) -> bool:
    """Whether an event of Python's is a file below the folder being opened to write, or changed."""
    if event != "open" and event not in CHANGES:
        return False
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
        return False
    path = arguments[0]
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    return os.path.abspath(os.fsdecode(path)).startswith(str(folder))
