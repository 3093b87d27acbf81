"""A benchmark made of torchmeta's loaders: `torchmeta[loaders=module:function]`.

There is one for each split. The loaders draw the episodes, so their numbers are comparable with
each other, not with those of the benchmarks here; a record names the function in its benchmark.
"""

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from zoo import variants
from zoo.datasets.benchmarks.base import TORCHMETA, Benchmark
from zoo.datasets.benchmarks.torchmeta_episodes import LoaderEpisodes
from zoo.errors import UsageError
from zoo.plugin_files import plugin_of_file

SPLITS = ("train", "val", "test")


class TorchmetaLoaders(Benchmark):
    """Episodes that a user's `BatchMetaDataLoader`s draw, seeded by the zoo.

    Way, shots, queries and the size of a meta-batch are those of the loaders, and a learner gets
    the values that they give: the loaders' transforms are the place to normalise or augment.
    """

    title = "Episodes of torchmeta's loaders"
    stored = False
    per_class = None

    def __init__(self, loaders: Any, name: str = "") -> None:
        """Load one episode of each split.

        Args:
            loaders: by split, ``train``, ``test`` and, to choose weights by validation, ``val``.
            name: ``module:function`` that made them; "" if they were given in Python.

        Raises:
            UsageError: a split is missing or unknown, or a loader is none, or fails.
        """
        super().__init__()
        self.name = name
        where = f"--torchmeta {name}" if name else "torchmeta"
        if not isinstance(loaders, Mapping) or not {"train", "test"} <= {*loaders} <= {*SPLITS}:
            found = ", ".join(map(str, loaders)) if isinstance(loaders, Mapping) else "none"
            raise UsageError(
                f"{where}: loaders by split: {found}; expected a dict with train, test and, if "
                "there is one, val"
            )
        self.episodes = {
            split: LoaderEpisodes(loader, f"{where}: {split}") for split, loader in loaders.items()
        }
        train, test = self.episodes["train"].shape, self.episodes["test"].shape
        for split, episodes in self.episodes.items():
            shape = episodes.shape
            if (shape.image, shape.regression) != (train.image, train.regression):
                raise UsageError(
                    f"{where}: {split} has inputs of shape {shape.image} and train {train.image}; "
                    "expected one shape, and classes in all or regression in all"
                )
        size = self.episodes["train"].loader.batch_size
        if not size:
            raise UsageError(f"{where}: train has no batch_size, which is the tasks of an update")
        self.image = train.image  # type: ignore[misc]
        self.regression = train.regression  # type: ignore[misc]
        self.outputs = test.way if self.regression else 1  # type: ignore[misc]
        self.key = TORCHMETA[self.regression]  # type: ignore[misc]
        self.query = test.query
        self.backbone = "mlp" if len(self.image) == 1 else ""  # type: ignore[misc]
        channels = 0 if self.regression else self.image[0]
        self.mean, self.std = (0.0,) * channels, (1.0,) * channels  # type: ignore[misc]
        self.given = {
            "way": test.way,
            "shot": test.shot,
            "query": test.query,
            "train_way": train.way,
            "train_shot": train.shot,
            "train_query": train.query,
            "meta_batch": size,
        }
        if name:
            path = Path(str(sys.modules[name.partition(":")[0]].__file__))
            self.files = [plugin_of_file(path, path.read_bytes())]

    @property
    def variant(self) -> str:
        """``torchmeta[loaders=module:function]``, or the key alone for loaders made in Python."""
        return variants.format_variant(self.key, {"loaders": self.name} if self.name else {})

    def lists(self) -> dict[str, list[str]]:
        """Its splits; which classes they have, the loaders alone know."""
        return {split: [] for split in self.episodes}

    def open(self, data: Path | None = None) -> dict[str, Any]:
        """The episodes of each split, whatever `data` is."""
        return dict(self.episodes)


MADE: dict[str, TorchmetaLoaders] = {}  # by module:function, each called once


def loaders_of_function(name: str) -> TorchmetaLoaders:
    """The benchmark of the loaders that a user's function makes.

    Args:
        name: ``module:function``; the module is found as Python finds it, or in the working
            folder. The function takes no arguments and returns a dict, split -> loader.

    Raises:
        UsageError: there is no such function, it fails, or it returns something else.
    """
    if name in MADE:
        return MADE[name]
    module_name, colon, function_name = name.partition(":")
    if not (colon and module_name and function_name):
        raise UsageError(f"--torchmeta {name}: expected module:function")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = getattr(import_module(module_name), function_name)
        loaders = function()
    except UsageError as error:
        raise UsageError(f"--torchmeta {name}: {error}") from None
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(
            f"--torchmeta {name}: {reason:.300}; expected a function without arguments that "
            "returns a dict of loaders, train, val and test"
        ) from error
    MADE[name] = TorchmetaLoaders(loaders, name)
    return MADE[name]


def torchmeta_benchmark(options: Mapping[str, Any]) -> TorchmetaLoaders:
    """The benchmark that ``torchmeta[loaders=module:function]`` names.

    Raises:
        UsageError: no function is named, or its loaders cannot be used.
    """
    if {*options} != {"loaders"}:
        raise UsageError(
            "benchmark 'torchmeta': expected torchmeta[loaders=module:function], a function that "
            "returns the loaders; of loaders made in Python, take zoo.experiment"
        )
    return loaders_of_function(str(options["loaders"]))
