"""The image benchmarks: mini- and tiered-ImageNet, CIFAR-FS, FC100, Omniglot, CUB, any folder."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from zoo.datasets import splits as published
from zoo.datasets.benchmarks.base import Benchmark
from zoo.datasets.splits import Lists
from zoo.errors import UsageError
from zoo.registry import register_benchmark

if TYPE_CHECKING:
    from zoo.datasets.readers.base import Reader


class _Sized(Benchmark):
    @property
    def image(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(C, H, W), in colour, of the size asked for."""
        return 3, self.options["size"], self.options["size"]


class _Resized(_Sized):
    # Stored in the published size; another size is made when the images are used.
    @property
    def source(self) -> Benchmark:
        """The benchmark in its published size, whose stored images it uses."""
        return type(self)()


@register_benchmark("miniimagenet")
class MiniImageNet(_Resized):
    """mini-ImageNet (Vinyals et al. 2016) in Ravi & Larochelle's split, 84x84 RGB."""

    key = "miniimagenet"
    title = "mini-ImageNet"
    forms = (
        "ravi_csv.RaviCsv",
        "ren_cache.RenCache",
        "torchmeta_hdf5.TorchmetaMini",
        "category_split.CategorySplit",
        "tadam.TadamMini",
        "class_folders.ClassFolders",
        "listed_sets.MiniLists",
    )
    allowed: ClassVar = {"size": (84, 32)}  # 32 to test weights that were trained on CIFAR images
    # Of the train split: means from gidariss/FewShotWithoutForgetting, deviations measured.
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
        "tiered.TieredPng",
        "tiered.TieredNpz",
        "torchmeta_hdf5.TorchmetaTiered",
        "class_folders.TieredFolders",
        "listed_sets.TieredLists",
    )
    image = (3, 84, 84)
    mean, std = MiniImageNet.mean, MiniImageNet.std  # also images of ImageNet; not measured
    per_class = None

    def lists(self) -> Lists:
        """351, 97 and 160 wnids."""
        return published.tieredimagenet()


class _Cifar100(_Resized):
    allowed: ClassVar = {"size": (32, 84)}  # 84 as in several papers
    mean = (129.4 / 255, 124.1 / 255, 112.5 / 255)  # kjunelee/MetaOptNet

    @property
    def superclasses(self) -> Mapping[str, str]:
        """One of CIFAR-100's 20 superclasses for each class."""
        return published.coarse_names()


@register_benchmark("cifarfs")
class CifarFs(_Cifar100):
    """CIFAR-FS (Bertinetto et al. 2019): CIFAR-100 split at random, 32x32 RGB."""

    key = "cifarfs"
    title = "CIFAR-FS"
    forms = (
        "cifar100_python.Cifar100Python",
        "class_folders.R2d2Folders",
        "metaoptnet.CifarFsPickles",
        "torchmeta_hdf5.TorchmetaCifarFs",
        "listed_sets.CifarLists",
    )
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
        "cifar100_python.Cifar100Python",
        "metaoptnet.Fc100Pickles",
        "tadam.TadamFc100",
        "torchmeta_hdf5.TorchmetaFc100",
        "class_folders.R2d2Folders",
        "listed_sets.CifarLists",
    )
    std = (69.9 / 255, 67.1 / 255, 73.3 / 255)  # of its train split

    def lists(self) -> Lists:
        """60, 20 and 20 classes."""
        return published.cifar100("fc100")


@register_benchmark("omniglot")
class Omniglot(Benchmark):
    """Omniglot (Lake et al. 2015): characters drawn by 20 people, four rotations, 28x28."""

    key = "omniglot"
    title = "Omniglot"
    forms = (
        "omniglot_folders.OmniglotFolders",
        "torchmeta_hdf5.TorchmetaOmniglot",
        "ren_cache.RenOmniglot",
        "listed_sets.OmniglotLists",
    )
    image = (1, 28, 28)
    allowed: ClassVar = {"split": ("vinyals", "1200/423")}
    mean = (0.0,)
    std = (1.0,)
    query = 5
    per_class = 20
    licence = "MIT (brendenlake/omniglot)"

    @property
    def classes(self) -> dict[str, int]:
        """Four classes for each character, one for each rotation."""
        return {split: 4 * count for split, count in super().classes.items()}

    def lists(self) -> Lists:
        """1028, 172 and 423 characters, or 1200 and 423."""
        return published.omniglot(self.options["split"])


@register_benchmark("cub")
class Cub(Benchmark):
    """CUB-200-2011 (Wah et al. 2011): birds by species, in the usual split, 84x84 RGB."""

    key = "cub"
    title = "CUB-200-2011"
    forms = (
        "class_folders.CubFolders",
        "torchmeta_hdf5.TorchmetaCub",
        "ren_cache.CubCache",
        "listed_sets.CubLists",
    )
    image = (3, 84, 84)
    mean, std = MiniImageNet.mean, MiniImageNet.std  # not measured
    per_class = None

    def lists(self) -> Lists:
        """100, 50 and 50 species, assigned to splits by their numbers."""
        return published.cub()


@register_benchmark("folder")
class Folder(_Sized):
    """Own images: a folder for each class, such folders in train/, val/, test/, or a list."""

    key = "folder"
    title = "Folder"
    own = True
    forms = ("any_folders.AnyFolders",)
    allowed: ClassVar = {
        "size": (84, 28, 32, 64, 128, 224),
        "seed": tuple(range(10)),
        "splits": ("given", "anew"),
    }
    mean, std = MiniImageNet.mean, MiniImageNet.std
    per_class = None

    def found(self, data: Path | None) -> Iterator["Reader"]:
        """The reader of the folder `data`.

        Raises:
            UsageError: there is no such folder.
        """
        from zoo.datasets.readers.any_folders import AnyFolders

        if data is None or not data.is_dir():
            raise UsageError(f"--data {data}: expected {AnyFolders.needs}; there is no such folder")
        size, seed, splits = (self.options[name] for name in ("size", "seed", "splits"))
        return iter([AnyFolders(data, size, seed, splits == "anew")])
