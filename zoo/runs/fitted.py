"""Lowers ways, shots and queries until they fit a user's own images, of which there may be few.

The way of the test becomes at most the number of classes of the split that has the fewest, the way
of training at most that of the training split. From the smallest class of a split, shots are taken
first, but at least one image is left for queries; the queries are at most what is left. A value
that was given by a flag or a config file is never changed: if it does not fit, it is refused.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError
from zoo.runs.given_episodes import FROM_DATA
from zoo.runs.resolved import ResolvedRequest
from zoo.runs.settings import Setting

DEFAULT_WAY = 5


def smallest_class(store: Store) -> tuple[int, str]:
    """How many images a split's smallest class has, and its name."""
    counts = np.diff(store.offsets)
    place = int(counts.argmin())
    return int(counts[place]), store.names[place]


def way_that_fits(stores: Mapping[str, Store]) -> tuple[int, str]:
    """N of the test episodes by default, and why it is not 5; "" if it is 5."""
    classes = {split: len(store.names) for split, store in stores.items()}
    split = min(classes, key=lambda name: classes[name])
    if classes[split] >= DEFAULT_WAY:
        return DEFAULT_WAY, ""
    way = max(classes[split], 2)
    return way, f"--way {way} ({DEFAULT_WAY} by default, but {split} has {classes[split]} classes)"


def query_that_fits(stores: Mapping[str, Store], shot: int, query: int) -> int:
    """Queries a class: at most what the smallest class leaves beside the shots, but at least 1."""
    fewest = min(smallest_class(store)[0] for store in stores.values())
    return max(1, min(query, fewest - shot))


def fitted(resolved: ResolvedRequest, stores: Mapping[str, Store]) -> ResolvedRequest:
    """Lower the settings of a run that do not fit the images and that nobody asked for.

    Args:
        resolved: a run on a user's own images.
        stores: of the images, by split.

    Raises:
        UsageError: the run trains, but there are no classes to train on.
    """
    settings = dict(resolved.every_setting)
    train, test_shot = stores.get("train"), resolved.request.shot
    if train is None and (settings["updates"].value or settings["pretrained_from"].value):
        classes = sum(len(store.names) for store in stores.values())
        raise UsageError(
            f"--updates {settings['updates'].value}: {classes} classes are too few to train on "
            "some and test on others, which takes 4; add classes, or test untrained with "
            "--budget none"
        )

    def lower(name: str, most: int, why: str) -> None:
        setting = settings[name]
        if setting.origin not in ("config", "flag") and setting.value > most >= 1:
            settings[name] = Setting(most, FROM_DATA, f"{setting.value} by default, but {why}")

    smallest = {split: smallest_class(stores[split]) for split in stores if split != "train"}
    split = min(smallest, key=lambda name: smallest[name][0])
    count, name = smallest[split]
    why = f"{split} class {name!r} has {count} images and --shot is {test_shot}"
    lower("query", count - test_shot, why)
    if train is not None:
        if not resolved.cls.fixed_way:  # otherwise it must stay that of the test
            lower("train_way", len(train.names), f"train has {len(train.names)} classes")
        count, name = smallest_class(train)
        why = f"train class {name!r} has {count} images"
        lower("train_shot", count - 1, f"{why}, and a query takes one")
        shot = settings["train_shot"].value
        lower("train_query", count - shot, f"{why} and --train_shot is {shot}")
    return replace(resolved, every_setting=settings)


def lowered_in_words(settings: Mapping[str, Setting]) -> list[str]:
    """The settings that were lowered, each with the reason."""
    return [
        f"--{name} {setting.value} ({setting.source})"
        for name, setting in settings.items()
        if setting.origin == FROM_DATA
    ]
