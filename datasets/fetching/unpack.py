"""Unpack archives from the network, without trust in what is in them."""

import errno
import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from zoo.datasets.fetching.download import amount

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")

LARGEST_RATIO = 100  # unpacked bytes allowed per byte of an archive; images hardly compress
SMALL = 100_000_000  # bytes that any archive may unpack to, whatever its size
BLOCK = 4096  # bytes of disk that the smallest file takes
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


def unpack(archive: Path, folder: Path, known_size: int = 0) -> None:
    """Unpack files and folders, and nothing else.

    Args:
        archive: a file whose name ends as one of `ARCHIVE_ENDINGS`.
        folder: where to; it must exist.
        known_size: bytes of disk that its contents should take; 0 if that is not known. They may
            take twice as many; if it is not known, `LARGEST_RATIO` times the size of the archive
            plus `SMALL`.

    Raises:
        BadArchiveError: the archive is damaged or its contents take more; or a member is a link or
            device, has no name, or would lie outside of `folder`.
        OSError: `folder` cannot be written to, or its disk is full.
    """
    most = 2 * known_size if known_size else LARGEST_RATIO * archive.stat().st_size + SMALL
    members = _zip_members if archive.suffix == ".zip" else partial(_tar_members, most=most)
    total = 0
    try:
        for name, size, content in members(archive):
            path = folder / _inside(name)
            total += BLOCK * (1 + size // BLOCK)
            if total > most:
                raise BadArchiveError(f"the archive holds more than {amount(most)}")
            if content is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            if size > shutil.disk_usage(folder).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG and not isinstance(error, _DAMAGE):
            raise
        raise BadArchiveError(f"the archive is damaged: {error.strerror or error}") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadArchiveError(f"the archive is damaged: {reason}") from error


def _inside(name: str) -> PurePosixPath:
    """The path of a member, after a check that it leads nowhere else."""
    path = PurePosixPath(name)
    if not name:
        raise BadArchiveError("the archive holds a member without a name")
    if path.is_absolute() or ".." in path.parts:
        raise BadArchiveError(f"the archive holds {name!r}, which lies outside of it")
    return path


class _Bounded:
    """A file from which at most `most` bytes are read."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self.file, self.most, self.left = file, most, most

    def read(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            BadArchiveError: the file has more than `most` bytes.
        """
        content = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise BadArchiveError(f"the archive holds more than {amount(self.most)}")
        return content


def _zip_members(path: Path) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Name, size and content of each member; a folder has no content."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                raise BadArchiveError(f"the archive holds a link, {member.filename!r}")
            if member.filename and member.is_dir():
                yield member.filename, 0, None
            else:
                with archive.open(member) as content:
                    yield member.filename, member.file_size, content


def _tar_members(path: Path, most: int) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """The members of a tar file; its headers, read into memory, count towards `most` too."""
    opened: Any = path.open("rb") if path.suffix == ".tar" else gzip.open(path)
    bounded: Any = _Bounded(opened, most)
    with opened, tarfile.open(fileobj=bounded, mode="r|") as archive:
        for member in archive:
            if not member.isreg() and not member.isdir():
                raise BadArchiveError(f"the archive holds a link or device, {member.name!r}")
            yield member.name, member.size, archive.extractfile(member)  # None for a folder
