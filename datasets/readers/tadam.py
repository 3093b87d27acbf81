"""mini-ImageNet and FC100 as TADAM's npz files (Oreshkin et al. 2018).

``few-shot-{train,val,test}.npz``: ``features`` uint8 (n, side, side, 3) RGB, ``targets``. The same
names for both sets; the size of the images tells them apart. Form: ElementAI/TADAM, datasets/.
mini-ImageNet's images are the central squares, not squashed.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from zoo.datasets.readers.arrays import ArrayReader
from zoo.datasets.readers.base import MINI_HOMES
from zoo.datasets.readers.mapped_npz import member
from zoo.datasets.splits import fine_names
from zoo.errors import UsageError


class _Npz(ArrayReader):
    form = "TADAM npz"
    needs = "few-shot-train.npz, few-shot-val.npz, few-shot-test.npz"
    names = {split: (f"few-shot-{split}.npz",) for split in ("train", "val", "test")}  # noqa: RUF012

    def class_names(self, split: str) -> Mapping[int, str]:
        """The name of the class of each target."""
        raise NotImplementedError

    def scan(self, split: str) -> Mapping[str, Sequence[np.ndarray]]:
        """Rows by class; see `Reader.scan`."""
        path = self.where(split)
        pixels, labels = member(path, "features"), member(path, "targets")
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise UsageError(f"{path}: expected targets of integers; {self.again}")
        return self.rows(path, pixels, labels, self.class_names(split))


class TadamMini(_Npz):
    """mini-ImageNet: targets are ranks of the wnids in the split."""

    homes = MINI_HOMES
    recipe = "RGB 84x84, central square, 1"
    side = 84

    def class_names(self, split: str) -> Mapping[int, str]:
        """Wnids by rank."""
        return dict(enumerate(sorted(self.lists[split])))


class TadamFc100(_Npz):
    """FC100: targets are CIFAR-100's fine labels."""

    homes = ("fc100", "FC100")
    recipe = "RGB 32x32, 1"
    side = 32

    def class_names(self, split: str) -> Mapping[int, str]:
        """Fine names by label."""
        return dict(enumerate(fine_names()))
