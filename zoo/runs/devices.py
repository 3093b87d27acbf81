"""One run on several devices: a process each, started by Lightning, which share every batch.

The first process makes the run and its files. It starts the others with its own command line; they
compute their share of every batch and write nothing.
"""

import os
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from torch import distributed

Mine = TypeVar("Mine")


def first_process() -> bool:
    """Whether this is the process that makes the run, or the only one."""
    return os.environ.get("LOCAL_RANK", "0") == "0" or not distributed.is_initialized()


def started_to_help() -> bool:
    """Whether Lightning started this process beside a first one."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def gathered(trainer: pl.Trainer, mine: Mine) -> list[Mine]:
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
