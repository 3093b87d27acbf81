"""Stages: what must be trained before meta-training, once for every run that asks for the same."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import nn

from zoo.errors import UsageError


class Stage(pl.LightningModule):
    """A network trained before meta-training, whose weights a part of the learner starts from.

    A subclass writes Lightning's `training_step`, `validation_step`, which logs ``val/accuracy``,
    and `configure_optimizers`. What is kept is `net` as it was at the best validation. It is shared
    by all runs, so it must follow from its settings alone: make `net` inside `seeded`.

    What it only computes with, such as a frozen backbone of the learner, must stay as it is: in
    evaluation, without gradients.

    `settings` holds all that the result follows from, but the data. Some are for the loop around
    the stage, whatever it trains: ``updates``, ``validations``, ``val_episodes``, ``seed``, and
    ``query`` of episodes, the benchmark's where it is missing; then, of batches of images
    (x (n, *image), y (n,) in [0, classes)), ``batch`` and ``augment``; of episodes, ``way``,
    ``shot`` and ``meta_batch``.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  # raise it when the code would train another network
    batches: ClassVar[str] = "images"  # what it trains on: images or episodes
    builds_on_earlier = True  # whether it computes with what was trained before it

    def __init__(self, net: nn.Module, *targets: nn.Module, settings: Mapping[str, Any]) -> None:
        """Keep what is trained, and for whom.

        Args:
            net: with fresh weights.
            targets: the parts of the learner that take the weights of `net`.
            settings: as JSON has them.
        """
        super().__init__()
        self.net = net
        self.settings = dict(settings)
        self._targets = targets  # in a tuple, so that they are no part of this module

    def give(self) -> None:
        """Let the learner's parts start from the weights of `net`; what they have besides stays.

        Raises:
            UsageError: the learner made something else of its part.
        """
        for part in self._targets:
            lost = part.load_state_dict(self.net.state_dict(), strict=False).unexpected_keys
            if lost:
                lacking = ", ".join(lost)
                raise UsageError(f"stage {self.name}: the learner has no place for {lacking}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of a stage's own inside, the run's undisturbed outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def stage_hash(identity: Mapping[str, Any]) -> str:
    """A short hash of all that a stage's result follows from."""
    text = json.dumps(identity, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=4).hexdigest()
