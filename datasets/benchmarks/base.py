"""The image benchmarks: what each one is, and how to open its images; others have their own files.

Nothing heavy is imported until images are opened, so that listing benchmarks costs nothing.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zoo import registry
from zoo.datasets import splits as published
from zoo.datasets.splits import Lists
from zoo.errors import UsageError
from zoo.registry import register_benchmark

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
    # Classes of zoo.datasets.readers.base, the form that loses least first: imported when images are opened.
    forms: ClassVar[tuple[str, ...]] = ()
    image: ClassVar[tuple[int, ...]]  # (C, H, W), or the shape of another input
    regression: ClassVar[bool] = False
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

    def __init__(self, **options: Any) -> None:
        for name, value in options.items():
            if name not in self.allowed:
                names = ", ".join(self.allowed)
                known = f"options: {names}" if names else "it has no options"
                raise UsageError(f"benchmark {self.key!r} has no option {name!r}; {known}")
            if value not in self.allowed[name]:
                choices = ", ".join(map(str, self.allowed[name]))
                raise UsageError(
                    f"benchmark {self.key!r}: {name}={value} is unknown; choose from {choices}"
                )
        self.options = {name: values[0] for name, values in self.allowed.items()} | options

    @property
    def variant(self) -> str:
        """The benchmark as it is written everywhere: its key and the options not at default."""
        changed = {
            name: value for name, value in self.options.items() if value != self.allowed[name][0]
        }
        return registry.format_variant(self.key, changed)

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
        return [getattr(import_module(f"zoo.datasets.readers.base.{m}"), name) for m, name in paths]

    def found(self, data: Path | None) -> Iterator["Reader"]:
        """The readers of the forms that lie at or below `data`, the preferred one first."""
        lists, forms = self.lists(), self.readers()
        return filter(None, (form.find(data, lists, self.per_class) for form in forms if data))

    def find(self, data: Path | None) -> "Reader":
        """The first reader of `found`; reads no image.

        Raises:
            NotFoundError: there is none; a screen that says what was looked for, where to get it.
        """
        from zoo.datasets.fetching.addresses import NotFoundError, not_found

        if reader := next(self.found(data), None):
            return reader
        raise NotFoundError(not_found(self, data))

    def open(self, data: Path | None) -> dict[str, "Store"]:
        """The image store of each split, built and checked first if need be: a minute or two.

        Stores lie in ``<data>/zoo-store``, or in the folder that the environment variable
        ZOO_STORE names. The source must be there too: it tells whether a store is still right.

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
    key, options = registry.parse_variant(text)
    return registry.benchmarks.get(key)(**options)


@register_benchmark("miniimagenet")
class MiniImageNet(Benchmark):
    """mini-ImageNet (Vinyals et al. 2016) in Ravi & Larochelle's split, 84x84 RGB."""

    key = "miniimagenet"
    title = "mini-ImageNet"
    forms = (
        "ravi_csv.RaviCsv", "ren_cache.RenCache", "torchmeta_hdf5.TorchmetaMini",
        "category_split.CategorySplit", "tadam.TadamMini", "class_folders.ClassFolders",
    )  # fmt: skip
    image = (3, 84, 84)
    # Means of the train split as gidariss/FewShotWithoutForgetting prints them; deviations
    # measured on a copy of it.
    mean = (120.4 / 255, 115.6 / 255, 104.5 / 255)
    std = (69.2 / 255, 67.5 / 255, 70.9 / 255)

    def lists(self) -> Lists:
        """64, 16 and 20 wnids."""
        return published.miniimagenet()


@register_benchmark("tieredimagenet")
class TieredImageNet(Benchmark):
    """tiered-ImageNet (Ren et al. 2018): ImageNet split by superclass, 84x84 RGB."""

    key = "tieredimagenet"
    title = "tiered-ImageNet"
    forms = (
        "tiered.TieredPng", "tiered.TieredNpz", "torchmeta_hdf5.TorchmetaTiered",
        "class_folders.TieredFolders",
    )  # fmt: skip
    image = (3, 84, 84)
    mean, std = MiniImageNet.mean, MiniImageNet.std  # ImageNet's images too; not measured
    per_class = None

    def lists(self) -> Lists:
        """351, 97 and 160 wnids."""
        return published.tieredimagenet()


class _Sized(Benchmark):
    @property
    def image(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(C, H, W), in colour, of the size asked for."""
        return 3, self.options["size"], self.options["size"]


class _Cifar100(_Sized):
    # Stored as they are; at 84, as several papers have them, they are enlarged where they are used.
    allowed: ClassVar = {"size": (32, 84)}
    mean = (129.4 / 255, 124.1 / 255, 112.5 / 255)  # kjunelee/MetaOptNet

    @property
    def source(self) -> Benchmark:
        """The images as they are published."""
        return type(self)()

    @property
    def superclasses(self) -> Mapping[str, str]:
        """One of CIFAR-100's 20 for each class."""
        return published.coarse_names()


@register_benchmark("cifarfs")
class CifarFs(_Cifar100):
    """CIFAR-FS (Bertinetto et al. 2019): CIFAR-100 split at random, 32x32 RGB."""

    key = "cifarfs"
    title = "CIFAR-FS"
    forms = (
        "cifar100_python.Cifar100Python", "class_folders.R2d2Folders",
        "metaoptnet.CifarFsPickles", "torchmeta_hdf5.TorchmetaCifarFs",
    )  # fmt: skip
    std = (68.2 / 255, 65.4 / 255, 70.7 / 255)  # of its train split

    def lists(self) -> Lists:
        """64, 16 and 20 classes."""
        return published.cifar100("cifar_fs")


@register_benchmark("fc100")
class Fc100(_Cifar100):
    """FC100 (Oreshkin et al. 2018): CIFAR-100 split by superclass, 32x32 RGB."""

    key = "fc100"
    title = "FC100"
    forms = (
        "cifar100_python.Cifar100Python", "metaoptnet.Fc100Pickles", "tadam.TadamFc100",
        "torchmeta_hdf5.TorchmetaFc100", "class_folders.R2d2Folders",
    )  # fmt: skip
    std = (69.9 / 255, 67.1 / 255, 73.3 / 255)  # of its train split

    def lists(self) -> Lists:
        """60, 20 and 20 classes."""
        return published.cifar100("fc100")


@register_benchmark("omniglot")
class Omniglot(Benchmark):
    """Omniglot (Lake et al. 2015): characters drawn by 20 people, four rotations, 28x28."""

    key = "omniglot"
    title = "Omniglot"
    forms = ("omniglot_folders.OmniglotFolders", "torchmeta_hdf5.TorchmetaOmniglot")
    image = (1, 28, 28)
    allowed: ClassVar = {"split": ("vinyals", "1200/423")}
    mean = (0.0,)
    std = (1.0,)
    query = 5
    per_class = 20

    @property
    def classes(self) -> dict[str, int]:
        """Four classes to a character, one for each rotation."""
        return {split: 4 * count for split, count in super().classes.items()}

    def lists(self) -> Lists:
        """1028, 172 and 423 characters, or 1200 and 423."""
        return published.omniglot(self.options["split"])


@register_benchmark("cub")
class Cub(Benchmark):
    """CUB-200-2011 (Wah et al. 2011): birds by species, in the usual split, 84x84 RGB."""

    key = "cub"
    title = "CUB-200-2011"
    forms = ("class_folders.CubFolders", "torchmeta_hdf5.TorchmetaCub")
    image = (3, 84, 84)
    mean, std = MiniImageNet.mean, MiniImageNet.std  # not measured
    per_class = None

    def lists(self) -> Lists:
        """100, 50 and 50 species, by number."""
        return published.cub()


@register_benchmark("folder")
class Folder(_Sized):
    """Any folder of class folders of images, or of train/, val/ and test/ with such folders."""

    key = "folder"
    title = "Folder"
    forms = ("any_folders.AnyFolders",)
    allowed: ClassVar = {"size": (84, 28, 32, 64, 128, 224), "seed": tuple(range(10))}
    mean, std = MiniImageNet.mean, MiniImageNet.std
    per_class = None

    def found(self, data: Path | None) -> Iterator["Reader"]:
        """The reader of the folder `data`; raises what `Benchmark.find` raises."""
        from zoo.datasets.readers.any_folders import AnyFolders, find_classes

        if data is None or not data.is_dir():
            raise UsageError(f"--data {data}: expected {AnyFolders.needs}; there is no such folder")
        lists = find_classes(data, self.options["seed"])
        return iter([AnyFolders(data, lists, self.options["size"])])
