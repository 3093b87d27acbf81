"""What a benchmark is, and how to open its images; the benchmarks are in the files beside this.

Nothing heavy is imported until images are opened, so that listing benchmarks costs nothing.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zoo import registry, variants
from zoo.datasets.splits import Lists
from zoo.errors import UsageError
from zoo.values import same_value, shown

if TYPE_CHECKING:
    from zoo.datasets.episodes.image_store import Store
    from zoo.datasets.readers.base import Reader


class Benchmark:
    """A few-shot benchmark of images, with its options.

    Args:
        options: overrides, as in ``omniglot[split=1200/423]``.

    Raises:
        UsageError: an option that the benchmark does not have, or a value it does not know.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    # Classes of zoo.datasets.readers, the form that loses least first; imported when images are
    # opened.
    forms: ClassVar[tuple[str, ...]] = ()
    image: ClassVar[tuple[int, ...]]  # (C, H, W), or the shape of another input
    regression: ClassVar[bool] = False
    own: ClassVar[bool] = False  # somebody's own images, of which nothing is published
    outputs: ClassVar[int] = 1  # numbers that a regression predicts of each input
    # The allowed values of each option, the default first.
    allowed: ClassVar[dict[str, tuple[Any, ...]]] = {}
    # A network is given (x / 255 - mean) / std, channel by channel.
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]
    # The network of learners that settings.yaml gives none for this benchmark; "": their own.
    backbone: ClassVar[str] = ""
    query: int = 15  # test queries a class
    shots: str = "1 5"  # of a table
    quick_seconds: int = 600  # what budget `quick` trains for on 2 cores, by definition
    per_class: int | None = 600  # images a class; None: classes differ
    note: str = ""  # to print beside numbers measured on it
    licence: str = ""  # of its data, where the publisher states one; "" where we know of none

    def __init__(self, **options: Any) -> None:
        chosen = {name: values[0] for name, values in self.allowed.items()}
        for name, value in options.items():
            if name not in self.allowed:
                names = ", ".join(self.allowed)
                known = f"options: {names}" if names else "it has no options"
                raise UsageError(f"benchmark {self.key!r} has no option {name!r}; {known}")
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
        """The benchmark as it is written everywhere: its key and the options not at default."""
        changed = {
            name: value for name, value in self.options.items() if value != self.allowed[name][0]
        }
        return variants.format_variant(self.key, changed)

    @property
    def source(self) -> "Benchmark":
        """Whose images it takes, as they are stored: its own."""
        return self

    @property
    def splits(self) -> list[str]:
        """The splits there are, of train, val and test."""
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
        """The superclass of each class; empty where none is published."""
        return {}

    def readers(self) -> list[type["Reader"]]:
        """The readers of its published forms, the preferred one first."""
        paths = [form.split(".") for form in self.forms]
        return [getattr(import_module(f"zoo.datasets.readers.{m}"), name) for m, name in paths]

    def found(self, data: Path | None) -> Iterator["Reader"]:
        """The readers of the forms that lie at or below `data`, the preferred one first."""
        lists, forms = self.lists(), self.readers()
        return filter(None, (form.find(data, lists, self.per_class) for form in forms if data))

    def find(self, data: Path | None) -> "Reader":
        """The first reader of `found`; reads no image.

        Raises:
            NotFoundError: there is none; a screen that says what was looked for, where to get it.
        """
        from zoo.datasets.fetching.not_found import NotFoundError, not_found

        if reader := next(self.found(data), None):
            return reader
        raise NotFoundError(not_found(self, data))

    def open(self, data: Path | None) -> dict[str, "Store"]:
        """The image store of each split, built and checked first if need be: a minute or two.

        Stores lie in ``<data>/zoo-store``, those of own images in the user's cache, or in the
        folder that the environment variable ZOO_STORE names. The source must be there too: it tells
        whether a store is still right.

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
    return registry.benchmarks.get(key)(**options)
