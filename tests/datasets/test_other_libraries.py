"""What `convert` writes is opened by the classes of the libraries it is written for."""

import pickle
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.datasets.test_convert import FEW, small_set, stores_of
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.convert import convert
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError


def torchmeta_datasets() -> ModuleType:
    """torchmeta's data sets, where it is installed and can be imported."""
    pytest.importorskip("h5py")
    with suppress(ImportError, UsageError):  # not there, or torchmeta is not
        import_module("zoo.torchmeta")  # which lets it be imported beside today's torchvision
    reason = "torchmeta is not installed, or does not import beside this PyTorch and torchvision"
    return pytest.importorskip("torchmeta.datasets", reason=reason, exc_type=ImportError)


def learn2learn_datasets() -> ModuleType:
    """learn2learn's data sets, where it is installed."""
    reason = "learn2learn is not installed: 0.2.0 does not build on Python 3.11 and later"
    return pytest.importorskip("learn2learn.vision.datasets", reason=reason, exc_type=ImportError)


def digests(images: Any) -> list[bytes]:
    """Images (H, W, C) or (H, W) in a fixed order, to compare sets of them."""
    return sorted(np.asarray(image, np.uint8).tobytes() for image in images)


def of_classes(store: Store) -> dict[str, list[bytes]]:
    """The images of each class of a store."""
    ends = store.offsets
    return {
        name: digests(store.images[start:end].numpy().transpose(0, 2, 3, 1))
        for name, start, end in zip(store.names, ends, ends[1:], strict=False)
    }


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("miniimagenet", "MiniImagenetClassDataset"),
        ("tieredimagenet", "TieredImagenetClassDataset"),
        ("cifarfs", "CIFARFSClassDataset"),
        ("fc100", "FC100ClassDataset"),
    ],
)
def test_torchmeta_opens_what_it_is_written(key: str, name: str, tmp_path: Path) -> None:
    opened = torchmeta_class(name)
    stores = stores_of(key)
    convert(find_benchmark(key), stores, "torchmeta", tmp_path / "out")
    for split, store in stores.items():
        classes = opened(tmp_path / "out", meta_split=split)
        assert classes.num_classes == len(store.names)
        found = [digests(image for image, _ in classes[i]) for i in range(classes.num_classes)]
        assert sorted(found) == sorted(of_classes(store).values())


def torchmeta_class(name: str) -> Any:
    """A class of torchmeta's that has the classes of a set."""
    torchmeta_datasets()
    from torchmeta.datasets import cifar100, miniimagenet, tieredimagenet

    for module in (miniimagenet, tieredimagenet, cifar100.cifar_fs, cifar100.fc100):
        if hasattr(module, name):
            return getattr(module, name)
    raise AssertionError(name)


@pytest.mark.usefixtures("small_sets")
def test_torchmeta_opens_omniglot_and_cub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchmeta_datasets()
    from torchmeta.datasets.cub import CUBClassDataset
    from torchmeta.datasets.omniglot import OmniglotClassDataset

    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))
    for key, opened in (("omniglot", OmniglotClassDataset), ("cub", CUBClassDataset)):
        benchmark = small_set(key, tmp_path / key)
        stores, reader = benchmark.open(tmp_path / key), benchmark.find(tmp_path / key)
        convert(benchmark, stores, "torchmeta", tmp_path / f"of {key}", reader)
        for split, names in reader.lists.items():
            classes = opened(tmp_path / f"of {key}", meta_split=split)
            assert classes.num_classes == len(names)
            found = []
            for place in range(classes.num_classes):
                images = [np.asarray(image) for image, _ in classes[place]]
                if key == "cub":
                    found.append(digests(images))
                else:
                    found.append(digests(255 - image for image in images))
            wanted = [of_published(key, reader, split, name) for name in names]
            assert sorted(found) == sorted(wanted)
    lake = OmniglotClassDataset(
        tmp_path / "of omniglot", meta_split="test", use_vinyals_split=False
    )
    assert {label[0] for label in lake.labels} == {"images_evaluation"}


def of_published(key: str, reader: Any, split: str, name: str) -> list[bytes]:
    """The images of a class as they are published."""
    from PIL import Image

    items = reader.scanned(split)[name]
    if key == "omniglot":
        return digests(reader.decode(item) for item in items)
    photos = []
    for path in items:
        with Image.open(path) as image:
            photos.append(np.asarray(image.convert("RGB")))
    return digests(photos)


def test_learn2learn_opens_the_caches(tmp_path: Path) -> None:
    vision = learn2learn_datasets()
    stores = stores_of("miniimagenet")
    convert(find_benchmark("miniimagenet"), stores, "pkl", tmp_path / "mini")
    for split, mode in (("train", "train"), ("val", "validation"), ("test", "test")):
        dataset = vision.MiniImagenet(str(tmp_path / "mini"), mode=mode, download=False)
        assert len(dataset) == FEW * len(stores[split].names)
    stores = stores_of("fc100")
    convert(find_benchmark("fc100"), stores, "pkl", tmp_path / "fc100")
    dataset = vision.FC100(str(tmp_path / "fc100"), mode="validation", download=False)
    assert len(dataset) == len(stores["val"].images)


def test_plain_pickle_opens_the_caches_as_learn2learn_does(tmp_path: Path) -> None:
    """learn2learn's MiniImagenet calls `pickle.load` and takes these two entries."""
    stores = stores_of("miniimagenet")
    convert(find_benchmark("miniimagenet"), stores, "pkl", tmp_path / "mini")
    with (tmp_path / "mini" / "mini-imagenet-cache-validation.pkl").open("rb") as file:
        content = pickle.load(file)
    found = {
        name: digests(content["image_data"][rows]) for name, rows in content["class_dict"].items()
    }
    assert found == of_classes(stores["val"])
