"""One run on several devices: a process each, started by Lightning, which share every batch.

The first process makes the run and its files. It starts the others with its own command line; they
compute their share of every batch and write nothing.
"""

import os
import threading
import time
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from torch import distributed

Mine = TypeVar("Mine")


def end_with_first_process() -> None:
    """Let this process, which helps another one, end when that one does, however it ends."""
    first = os.getppid()

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def gather_objects(trainer: pl.Trainer, mine: Mine) -> list[Mine]:
    """What each process has, the first one's first. All must call it at once."""
    if trainer.world_size == 1:
        return [mine]
    found: list[Any] = [None] * trainer.world_size
    distributed.all_gather_object(found, mine)
    return found


def all_agree(trainer: pl.Trainer, mine: bool) -> bool:
    """Whether something holds in every process. All must call it at once."""
    if trainer.world_size == 1:
        return mine
    holds = torch.tensor(float(mine), device=trainer.strategy.root_device)
    distributed.all_reduce(holds, distributed.ReduceOp.MIN)
    return bool(holds)
