"""Stages: networks trained before meta-training, and shared by all runs that need the same one."""

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

    A subclass defines Lightning's `training_step`, `validation_step`, which logs ``val/accuracy``,
    and `configure_optimizers`. What is kept is `net` as it was at the best validation. It is shared
    by all runs, so it must depend on its settings and the data alone: make `net` inside `seeded`.

    Modules that it only reads, such as the learner's frozen backbone, must stay as they are: in
    evaluation mode and without gradients.

    `settings` holds everything that the result depends on, except the data. The training loop
    reads these:

    - always ``updates``, ``validations``, ``val_episodes``, ``seed``, and ``query``, queries per
      class of its episodes (the benchmark's if missing);
    - for batches of images, x (n, *image) and y (n,) in [0, classes): ``batch`` and ``augment``;
    - for batches of episodes: ``way``, ``shot`` and ``meta_batch``.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  # raise it when the code would train another network
    batches: ClassVar[str] = "images"  # what it trains on: images or episodes
    builds_on_earlier = True  # whether its result depends on the stages before it

    def __init__(self, net: nn.Module, *targets: nn.Module, settings: Mapping[str, Any]) -> None:
        """Keep what is trained, and whom it is for.

        Args:
            net: what is trained, with fresh weights.
            targets: the parts of the learner that will take the weights of `net`.
            settings: see the class; values that JSON can hold.
        """
        super().__init__()
        self.net = net
        self.settings = dict(settings)
        self._targets = targets  # a tuple, so that they do not become submodules

    def give(self) -> None:
        """Load the weights of `net` into the learner's parts; their other weights stay as they are.

        Raises:
            UsageError: a part has no such weights, because the learner has changed it.
        """
        for part in self._targets:
            missing = part.load_state_dict(self.net.state_dict(), strict=False).unexpected_keys
            if missing:
                names = ", ".join(missing)
                raise UsageError(f"stage {self.name}: the learner has no place for {names}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside this block, random numbers of this seed; the run's own are not disturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def stage_hash(identity: Mapping[str, Any]) -> str:
    """A short hash of everything that a stage's result depends on."""
    text = json.dumps(identity, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=4).hexdigest()
