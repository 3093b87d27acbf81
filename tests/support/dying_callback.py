"""A callback that kills its process once, as a preempted machine does."""

import os
import signal

import pytorch_lightning as pl


class DiesInFirstProcess(pl.Callback):
    """Kills the process after an update, unless the training was resumed."""

    def __init__(self, after: int) -> None:
        self.after, self.resumed = after, False

    def on_train_start(self, trainer, pl_module):
        self.resumed = trainer.global_step > 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.after and not self.resumed and trainer.is_global_zero:
            os.kill(os.getpid(), signal.SIGKILL)
