"""Our episodes as batches in torchmeta's form, for scripts that are written for it."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.datasets.episodes.data_module import MetaBatches, PixelBatch, Served
from zoo.datasets.episodes.hash_random import key_of
from zoo.datasets.episodes.image_store import Store
from zoo.datasets.episodes.resize import at_size
from zoo.datasets.episodes.sampler import EVALUATION_SEED

TorchmetaBatch = OrderedDict[str, list[Tensor]]


class TorchmetaBatches:
    """Iterates over batches of a split like those of a `BatchMetaDataLoader`.

    ``batch["train"]`` and ``batch["test"]`` are lists of inputs (T, n, C, H, W), float32 in [0, 1],
    and targets (T, n), int64 in [0, N): torchmeta's names for support and query. Episodes are ours:
    those of a seed in training, the same for everybody in validation and test. A pass over training
    batches goes on where the last one ended, one over the others begins anew.
    """

    def __init__(
        self,
        store: Store,
        split: str,
        *,
        way: int,
        shot: int,
        query: int,
        batch_size: int,
        batches: int,
        seed: int = 0,
        size: Sequence[int] = (),
        as_bytes: bool = False,
    ) -> None:
        """Serve the first episodes of a split.

        Args:
            store: of its images.
            split: train, val or test.
            way: N.
            shot: K.
            query: Q, for each class.
            batch_size: T, tasks of a batch.
            batches: of a pass.
            seed: of the training episodes.
            size: (H, W) of the inputs; empty: as they are stored.
            as_bytes: inputs stay uint8, four times smaller; a GPU can divide them by 255.

        Raises:
            UsageError: the split has too few classes, or a class too few images.
        """
        training = split == "train"
        key = key_of(split, seed if training else EVALUATION_SEED)
        self.size, self.as_bytes = size, as_bytes
        self.meta_batches = MetaBatches(
            store,
            store.sampler(way, shot, query, key, split),
            batches * batch_size,
            batch_size,
            training=training,
            served=Served(),
        )

    def __len__(self) -> int:
        """Batches of a pass."""
        return len(self.meta_batches)

    def __iter__(self) -> Iterator[TorchmetaBatch]:
        for batch in self.meta_batches:
            assert isinstance(batch, PixelBatch)
            yield self.in_its_form(batch)

    def in_its_form(self, batch: PixelBatch) -> TorchmetaBatch:
        """A batch of ours as torchmeta collates one."""
        n = batch.support
        x = at_size(batch.x, self.size) if self.size else batch.x
        return OrderedDict(
            train=[self.inputs(x[:, :n]), batch.y[:, :n].contiguous()],
            test=[self.inputs(x[:, n:]), batch.y[:, n:].contiguous()],
        )

    def inputs(self, pixels: Tensor) -> Tensor:
        """Pixels as a batch has them, contiguous so that ``view`` may be called on them."""
        if self.as_bytes:
            return pixels.contiguous()
        return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)

    def state_dict(self) -> dict[str, Any]:
        """How many training batches were served."""
        return self.meta_batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the batches that were served."""
        self.meta_batches.load_state_dict(state)
