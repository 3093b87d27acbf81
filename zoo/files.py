"""Write files whole or not at all, and let only one process at a time work in a folder."""

import contextlib
import fcntl
import hashlib
import io
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

# A zip file ends with a record of 22 bytes, which begins with these four. The last two bytes of the
# record are the length of a comment, which may follow it.
ZIP_END = b"PK\5\6"
ZIP_END_BYTES = 22
COMMENT = b"zoo-checksum "  # how the comment in our zip files begins
COMMENT_BYTES = len(COMMENT) + 64


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that it is always whole: either the old file or the new one.

    This holds for whoever reads it meanwhile, and if this process is killed. A folder that was
    removed in the meantime is made again (`make_again`).

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
    """Make a folder again if it was removed while this process worked in it; say so on stderr."""
    if not folder.exists():
        print(f"{folder} does not exist (any more); it is made", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)


def _write_once(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write into a temporary file beside `path`, locked meanwhile, and then rename it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _remove_left_behind(path, temporary)
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:  # when the disk is full, it does not name the file
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def _remove_left_behind(path: Path, temporary: Path) -> None:
    """Remove the temporary files of killed writers of `path`: those that no process has locked.

    `temporary`, which this process is writing, stays.
    """
    beginning = f".{path.name}."
    for name in os.listdir(path.parent):
        if (
            name.startswith(beginning)
            and name[len(beginning) :].isdigit()
            and name != temporary.name
        ):
            leftover = path.with_name(name)
            with contextlib.suppress(OSError), open(leftover, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()


def reserve(path: Path, size: int) -> None:
    """Keep `size` bytes of disk for later: an empty file takes them until it is removed.

    Raises:
        OSError: the disk has no room for them; names the file.
    """
    try:
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, one key per line."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise DamagedError(f"{path} is damaged: it cannot be read as JSON") from None


def write_bytes(path: Path, content: Any) -> None:
    """Write bytes atomically."""
    write_atomically(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    write_bytes(path, text.encode())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz atomically, with a checksum (`add_checksum`)."""
    contents: dict[str, Any] = dict(arrays)
    file = io.BytesIO()
    np.savez_compressed(file, **contents)
    add_checksum(file)
    write_bytes(path, file.getbuffer())


class DamagedError(UsageError):
    """A file's content is not what was written, or not what such a file holds."""


def add_checksum(file: io.BytesIO) -> str:
    """Put a checksum into the comment at the end of a zip file, such as a checkpoint or an .npz.

    Every reader of zip files still takes it.

    Args:
        file: in memory, without a comment.

    Returns:
        The checksum.
    """
    comment = _zip_comment(file.getbuffer())
    file.seek(-2, os.SEEK_END)
    file.write(comment)
    return comment[-64:].decode()


def checksum_of(content: bytes, path: Path) -> str | None:
    """The checksum that `add_checksum` put into a file, after a comparison with its content.

    None if there is none, as in files of earlier versions or of other programs.

    Args:
        content: of the file.
        path: for the message.

    Raises:
        DamagedError: the checksum does not fit the content.
    """
    tail = COMMENT_BYTES + 2
    if content[-tail:] == _zip_comment(memoryview(content)[:-tail], b"\0\0"):
        return content[-64:].decode()
    is_zip = content.startswith(b"PK")
    has_comment = is_zip and not content[-ZIP_END_BYTES:].startswith(ZIP_END)
    if not has_comment and COMMENT not in content[-2 * tail :]:
        return None
    raise DamagedError(f"{path} is damaged: its checksum does not match")


def _zip_comment(*content: Any) -> bytes:
    """The bytes that replace the last two of a zip file without a comment: length and comment."""
    digest = hashlib.sha256()
    for part in content:
        digest.update(part)
    return COMMENT_BYTES.to_bytes(2, "little") + COMMENT + digest.hexdigest().encode()


def read_yaml(path: Path, subject: str) -> Any:
    """The content of a YAML file.

    Args:
        path: of the file.
        subject: what messages call the file.

    Raises:
        UsageError: the file cannot be read, or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{subject}: there is no such file") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        # ValueError: the file is not UTF-8, or has an impossible date or a number of 5,000 digits.
        raise UsageError(f"{subject}: cannot be read: {' '.join(str(error).split())}") from None


def check_folder_of(path: Path, flag: str) -> None:
    """Refuse a file whose folder is not there.

    Raises:
        UsageError: there is no such folder; names `flag`, which chooses the file.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{flag} {path}: there is no folder {path.parent}; make it first")


def make_folder(path: Path, flag: str) -> Path:
    """Make a folder for output.

    Raises:
        UsageError: it cannot be made or written to; names `flag`, which chooses the folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{flag} {path}: {error.strerror}; choose a folder you may write"
        ) from None
    if "::" in str(
        path.absolute()
    ):  # training logs are written by a library that takes it for an address
        raise UsageError(f"{flag} {path}: a name with '::' cannot be used; choose another folder")
    if not os.access(path, os.W_OK):
        raise UsageError(f"{flag} {path}: no permission to write; choose another folder")
    return path


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock file. Only one process can; if it dies, the system releases the file.

    Args:
        path: of the file, made if it is missing.
        on_wait: called with the holder's name if another process holds it. If it returns, we
            wait for our turn; it may raise instead.
    """
    with open(path, "a+") as file:
        if not _try_lock(file):
            file.seek(0)
            on_wait(file.read().strip() or "another process")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _try_lock(file: IO[str]) -> bool:
    """Take the lock if it is free; returns whether it was."""
    for _ in range(5):  # another process may hold it for a moment, only to ask (`is_locked`)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
    return False


class InUseError(UsageError):
    """Another process works in a folder.

    `folder` is the folder, and `holder` describes the process.
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
    """Whether a process holds a lock file. Processes that only ask do not count."""
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
    """Keep other processes out of a folder.

    Raises:
        InUseError: another process works in it; names that process.
    """

    def refuse(holder: str) -> None:
        raise InUseError(folder, holder)

    with locked(folder / "lock", refuse):
        yield


def slug(text: str) -> str:
    """The text as the file name of a run or table: unusual characters become underscores."""
    return "".join(c if c.isalnum() or c in "-._=" else "_" for c in text)


def store_slug(text: str) -> str:
    """The text as part of the name of an image store and of the files beside it.

    Not `slug`, and not to be changed: caches on users' disks have these names.
    """
    return re.sub(r"\W+", "-", text).strip("-")
