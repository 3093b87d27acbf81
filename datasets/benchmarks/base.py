"""The base class of benchmarks: what a benchmark is, and how its images are opened.

The benchmarks are in the files beside this one. Nothing heavy is imported before images are
opened, so that listing benchmarks is fast.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from zoo import registry, variants
from zoo.datasets.splits import Lists
from zoo.errors import UsageError
from zoo.plugin_files import Plugin
from zoo.values import same_value, shown

if TYPE_CHECKING:
    from zoo.datasets.episodes.image_store import Store
    from zoo.datasets.readers.base import Reader


TORCHMETA = ("torchmeta", "torchmeta_functions")  # keys of loaders, of classes or regression


class Benchmark:
    """A few-shot benchmark of images, with its options.

    Args:
        options: overrides, as in ``omniglot[split=1200/423]``.

    Raises:
        UsageError: an option that the benchmark does not have, or a value it does not know.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    # Readers of its published forms, as module.Class in zoo.datasets.readers; the preferred form
    # is first, the one that loses least of the images.
    forms: ClassVar[tuple[str, ...]] = ()
    image: ClassVar[tuple[int, ...]]  # (C, H, W), or the shape of another input
    regression: ClassVar[bool] = False
    tables: ClassVar[bool] = False  # whether inputs are rows of tables, not images or points
    own: ClassVar[bool] = False  # whether it is a user's own images, without published numbers
    # Whether its images are kept in a store, so that each can be read by its number.
    stored: ClassVar[bool] = True
    outputs: ClassVar[int] = 1  # numbers that a regression predicts for each input
    # Option -> its allowed values, the default first.
    allowed: ClassVar[dict[str, tuple[Any, ...]]] = {}
    # A network is given (x / 255 - mean) / std, channel by channel.
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]
    # The network of learners without one for this benchmark in settings.yaml; "": their default.
    backbone: ClassVar[str] = ""
    query: int = 15  # test queries per class
    shots: str = "1 5"  # of a table
    quick_seconds: int = 600  # how long budget `quick` trains on 2 cores, by definition
    per_class: int | None = 600  # images of each class; None: their numbers differ
    note: str = ""  # printed beside numbers measured on it
    licence: str = ""  # of its data, where the publisher states one

    # Where somebody else's code draws the episodes: their way and shot, and the settings that
    # follow from them, by name.
    given: Mapping[str, int] = MappingProxyType({})
    files: Sequence[Plugin] = ()  # of a user, that the records of its runs name

    def __init__(self, **options: Any) -> None:
        chosen = {name: values[0] for name, values in self.allowed.items()}
        for name, value in options.items():
            if name not in self.allowed:
                names = ", ".join(self.allowed)
                allowed = f"options: {names}" if names else "it has no options"
                raise UsageError(f"benchmark {self.key!r} has no option {name!r}; {allowed}")
            meant = [each for each in self.allowed[name] if same_value(value, each)]
            if not meant:
                choices = ", ".join(map(str, self.allowed[name]))
                raise UsageError(
                    f"benchmark {self.key!r}: {name}={shown(value)} is unknown; "
                    f"choose from {choices}"
                )
            chosen[name] = meant[0]
        self.options = chosen

    @property
    def variant(self) -> str:
        """The benchmark's name everywhere: its key and the options that are not the default."""
        changed = {
            name: value for name, value in self.options.items() if value != self.allowed[name][0]
        }
        return variants.format_variant(self.key, changed)

    @property
    def source(self) -> "Benchmark":
        """The benchmark whose stored images it uses: itself."""
        return self

    @property
    def splits(self) -> list[str]:
        """The splits it has, of train, val and test."""
        return list(self.classes)

    @property
    def classes(self) -> dict[str, int]:
        """The number of classes in each split."""
        return {split: len(names) for split, names in self.lists().items()}

    def lists(self) -> Lists:
        """The published class list of each split."""
        raise NotImplementedError

    @property
    def superclasses(self) -> Mapping[str, str]:
        """The superclass of each class; empty without published superclasses."""
        return {}

    def readers(self) -> list[type["Reader"]]:
        """The reader classes of its published forms, the preferred one first."""
        classes = []
        for form in self.forms:
            module, name = form.split(".")
            classes.append(getattr(import_module(f"zoo.datasets.readers.{module}"), name))
        return classes

    def found(self, data: Path | None) -> Iterator["Reader"]:
        """A reader for each published form found at or below `data`, the preferred one first."""
        if data is None:
            return
        lists = self.lists()
        for reader_class in self.readers():
            if reader := reader_class.find(data, lists, self.per_class):
                yield reader

    def find(self, data: Path | None) -> "Reader":
        """The reader of the preferred form found at or below `data`; no image is read yet.

        Raises:
            NotFoundError: there is none; the message tells what was looked for and where to get it.
        """
        from zoo.datasets.fetching.not_found import NotFoundError, not_found

        if reader := next(self.found(data), None):
            return reader
        raise NotFoundError(not_found(self, data))

    def learn_input_shape(self, stores: Mapping[str, Any]) -> None:
        """Learn from opened data what shape inputs have, where the benchmark does not fix it."""

    def open(self, data: Path | None) -> dict[str, "Store"]:
        """The image store of each split; the first time, all images are decoded and checked.

        Stores are kept in ``<data>/zoo-store``, those of own images in the user's cache; the
        environment variable ZOO_STORE names another folder. The published files must stay: they
        tell whether a store is out of date.

        Raises:
            UsageError: the images are not below `data`, or something is wrong with them.
        """
        from zoo.datasets.checking.content_checks import open_checked

        return open_checked(self, self.find(data), data)


def find_benchmark(text: str) -> Benchmark:
    """The benchmark that a variant such as ``omniglot[split=1200/423]`` names.

    Raises:
        UsageError: no such benchmark, option or value.
    """
    key, options = variants.parse_variant(text)
    if key in TORCHMETA:
        from zoo.datasets.benchmarks.torchmeta_loaders import torchmeta_benchmark

        return torchmeta_benchmark(options)
    return registry.benchmarks.get(key)(**options)
