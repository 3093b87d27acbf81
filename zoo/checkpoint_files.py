"""Read and write checkpoint files; a damaged file gives an error of one line."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zoo.files import DamagedError, add_checksum, checksum_of, write_bytes


class CheckpointFile(NamedTuple):
    """What `torch.save` wrote into a file, and the checksum in the file, None if it has none."""

    content: Any
    checksum: str | None


def read_checkpoint(
    path: Any, map_location: Any = "cpu", *, weights_only: bool = False
) -> CheckpointFile:
    """Read what `torch.save` wrote, and check the checksum where there is one.

    Args:
        path: of the file, or the file itself, opened.
        map_location: as in `torch.load`.
        weights_only: as in `torch.load`.

    Raises:
        OSError: the file cannot be read, for example because there is none.
        DamagedError: `torch.load` refuses it, also because of `weights_only`, or its content does
            not fit its checksum.
    """
    file_bytes = path.read() if hasattr(path, "read") else Path(path).read_bytes()
    checksum = checksum_of(file_bytes, path)
    try:
        loaded = torch.load(io.BytesIO(file_bytes), map_location, weights_only=weights_only)
    except Exception as error:  # a damaged pickle can raise any exception
        text = " ".join(str(error).split()) or type(error).__name__
        raise DamagedError(f"{path} cannot be read as a checkpoint: {text}") from None
    return CheckpointFile(loaded, checksum)


def write_checkpoint(path: Path, content: Any) -> str:
    """Write a checkpoint atomically, with a checksum; returns the checksum."""
    file, checksum = checkpoint_in_memory(content)
    write_bytes(path, file.getbuffer())
    return checksum


def checkpoint_in_memory(content: Any) -> tuple[io.BytesIO, str]:
    """As `write_checkpoint`, but into memory; returns the file and its checksum."""
    file = io.BytesIO()
    torch.save(content, file)
    return file, add_checksum(file)
