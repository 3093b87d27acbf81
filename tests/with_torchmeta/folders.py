"""The folders that torchmeta reads, built by its own code from the unpacked sets in ZOO_DATA.

Its code downloads archives. In place of the download, archives are put where it looks for them,
made from the files that are there; the rest, from unpacking to HDF5, is torchmeta's.
"""

import pickle
import shutil
import tarfile
from pathlib import Path
from typing import Any
from unittest import mock

from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.convert import convert
from zoo.datasets.readers.arrays import as_text

SPLITS = ("train", "val", "test")


def omniglot(data: Path, out: Path) -> None:
    """omniglot/data.hdf5 and its lists, from Lake's folders."""
    from torchmeta.datasets import Omniglot

    for part in ("images_background", "images_evaluation"):
        shutil.copytree(data / "omniglot-py" / part, out / "omniglot" / part)
        (out / "omniglot" / f"{part}.zip").touch()  # so it takes the folder for the unpacked zip
    for split in SPLITS:
        Omniglot(out, num_classes_per_task=5, meta_split=split, download=True)


def cifar(data: Path, out: Path) -> None:
    """cifar100/data.hdf5 and the lists of CIFAR-FS and FC100, from CIFAR-100's python version."""
    from torchmeta.datasets import CIFARFS, FC100

    def archive(url: str, root: str, filename: str, md5: str) -> None:
        Path(root).mkdir(parents=True, exist_ok=True)
        source, names = data / "cifar-100-python", Path(root) / "meta"
        names.write_bytes(pickle.dumps(with_text(source / "meta"), 2))
        with tarfile.open(Path(root) / filename, "w:gz", compresslevel=0) as tar:
            for part, path in (("train", source / "train"), ("test", source / "test"),
                               ("meta", names)):  # fmt: skip
                tar.add(path, f"cifar-100-python/{part}")
        names.unlink()

    with mock.patch("torchmeta.datasets.cifar100.base.download_url", archive):
        for cls in (CIFARFS, FC100):
            for split in SPLITS:
                cls(out, num_classes_per_task=5, meta_split=split, download=True)


def with_text(path: Path) -> dict[str, list[str]]:
    """CIFAR-100's file of names with str for bytes, as the published file is read by latin1."""
    content = pickle.loads(path.read_bytes(), encoding="latin1")
    return {as_text(key): [as_text(name) for name in names] for key, names in content.items()}


def miniimagenet(data: Path, out: Path) -> None:
    """miniimagenet/*_data.hdf5 and lists, from caches of Ren et al.'s form, which we write."""
    from torchmeta.datasets import MiniImagenet

    def archive(file_id: str, root: str, filename: str, md5: str) -> None:
        benchmark: Any = find_benchmark("miniimagenet")
        caches = convert(benchmark, benchmark.open(data), "pkl", out / "caches")
        Path(root).mkdir(parents=True, exist_ok=True)
        with tarfile.open(Path(root) / filename, "w") as tar:
            for path in sorted(caches.iterdir()):
                # What is read for validation may be called val or validation: torchmeta wants val.
                tar.add(path, path.name.replace("validation", "val"))
        shutil.rmtree(caches)

    name = "torchmeta.datasets.miniimagenet.download_file_from_google_drive"
    with mock.patch(name, archive):
        for split in SPLITS:
            MiniImagenet(out, num_classes_per_task=5, meta_split=split, download=True)
    (out / "miniimagenet" / "mini-imagenet.tar.gz").unlink()


BUILDERS = {"omniglot": omniglot, "cifar": cifar, "miniimagenet": miniimagenet}
