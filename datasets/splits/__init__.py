"""The published class lists, read from the files beside this one (README.md names their sources).

Each function returns the classes of every split: ``{"train": [...], "val": [...], "test": [...]}``,
in the published order, which is the order of the classes in a store.
"""

import json
from pathlib import Path

Lists = dict[str, list[str]]

_HERE = Path(__file__).parent
_SPLITS = ("train", "val", "test")


def miniimagenet() -> Lists:
    """Wnids of mini-ImageNet: 64, 16, 20 (Ravi & Larochelle 2017)."""
    return json.loads((_HERE / "miniimagenet_classes.json").read_text(encoding="utf-8"))


def cifar100(which: str) -> Lists:
    """Fine classes of a split of CIFAR-100: ``cifar_fs`` (64, 16, 20) or ``fc100`` (60, 20, 20)."""
    return json.loads((_HERE / "cifar100_splits.json").read_text(encoding="utf-8"))[which]


def omniglot(split: str) -> Lists:
    """Characters of Omniglot, ``Alphabet/characterNN``, before rotations.

    Args:
        split: ``vinyals`` (1028, 172, 423) or ``1200/423``, where meta-train is Vinyals' train and
            val together and there are no validation classes.
    """
    files = dict(zip(_SPLITS, _SPLITS, strict=True))
    if split == "1200/423":
        files = {"train": "trainval", "test": "test"}
    folder = _HERE / "omniglot_vinyals_ssl"
    return {
        name: (folder / f"{file}.txt").read_text(encoding="utf-8").split()
        for name, file in files.items()
    }
