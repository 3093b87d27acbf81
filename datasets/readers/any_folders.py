"""Any folder of images: a folder a class, or train/, val/ and test/ with a folder a class each."""

from hashlib import blake2b
from pathlib import Path

from zoo.datasets.readers.base import FILTER, readable
from zoo.datasets.readers.class_folders import SPLIT_FOLDERS, ClassFolders, folders_in
from zoo.datasets.splits import Lists
from zoo.errors import UsageError

SHARES = {"train": 0.64, "val": 0.16, "test": 0.20}  # mini-ImageNet's


def find_classes(folder: Path, seed: int) -> Lists:
    """The classes of each split: as the folders say, or by a rule that depends on names alone.

    The rule: names in the order of the BLAKE2b hash of "<seed> <name>"; of n, the first
    round(0.64 n) train and the last round(0.2 n) test.

    Raises:
        UsageError: there are no class folders, or one class is in two splits.
    """
    with readable(folder):
        beside = [path.name for path in folders_in(folder) if path.name != "zoo-store"]
        given = {
            split: [path.name for name in names for path in folders_in(folder / name)]
            for split, names in SPLIT_FOLDERS.items()
        }
    if given["train"] and given["test"]:
        lists = {split: names for split, names in given.items() if names}
        names = [name for split in lists.values() for name in split]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(
                    f"{folder}: class {name!r} is in two splits, expected each in one; remove it "
                    "from one of them"
                )
        return lists
    if len(beside) < 3:
        raise UsageError(
            f"{folder}: expected a folder for each class, at least 3, or train/ and test/ with "
            f"such folders, found {len(beside)} folders; name another with --data"
        )
    beside.sort(key=lambda name: blake2b(f"{seed} {name}".encode()).digest())
    train = min(round(SHARES["train"] * len(beside)), len(beside) - 2)
    test = max(round(SHARES["test"] * len(beside)), 1)
    return {"train": beside[:train], "val": beside[train:-test], "test": beside[-test:]}


class AnyFolders(ClassFolders):
    """Images of any size and mode, squashed to one size, in colour."""

    form = "any folder"
    needs = "a folder of images for each class, or train/, val/ and test/ with such folders"
    homes = ()
    grey = True

    def __init__(self, folder: Path, lists: Lists, size: int) -> None:
        super().__init__(folder, lists, None)
        self.side = size
        self.recipe = f"RGB, squashed to {size}x{size} where it is not, {FILTER.name}, 1"
