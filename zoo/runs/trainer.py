"""Lightning's Trainer as runs and stages use it: updates counted, validated at equal distances."""

from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO

from zoo.checkpoint_files import read_checkpoint, write_checkpoint
from zoo.processes import note_first_process
from zoo.runs.checkpoints import CheckpointKeeper


class CheckedFiles(TorchCheckpointIO):
    """Reads and writes the checkpoints of a Trainer: whole or not there, and with a checksum."""

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
    """A trainer on a kind of device that makes nothing by itself: no checkpoint, no summary.

    On several devices there is a process for each, see `zoo.runs.devices`.
    """
    if devices > 1:
        note_first_process()
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
    """Updates from one validation to the next: as many as asked, or less, at equal distances."""
    small = [n for n in range(1, isqrt(updates) + 1) if updates % n == 0]
    divisors = [*small, *(updates // n for n in small)]
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
    """What `trainer_for` is told to make so many updates.

    Args:
        keeper: of the checkpoints.
        updates: to be made in all.
        validations: how often to validate.
        logger: of the learning curve.
        parts: batches of one update.
        callbacks: besides the keeper.
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
