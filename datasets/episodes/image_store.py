"""The image store: a split's images as one memory-mapped file of raw pixels.

A store file is a line of text ``zoo-store 1 <bytes> <checksum>``, a JSON header, padding up to
<bytes> (a multiple of 4096), and the pixels, uint8 (n, C, H, W). It is built once from a reader,
and again if its source has changed or it is damaged. The pages of a memory-mapped file belong to
the system's file cache, so a process needs next to no memory for them, and processes share them.
"""

import json
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from zoo.datasets.episodes.sampler import EpisodeSampler
from zoo.errors import UsageError
from zoo.files import locked

if TYPE_CHECKING:
    from zoo.datasets.readers.base import Reader

MAGIC = "zoo-store 1"
PAGE = 4096
LONGEST_LINE = 1000  # most characters of the line that says which images could not be read


@dataclass(frozen=True, eq=False)
class Store:
    """All images of a split, class after class.

    ``images`` may be mapped read-only from a file: never write into it.
    """

    images: Tensor  # (n, C, H, W) uint8
    offsets: np.ndarray  # (classes + 1,) int64; class c holds rows offsets[c]:offsets[c + 1]
    names: list[str]  # of the classes
    fingerprint: str  # of names, counts and pixels: the same for every form of the same images
    unreadable: str = field(default="", kw_only=True)  # images that could not be read, in a line

    @classmethod
    def from_arrays(cls, names: Sequence[str], arrays: Iterable[np.ndarray]) -> "Store":
        """A store in memory, from an array uint8 (n, C, H, W) for each class name."""
        arrays = list(arrays)
        content = _Content()
        for name, array in zip(names, arrays, strict=True):
            content.add(name, array)
        images = torch.from_numpy(np.concatenate(arrays))
        offsets = _offsets([len(array) for array in arrays])
        return cls(images, offsets, list(names), content.fingerprint())

    def gather(self, rows: Tensor) -> Tensor:
        """The images of `rows`: int64 (m,) -> uint8 (m, C, H, W), on all threads."""
        flat = self.images.flatten(1).index_select(0, rows.to(self.images.device))
        return flat.view(len(rows), *self.images.shape[1:])

    def sampler(self, way: int, shot: int, query: int, key: Any, split: str = "") -> EpisodeSampler:
        """The sampler of its episodes (see `EpisodeSampler`)."""
        counts = np.diff(self.offsets)
        return EpisodeSampler(counts, way, shot, query, key, split, self.names)

    def to(self, device: torch.device | str) -> "Store":
        """The same store with its images on a device, where `gather` then runs."""
        return replace(self, images=self.images.to(device))


def open_store(path: Path, reader: "Reader", split: str) -> Store:
    """Open the store file of a split; build it first if it is missing, out of date or damaged.

    One process builds while others wait. The file appears complete or not at all.

    Args:
        path: of the store file.
        reader: of the images.
        split: to read.

    Raises:
        UsageError: the reader found something wrong with its source, or the store's folder
            cannot be written.
    """
    source = reader.fingerprint()
    try:
        return _load(path, source)
    except _UnusableError:
        reader.check()
    with _only_builder(path):
        try:
            return _load(path, source)  # built by another process meanwhile
        except _UnusableError as problem:
            if path.exists():
                print(f"{path}: {problem}; building it anew", file=sys.stderr)
        for temporary in path.parent.glob(f"{path.name}.*.tmp"):  # left by builds that were killed
            temporary.unlink(missing_ok=True)
        _build(path, reader, split, source)
        try:
            return _load(path, source)
        except _UnusableError as problem:
            raise UsageError(
                f"{path}: {problem}, though just built; set the environment variable ZOO_STORE to "
                "a folder on a local disk"
            ) from problem


class _UnusableError(Exception):
    """A store file cannot be used; the message says why."""


class _Content:
    """Computes the content fingerprint class by class; it is the same for all forms of a set."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)

    def add(self, name: str, images: np.ndarray) -> None:
        self._hash.update(f"{name}\n{' '.join(map(str, images.shape))}\n".encode())
        self._hash.update(np.ascontiguousarray(images).data)

    def fingerprint(self) -> str:
        return self._hash.hexdigest()


def _offsets(counts: list[int]) -> np.ndarray:
    return np.cumsum([0, *counts], dtype=np.int64)


def _load(path: Path, source: str) -> Store:
    """Map a store file.

    Raises:
        _UnusableError: it is missing, damaged, or was built from another source.
    """
    try:
        with path.open("rb") as file:
            size, header = _read_header(file)
            if header["source"] != source:
                raise _UnusableError("its source has changed")
            offsets = _offsets(header["counts"])
            image = header["image"]
            stat = os.fstat(file.fileno())
            if stat.st_size != size + offsets[-1] * np.prod(image, dtype=np.int64):
                raise _UnusableError(f"damaged, its size is {stat.st_size}")
            shape = (int(offsets[-1]), *image)
            pixels = np.memmap(file, np.uint8, "r", offset=size, shape=shape)
    except OSError as error:
        raise _UnusableError(f"cannot be opened ({error.strerror})") from error
    if stat.st_mtime_ns != header["built_ns"]:  # someone wrote to it, or copied it
        content = _Content()
        for name, start, end in zip(header["names"], offsets, offsets[1:], strict=False):
            content.add(name, pixels[start:end])
        if content.fingerprint() != header["content"]:
            raise _UnusableError("damaged, its checksum is wrong")
        try:
            os.utime(path, ns=(header["built_ns"], header["built_ns"]))
        except OSError:
            pass  # somebody else's file: its checksum is computed every time
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")  # nobody writes into it
        images = torch.from_numpy(pixels)
    unreadable = header.get("left_out", "")
    return Store(images, offsets, header["names"], header["content"], unreadable=unreadable)


def _read_header(file: BinaryIO) -> tuple[int, dict[str, Any]]:
    """How many bytes the first line and the header take together, and the header."""
    line = file.readline(200)
    parts = re.fullmatch(rf"{MAGIC} (\d+) ([0-9a-f]+)\n".encode(), line)
    if not parts:
        raise _UnusableError("damaged, or of another version")
    size, checksum = int(parts[1]), parts[2].decode()
    if size > os.fstat(file.fileno()).st_size:
        raise _UnusableError("damaged, it is shorter than its header")
    body = file.read(max(size - len(line), 0))
    if _checksum(body) != checksum:
        raise _UnusableError("damaged, its header is not what was written")
    return size, json.loads(body)


def _header(facts: dict[str, Any], size: int) -> bytes:
    """The first `size` bytes of a store file: its line, the facts as JSON, and padding."""
    length = size - len(f"{MAGIC} {size} {_checksum(b'')}\n")
    body = json.dumps(facts).encode().ljust(length)
    return f"{MAGIC} {size} {_checksum(body)}\n".encode() + body


def _checksum(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _build(path: Path, reader: "Reader", split: str, source: str) -> None:
    """Write a store file from the reader's images, a class at a time."""
    from tqdm import tqdm

    listed = reader.classes(split)
    # The header is written last, when the counts are known; this is room for the longest one.
    longest_header = len(json.dumps(listed)) + 20 * len(listed) + 1000
    longest_header += 12 * LONGEST_LINE  # JSON writes a character as up to 12 bytes
    size = math.ceil(longest_header / PAGE) * PAGE
    # The time of modification is set to whole even seconds, which every file system keeps exactly.
    built_ns = int(time.time() // 2 * 2) * 10**9
    facts: dict[str, Any] = {"source": source, "built_ns": built_ns}
    content = _Content()
    counts: dict[str, int] = {}  # images of each class
    image: tuple[int, ...] = ()  # shape of each image
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with _writing(path.parent), temporary.open("wb") as file:
            file.seek(size)
            words = f"building {path.name}"
            with tqdm(total=len(listed), desc=words, unit=" classes", mininterval=1) as bar:
                for name, images in zip(listed, reader.images(split), strict=True):
                    bar.update()
                    if not len(images):
                        continue
                    content.add(name, images)
                    counts[name] = len(images)
                    image = images.shape[1:]
                    file.write(np.ascontiguousarray(images).data)
            facts |= {"image": image, "names": [*counts], "counts": [*counts.values()]}
            facts |= {"content": content.fingerprint()}
            if reader.unreadable:
                facts["left_out"] = reader.unreadable[:LONGEST_LINE]
            file.seek(0)
            file.write(_header(facts, size))
            file.flush()
            os.fsync(file.fileno())
        with _writing(path.parent):
            os.utime(temporary, ns=(built_ns, built_ns))
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _only_builder(path: Path) -> Iterator[None]:
    """Hold the lock on building `path`; however this process ends, the system releases it."""

    def wait(holder: str) -> None:
        print(f"waiting for {holder}, which is building {path}", file=sys.stderr)

    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f"{path.name}.lock"), wait):
            yield


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn an OSError of writing into a UsageError with advice; readers raise no OSError."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot keep the image store there ({error.strerror}); make room, or set "
            "the environment variable ZOO_STORE to a folder that can be written"
        ) from error
