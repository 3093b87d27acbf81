"""Archives from the network: unpacked without trusting what is in them."""

import errno
import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")

# What damaged archives raise; other OSErrors are the disk's.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # a compression that Python does not know
    RuntimeError,  # a password
    ValueError,
    FileExistsError,  # a name that is a file and a folder
    IsADirectoryError,
    NotADirectoryError,
)


class BadArchiveError(Exception):
    """An archive is damaged, or holds what no image set needs; the message says which."""


def unpack(archive: Path, folder: Path) -> None:
    """Unpack files and folders, and nothing else.

    Args:
        archive: a file whose name ends as one of `ARCHIVE_ENDINGS`.
        folder: where to; it must exist.

    Raises:
        BadArchiveError: it is damaged, or a member is a link or a device, or lies elsewhere.
        OSError: `folder` cannot be written, or has no room.
    """
    members = _zip_members if archive.suffix == ".zip" else _tar_members
    try:
        for name, size, content in members(archive):
            path = folder / _inside(name)
            if content is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            if size > shutil.disk_usage(folder).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadArchiveError(f"the archive is damaged: {reason}") from error


def _inside(name: str) -> PurePosixPath:
    """A member's path, if it stays below the folder that it is unpacked into."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise BadArchiveError(f"the archive holds {name!r}, which lies outside of it")
    return path


def _zip_members(path: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Name, size and content of each member; a folder has no content."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                raise BadArchiveError(f"the archive holds a link, {member.filename!r}")
            if member.is_dir():
                yield member.filename, 0, None
            else:
                with archive.open(member) as content:
                    yield member.filename, member.file_size, content


def _tar_members(path: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.isreg() and not member.isdir():
                raise BadArchiveError(f"the archive holds a link or device, {member.name!r}")
            yield member.name, member.size, archive.extractfile(member)  # None for a folder
