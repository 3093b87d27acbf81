"""Files that are whole or not there, and folders that one process works in at a time."""

import contextlib
import fcntl
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from zoo.errors import UsageError


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that a reader, or a kill, finds the old one or the new one, never a part.

    Its folder is made again if need be (`make_again`).

    Args:
        path: of the file.
        write: called with a binary file to write into, perhaps twice.
    """
    try:
        _write_once(path, write)
    except FileNotFoundError:
        make_again(path.parent)
        _write_once(path, write)


def make_again(folder: Path) -> None:
    """Make a folder that somebody removed while this process works in it, with a line on stderr."""
    if not folder.exists():
        print(f"{folder} was removed meanwhile; it is made again", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)


def _write_once(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write beside the file, in a temporary one that is locked meanwhile, and put it in place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _remove_left_behind(path, temporary)
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:  # of a full disk it does not say where
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def _remove_left_behind(path: Path, own: Path) -> None:
    """Remove temporary files of writers of the same file that were killed: nobody locks them."""
    beginning = f".{path.name}."
    for name in os.listdir(path.parent):
        if name.startswith(beginning) and name[len(beginning) :].isdigit() and name != own.name:
            left = path.with_name(name)
            with contextlib.suppress(OSError), open(left, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()


def reserve(path: Path, size: int) -> None:
    """Make a file of so many bytes of disk, without content, in whose place others will be written.

    Raises:
        OSError: there is no room.
    """
    try:
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, one key a line."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    write_atomically(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    write_bytes(path, text.encode())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz atomically."""
    contents: dict[str, Any] = dict(arrays)
    write_atomically(path, lambda file: np.savez_compressed(file, **contents))


def read_yaml(path: Path, said: str) -> Any:
    """What a YAML file holds.

    Args:
        path: of the file.
        said: how messages call it.

    Raises:
        UsageError: it cannot be read, or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{said}: there is no such file") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        # Of ValueError: what is no UTF-8, a date that is none, a number of thousands of digits.
        raise UsageError(f"{said}: cannot be read: {' '.join(str(error).split())}") from None


def make_folder(path: Path, flag: str) -> Path:
    """Make a folder that results go into.

    Raises:
        UsageError: it cannot be made or written to; names the flag that moves it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{flag} {path}: {error.strerror}; choose a folder you may write"
        ) from None
    if "::" in str(path.absolute()):  # what keeps training's log takes that for an address
        raise UsageError(f"{flag} {path}: a name with '::' will not do; choose another folder")
    if not os.access(path, os.W_OK):
        raise UsageError(f"{flag} {path}: no permission to write; choose another folder")
    return path


@contextlib.contextmanager
def locked(path: Path, taken: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock file against other processes; the system lets go of it when this one dies.

    Args:
        path: of the file, made if need be.
        taken: called with the holder's name where another process has it; unless that raises,
            its turn is waited for.
    """
    with open(path, "a+") as file:
        if not _lock_taken(file):
            file.seek(0)
            taken(file.read().strip() or "another process")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _lock_taken(file: IO[str]) -> bool:
    """Whether a lock could be had, if need be after others that only asked for it (`is_locked`)."""
    for _ in range(5):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
    return False


class InUseError(UsageError):
    """Another process works in a folder.

    `folder` is that folder, and `holder` that process, in words.
    """

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(f"{folder} is in use by {holder}: wait for it, or stop it")
        self.folder, self.holder = folder, holder

    def wait(self) -> None:
        """Wait until that process has left the folder, or has ended."""
        try:
            with open(self.folder / "lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock file; others that ask at the same moment do not count."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes.

    Raises:
        InUseError: another process works in it; says which.
    """

    def refuse(holder: str) -> None:
        raise InUseError(folder, holder)

    with locked(folder / "lock", refuse):
        yield


def slug(text: str) -> str:
    """The text as the name of a run's or a table's file: other signs become underscores."""
    return "".join(c if c.isalnum() or c in "-._=" else "_" for c in text)


def store_slug(text: str) -> str:
    """The text as part of the name of a store or of what is kept beside it.

    Another form than `slug`'s, and fixed: caches on users' disks have these names.
    """
    return re.sub(r"\W+", "-", text).strip("-")
