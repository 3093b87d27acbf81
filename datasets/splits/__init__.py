"""The published class lists, read from the files beside this one (README.md names their sources).

Each function returns the classes of every split: ``{"train": [...], "val": [...], "test": [...]}``,
in the published order, which is the order of the classes in a store.
"""

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

Lists = dict[str, list[str]]

_HERE = Path(__file__).parent
_SPLITS = ("train", "val", "test")

# The alphabets of images_evaluation in Lake et al.'s release; the other 30 are background.
_EVALUATION = frozenset(
    """Angelic Atemayar_Qelisayer Atlantean Aurek-Besh Avesta Ge_ez Glagolitic Gurmukhi Kannada
    Keble Malayalam Manipuri Mongolian Old_Church_Slavonic_(Cyrillic) Oriya Sylheti
    Syriac_(Serto) Tengwar Tibetan ULOG""".split()
)


def miniimagenet() -> Lists:
    """Wnids of mini-ImageNet: 64, 16, 20 (Ravi & Larochelle 2017)."""
    return json.loads((_HERE / "miniimagenet_classes.json").read_text(encoding="utf-8"))


def cifar100(which: str) -> Lists:
    """Fine classes of a split of CIFAR-100: ``cifar_fs`` (64, 16, 20) or ``fc100`` (60, 20, 20)."""
    return _cifar100()[which]


def fine_names() -> list[str]:
    """The 100 classes of CIFAR-100, by their label."""
    return _cifar100()["fine"]


def coarse_names() -> dict[str, str]:
    """The superclass of each class of CIFAR-100."""
    facts = _cifar100()
    coarse = (facts["coarse"][label] for label in facts["fine_to_coarse"])
    return dict(zip(facts["fine"], coarse, strict=True))


def _cifar100() -> dict[str, Any]:
    return json.loads((_HERE / "cifar100_splits.json").read_text(encoding="utf-8"))


def tieredimagenet() -> Lists:
    """Wnids of tiered-ImageNet: 351, 97, 160 (Ren et al. 2018)."""
    rows = _tiered_rows()
    return {split: [wnid for wnid, its_split, _ in rows if its_split == split] for split in _SPLITS}


def tiered_names() -> dict[str, str]:
    """The wnid of each class of tiered-ImageNet, by its full name and by its first lemma.

    The published labels give the full list of lemmas ("plane, carpenter's plane, woodworking
    plane"); lists of first lemmas circulate too. Both are unique among the 608.
    """
    rows = _tiered_rows()
    return {
        **{name.partition(",")[0]: wnid for wnid, _, name in rows},
        **{name: wnid for wnid, _, name in rows},
    }


def tiered_full_names() -> dict[str, str]:
    """The full name of each class of tiered-ImageNet, by its wnid."""
    return {wnid: name for wnid, _, name in _tiered_rows()}


def tiered_superclasses() -> dict[str, str]:
    """The superclass of each class of tiered-ImageNet: its wnid, by the wnid of the class."""
    superclasses = {}
    for split in _SPLITS:
        for line in (_HERE / "tieredimagenet_ssl" / f"{split}.csv").read_text().split():
            wnid, superclass = line.split(",")
            superclasses[wnid] = superclass
    return superclasses


@cache  # a reader asks for each of 608 classes
def _tiered_rows() -> list[list[str]]:
    """Wnid, split and name of each class."""
    with (_HERE / "tieredimagenet_names.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def cub() -> Lists:
    """Numbers of CUB-200-2011's species, 100, 50, 50: the usual split (Chen et al. 2019).

    The folders are numbered from 0 in their order. Even ones are train; 1, 5, 9, ... are val;
    3, 7, 11, ... are test (wyharveychen/CloserLookFewShot, filelists/CUB/write_CUB_filelist.py).
    """
    of_four = ("train", "val", "train", "test")  # the splits of folders 0 to 3, 4 to 7, and so on
    return {
        split: [f"{i + 1:03}" for i in range(200) if of_four[i % 4] == split] for split in _SPLITS
    }


def cub_names() -> dict[str, str]:
    """The full name of each species, such as ``001.Black_footed_Albatross``, by its number."""
    names = (_HERE / "cub_names.txt").read_text(encoding="utf-8").split()
    return {name.partition(".")[0]: name for name in names}


def omniglot_part(character: str) -> str:
    """The folder of Lake et al.'s release that has a character, ``Alphabet/characterNN``."""
    evaluation = character.partition("/")[0] in _EVALUATION
    return "images_evaluation" if evaluation else "images_background"


def omniglot(split: str) -> Lists:
    """Characters of Omniglot, ``Alphabet/characterNN``, before rotations.

    Args:
        split: ``vinyals`` (1028, 172, 423) or ``1200/423``, where meta-train is Vinyals' train and
            val together and there are no validation classes.
    """
    if split == "1200/423":
        files = {"train": "trainval", "test": "test"}
    else:
        files = {"train": "train", "val": "val", "test": "test"}
    folder = _HERE / "omniglot_vinyals_ssl"
    return {
        name: (folder / f"{file}.txt").read_text(encoding="utf-8").split()
        for name, file in files.items()
    }
