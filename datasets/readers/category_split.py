"""mini-ImageNet as Gidaris & Komodakis' pickles, which MetaOptNet and others use too.

``miniImageNet_category_split_{train_phase_train,val,test}.pickle``: ``data`` uint8
(n, 84, 84, 3) RGB, ``labels``, ``catname2label``. The other ``train_phase`` files hold further
images of the 64 base classes, outside mini-ImageNet's 60,000, and are not read. Form:
gidariss/FewShotWithoutForgetting, dataloader.py.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from zoo.datasets.readers.arrays import ArrayReader, as_text, entries, entry

CATEGORY_FILE = "miniImageNet_category_split_{}.pickle"


class CategorySplit(ArrayReader):
    """Three pickles of arrays, Python 2's as a rule."""

    form = "category split pickle"
    needs = f"{CATEGORY_FILE.format('train_phase_train')}, ..._val.pickle, ..._test.pickle"
    homes = ("miniimagenet", "MiniImagenet", "mini-imagenet", "miniImagenet", "mini_imagenet")
    recipe = "RGB 84x84, 1"
    side = 84
    names: ClassVar = {
        "train": (CATEGORY_FILE.format("train_phase_train"),),
        "val": (CATEGORY_FILE.format("val"),),
        "test": (CATEGORY_FILE.format("test"),),
    }

    def scan(self, split: str) -> Mapping[str, Sequence[np.ndarray]]:
        """Rows by wnid; see `Reader.scan`."""
        path = self.where(split)
        content = entries(path, self.again)
        labels = entry(path, content, "catname2label", dict, self.again)
        names = {label: as_text(name) for name, label in labels.items() if isinstance(label, int)}
        return self.rows(path, content.get("data"), content.get("labels"), names)
