"""mini-ImageNet as Ren et al.'s caches, also torchmeta's and learn2learn's (Ren et al. 2018).

``mini-imagenet-cache-{train,val,test}.pkl``: ``image_data`` uint8 (n, 84, 84, 3) RGB, and
``class_dict``, the rows of each wnid. Form: renmengye/few-shot-ssl-public,
fewshot/data/mini_imagenet.py. Until April 2018 its writer had val and test swapped.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from zoo.datasets.readers.arrays import ArrayReader, as_text, entries, entry, short_repr
from zoo.datasets.readers.base import MINI_HOMES
from zoo.errors import UsageError

REN_FILE = "mini-imagenet-cache-{}.pkl"


class RenCache(ArrayReader):
    """Three pickles of arrays."""

    form = "Ren cache pickle"
    needs = f"{REN_FILE.format('train')}, -val.pkl (or -validation.pkl), -test.pkl"
    homes = MINI_HOMES
    recipe = "RGB 84x84, 1"
    side = 84
    names: ClassVar = {
        "train": (REN_FILE.format("train"),),
        "val": (REN_FILE.format("val"), REN_FILE.format("validation")),
        "test": (REN_FILE.format("test"),),
    }

    def scan(self, split: str) -> Mapping[str, Sequence[np.ndarray]]:
        """Rows by wnid; see `Reader.scan`."""
        path = self.where(split)
        content = entries(path, self.again)
        classes = entry(path, content, "class_dict", dict, self.again)
        pixels = self.pixels(path, content.get("image_data"))
        labels: list[str | None] = [None] * len(pixels)
        for key, rows in classes.items():
            name = as_text(key)
            for row in rows if isinstance(rows, list) else []:
                if not isinstance(row, int) or not 0 <= row < len(labels) or labels[row]:
                    raise UsageError(
                        f"{path}: class_dict gives {name!r} row {short_repr(row)}, which does not "
                        f"exist or is of another class; {self.again}"
                    )
                labels[row] = name
        return self.rows(path, pixels, labels, {name: name for name in map(as_text, classes)})
