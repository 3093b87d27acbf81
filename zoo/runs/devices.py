"""One run on several devices: each has a process, and the processes share every batch.

The first process makes the run and its files. Lightning starts the others with the same command
line; they compute their share of every batch and write nothing.
"""

import os
import signal
import threading
import time
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from torch import distributed

Value = TypeVar("Value")


class OwnSignals(pl.Callback):
    """Takes SIGTERM back from Lightning, as the program had it before.

    Lightning's handler broadcasts to the other processes, and hangs where these wait for something
    else of this one, such as its gradients.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def _take_back(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)

    on_train_start = on_test_start = _take_back


def end_with_first_process() -> None:
    """Let this process end when the first process ends, in whatever way that ends."""
    first = os.getppid()

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def gather_objects(trainer: pl.Trainer, value: Value) -> list[Value]:
    """The values of all processes, that of the first process first. All must call it together."""
    if trainer.world_size == 1:
        return [value]
    values: list[Any] = [None] * trainer.world_size
    distributed.all_gather_object(values, value)
    return values


def all_agree(trainer: pl.Trainer, holds: bool) -> bool:
    """Whether something holds in every process. All must call it together."""
    if trainer.world_size == 1:
        return holds
    minimum = torch.tensor(float(holds), device=trainer.strategy.root_device)
    distributed.all_reduce(minimum, distributed.ReduceOp.MIN)
    return bool(minimum)
