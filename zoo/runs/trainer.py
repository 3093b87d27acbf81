"""Lightning's Trainer as runs and stages use it: it counts updates, and validates regularly."""

from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO

from zoo.checkpoint_files import read_checkpoint, write_checkpoint
from zoo.runs.checkpoints import CheckpointKeeper
from zoo.runs.devices import OwnSignals
from zoo.runs.workers import note_first_process


class CheckedFiles(TorchCheckpointIO):
    """Reads and writes a Trainer's checkpoints: with a checksum, and never half-written."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """See `write_checkpoint`."""
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See `read_checkpoint`."""
        return dict(read_checkpoint(path, map_location, weights_only=bool(weights_only)).content)


def trainer_for(device: str, progress: bool, devices: int = 1, **options: Any) -> pl.Trainer:
    """A trainer that makes no checkpoints and summaries of its own.

    Args:
        device: its kind, cpu or cuda.
        progress: whether a progress bar is shown.
        devices: how many; each has a process, see `zoo.runs.devices`.
        **options: of Lightning's Trainer.
    """
    if devices > 1:
        note_first_process()
        options["callbacks"] = [*options.get("callbacks", ()), OwnSignals()]
    return pl.Trainer(
        accelerator={"cpu": "cpu", "cuda": "gpu"}[device],
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        inference_mode=False,
        plugins=[CheckedFiles()],
        **options,
    )


def updates_between(updates: int, validations: int) -> int:
    """The number of updates from one validation to the next.

    There are `validations` of them, or fewer if that number does not divide the updates.
    """
    small_divisors = [n for n in range(1, isqrt(updates) + 1) if updates % n == 0]
    divisors = [*small_divisors, *(updates // n for n in small_divisors)]
    return updates // max(n for n in divisors if n <= validations)


def training_options(
    keeper: CheckpointKeeper,
    updates: int,
    validations: int,
    logger: Logger,
    *,
    parts: int = 1,
    callbacks: Sequence[pl.Callback] = (),
) -> dict[str, Any]:
    """The options with which `trainer_for` makes a trainer for a number of updates.

    Args:
        keeper: keeps the checkpoints.
        updates: how many are made in all.
        validations: how often to validate.
        logger: of the learning curve.
        parts: batches in one update.
        callbacks: further ones.
    """
    return {
        "logger": logger,
        "callbacks": [*callbacks, keeper],
        "max_steps": updates,
        "max_epochs": 1,
        "accumulate_grad_batches": parts,
        "val_check_interval": parts * updates_between(updates, validations),
        "log_every_n_steps": max(1, min(50, updates // 10)),
    }
