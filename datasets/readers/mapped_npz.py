"""Arrays in npz files; those that are not compressed are mapped, so that size does not matter."""

import mmap
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from zoo.errors import UsageError

FETCH_AGAIN = "fetch it again"
COPY_CHUNK = 1 << 24  # bytes
LARGE_COPY = 1 << 28  # bytes; an array that is larger and must be copied is announced


def member(path: Path, name: str) -> np.ndarray:
    """The array `name` of an npz file. Nothing in the file is unpickled.

    It is read-only if it is mapped.

    Raises:
        UsageError: the file is missing or damaged, or has no such array of plain numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type == zipfile.ZIP_STORED:
                return _mapped(path, info)
            if info.file_size > LARGE_COPY:
                size = info.file_size / 1e9
                print(f"{path}: compressed, so held in memory: {size:.1f} GB", file=sys.stderr)
            with archive.open(info) as file:
                array = npy.read_array(file, allow_pickle=False)
                if file.read(1):  # this also makes zipfile compare the checksum
                    raise ValueError("there is more in it than its array")
                return array
    except KeyError:
        raise UsageError(f"{path}: expected an array {name!r} in it; {FETCH_AGAIN}") from None
    except FileNotFoundError:
        raise UsageError(f"{path}: is missing; {FETCH_AGAIN}") from None
    except (
        OSError, ValueError, EOFError, MemoryError, OverflowError, RuntimeError,
        NotImplementedError, SyntaxError, TypeError, TokenError, struct.error, zlib.error,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{path}: expected a whole npz file of plain arrays, it is damaged ({reason}); "
            f"{FETCH_AGAIN}"
        ) from error


def _mapped(path: Path, info: zipfile.ZipInfo) -> np.ndarray:
    """The array of an uncompressed member of an npz file, mapped; its checksum is compared."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)  # a local file header, then two strings whose lengths it gives
        if header[:4] != b"PK\3\4":
            raise zipfile.BadZipFile("no local header where the directory says")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
        file.seek(start)
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError("it holds pickled objects")
        count, offset = int(np.prod(shape, dtype=object)), file.tell()
        if min(shape, default=0) < 0 or offset - start + count * dtype.itemsize != info.file_size:
            raise ValueError(f"its array {shape} {dtype} is not what the archive holds")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    check, view = 0, memoryview(content)[start : start + info.file_size]
    for at in range(0, len(view), COPY_CHUNK):
        check = zlib.crc32(view[at : at + COPY_CHUNK], check)
    if check != info.CRC:
        raise zipfile.BadZipFile("its checksum is wrong")
    array = np.frombuffer(content, dtype, count, offset)
    return array.reshape(shape, order="F" if fortran else "C")
