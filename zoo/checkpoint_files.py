"""Checkpoints read from their files: what is damaged is said in a line."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zoo.files import DamagedError, add_checksum, checksum_of, write_bytes


class CheckpointFile(NamedTuple):
    """What a file of torch's holds, and the checksum in it; None where it has none."""

    content: Any
    checksum: str | None


def read_checkpoint(
    path: Any, map_location: Any = "cpu", *, weights_only: bool = False
) -> CheckpointFile:
    """Read what `torch.save` wrote, and check the checksum where there is one.

    Args:
        path: of the file; or the open file.
        map_location: as `torch.load` has it.
        weights_only: as `torch.load` has it.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedError: it cannot be read, or its checksum does not hold.
    """
    content = path.read() if hasattr(path, "read") else Path(path).read_bytes()
    checksum = checksum_of(content, path)
    try:
        found = torch.load(io.BytesIO(content), map_location, weights_only=weights_only)
    except Exception as error:  # of a damaged pickle there may be any
        text = " ".join(str(error).split()) or type(error).__name__
        raise DamagedError(f"{path} cannot be read as a checkpoint: {text}") from None
    return CheckpointFile(found, checksum)


def write_checkpoint(path: Path, content: Any) -> str:
    """Write a file by `torch.save`, atomically and with a checksum, which is returned."""
    file, checksum = checkpoint_in_memory(content)
    write_bytes(path, file.getbuffer())
    return checksum


def checkpoint_in_memory(content: Any) -> tuple[io.BytesIO, str]:
    """What `write_checkpoint` writes, and the checksum."""
    file = io.BytesIO()
    torch.save(content, file)
    return file, add_checksum(file)
