"""Files of weights: what a finished run tested, kept beside its record as safetensors."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from zoo.datasets.benchmarks.base import Benchmark
from zoo.errors import UsageError
from zoo.files import write_bytes


def weights_path(record: Path) -> Path:
    """The path of a run's weights, from the path of its record."""
    return record.with_suffix(".safetensors")


def file_hash(content: bytes) -> str:
    """The hash of a file's content, by which a record recognises its weights."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """A hash of the names, shapes, types and values of tensors."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_weights(path: Path, learner: nn.Module, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Write a learner's weights.

    Args:
        path: of the file.
        learner: it has the weights that were tested.
        about: what the weights belong to. Each value is written as JSON into the file's metadata,
            beside `checksum`, the hash of the tensors, and `about_checksum`, the hash of these
            values.

    Returns:
        What the record says of the file: name, bytes, hash. If the learner has no weights, no file
        is written, and it is None.
    """
    # Copies: safetensors refuses tensors that share memory.
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in learner.state_dict().items()
    }
    if not tensors:
        return None
    metadata = {name: json.dumps(value) for name, value in about.items()}
    metadata["about_checksum"] = json.dumps(about_hash(about))
    metadata["checksum"] = json.dumps(tensors_hash(tensors))
    content = in_one_order(save(tensors, metadata))
    write_bytes(path, content)
    return {"file": path.name, "bytes": len(content), "hash": file_hash(content)}


def in_one_order(content: bytes) -> bytes:
    """Sort the names in the header of a safetensors file, so that equal weights have equal hashes.

    The library writes metadata in an order that differs from call to call.

    Args:
        content: the file: the length of the header in 8 bytes, the header as JSON, the tensors.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors must begin at a multiple of 8
    return len(header).to_bytes(8, "little") + header + content[end:]


def about_hash(about: Mapping[str, Any]) -> str:
    """A hash of what a file says about its tensors, without the two checksums."""
    rest = {name: about[name] for name in about if name not in ("checksum", "about_checksum")}
    return file_hash(json.dumps(rest, sort_keys=True).encode())


def check_about(path: Path, about: Mapping[str, Any]) -> None:
    """Check what a file says about its tensors; files of earlier code have no checksum of it.

    Raises:
        UsageError: it was changed.
    """
    actual = about_hash(about)
    if about.get("about_checksum", actual) != actual:
        raise UsageError(
            f"{path} is damaged: what it says of its tensors has another checksum; delete it"
        )


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of a file and what it says about them.

    Raises:
        UsageError: the file is not a safetensors file of ours, or it is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as weights: {_line(error)}") from None
    if metadata.get("checksum") != tensors_hash(tensors):
        raise UsageError(f"{path} is damaged or not ours: its checksum does not match; delete it")
    check_about(path, metadata)
    return tensors, metadata


def _line(error: Exception) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split())


def read_about(path: Path) -> dict[str, Any]:
    """Read what a file says about its tensors, without reading them.

    Raises:
        UsageError: the file is not a safetensors file of ours.
    """
    try:
        with safe_open(path, "pt") as file:
            about = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as weights: {_line(error)}") from None
    if not {"learner", "settings", "way", "image", "mean", "std"} <= about.keys():
        raise UsageError(
            f"{path}: does not say what its weights belong to; it was not written by the zoo"
        )
    check_about(path, about)
    return about


def check_image(path: Path, about: Mapping[str, Any], benchmark: Benchmark) -> None:
    """Refuse weights that were trained on images of another size or number of channels.

    Args:
        path: of the weights.
        about: what the file says about them.
        benchmark: the weights are to be used on its images.

    Raises:
        UsageError: the images differ; the message says both shapes.
    """
    trained_on, given = list(about["image"]), list(benchmark.image)
    if trained_on != given:
        raise UsageError(
            f"{path.stem} was trained on images of {image_text(trained_on)}, {benchmark.variant} "
            f"has {image_text(given)}"
        )


def check_normalisation(path: Path, about: Mapping[str, Any], benchmark: Benchmark) -> None:
    """Refuse weights that were trained on images normalised by another mean or deviation.

    Args:
        path: of the weights.
        about: what the file says about them.
        benchmark: the weights are to be used on its images.

    Raises:
        UsageError: the numbers differ; the message says both.
    """
    for name in ("mean", "std"):
        trained_with, given = list(about[name]), list(getattr(benchmark, name))
        if trained_with != given:
            raise UsageError(
                f"{path.stem} was trained with {name} {numbers_text(trained_with)}, "
                f"{benchmark.variant} has {numbers_text(given)}"
            )


def image_text(image: Sequence[int]) -> str:
    """``3x84x84``: channels, height, width."""
    return "x".join(map(str, image))


def numbers_text(values: Sequence[float]) -> str:
    """``0.507 0.487 0.441``."""
    return " ".join(f"{value:.3g}" for value in values)


def load_weights(path: Path, learner: nn.Module, known: str, benchmark: Benchmark) -> None:
    """Give a learner the weights that a run tested.

    Args:
        path: of the file.
        learner: as configured for that run.
        known: the hash of the file, from the run's record.
        benchmark: of that run.

    Raises:
        UsageError: the file is damaged, not the one that was tested, or was trained on images of
            another size or normalisation than the benchmark has now.
    """
    if file_hash(path.read_bytes()) != known:
        raise UsageError(
            f"{path} is damaged, or not what its run tested: its hash is not that of the record; "
            "delete it, and the run is trained again where its weights are needed"
        )
    tensors, about = read_weights(path)
    check_image(path, about, benchmark)
    check_normalisation(path, about, benchmark)
    try:
        learner.load_state_dict(tensors)
    except RuntimeError as error:
        raise UsageError(f"{path} does not fit its learner: {error}") from None
