"""CIFAR-FS and FC100 as MetaOptNet's pickles (Lee et al. 2019).

``CIFAR_FS_{train,val,test}.pickle`` and ``FC100_{train,val,test}.pickle``: ``data`` uint8
(n, 32, 32, 3) RGB, ``labels``, CIFAR-100's fine labels. Form: kjunelee/MetaOptNet, data/.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from zoo.datasets.readers.arrays import ArrayReader, entries
from zoo.datasets.splits import fine_names


class _Pickles(ArrayReader):
    form = "MetaOptNet pickles"
    recipe = "RGB 32x32, 1"
    side = 32

    def scan(self, split: str) -> Mapping[str, Sequence[np.ndarray]]:
        """Rows by the name of the fine class; see `Reader.scan`."""
        path = self.where(split)
        content = entries(path, self.again)
        names = dict(enumerate(fine_names()))
        return self.rows(path, content.get("data"), content.get("labels"), names)


class CifarFsPickles(_Pickles):
    """CIFAR-FS; the second names are few-shot-meta-baseline's and DPGN's."""

    needs = "CIFAR_FS_train.pickle, CIFAR_FS_val.pickle, CIFAR_FS_test.pickle"
    homes = ("cifarfs", "CIFAR-FS", "cifar-fs", "CIFAR_FS", "cifar_fs")
    names: ClassVar = {
        split: (f"CIFAR_FS_{split}.pickle", f"cifar_fs_{split}.pickle")
        for split in ("train", "val", "test")
    }


class Fc100Pickles(_Pickles):
    """FC100."""

    needs = "FC100_train.pickle, FC100_val.pickle, FC100_test.pickle (from FC100.zip)"
    homes = ("fc100", "FC100")
    names = {split: (f"FC100_{split}.pickle",) for split in ("train", "val", "test")}  # noqa: RUF012
