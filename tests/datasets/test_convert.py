"""What `convert` writes is read back as the same images, classes and splits."""

import errno
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import pictures
from tests.support.forms import cub_folders, omniglot_folders
from zoo.commands import main
from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.datasets.convert import convert
from zoo.datasets.episodes.image_store import Store
from zoo.datasets.readers.base import by_content
from zoo.errors import UsageError

FEW = 2  # images a class


def stores_of(key: str) -> dict[str, Store]:
    """Random images of all the classes of a benchmark."""
    benchmark, random = find_benchmark(key), np.random.default_rng(0)
    return {
        split: Store.from_arrays(
            names,
            [by_content(random.integers(0, 256, (FEW, *benchmark.image), np.uint8)) for _ in names],
        )
        for split, names in benchmark.lists().items()
    }


@pytest.mark.usefixtures("small_sets")
@pytest.mark.parametrize(
    ("key", "form", "reader"),
    [
        ("miniimagenet", "folders", "ClassFolders"),
        ("miniimagenet", "csv", "RaviCsv"),
        ("miniimagenet", "torchmeta", "TorchmetaMini"),
        ("miniimagenet", "pkl", "RenCache"),
        ("cifarfs", "folders", "R2d2Folders"),
        ("cifarfs", "torchmeta", "TorchmetaCifarFs"),
        ("cifarfs", "pkl", "CifarFsPickles"),
        ("fc100", "torchmeta", "TorchmetaFc100"),
        ("fc100", "pkl", "Fc100Pickles"),
        ("tieredimagenet", "torchmeta", "TorchmetaTiered"),
        ("tieredimagenet", "pkl", "TieredPng"),
        ("cub", "pkl", "CubCache"),
    ],
)
def test_what_was_written_is_read_back(
    key: str, form: str, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "torchmeta":
        pytest.importorskip("h5py")
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))
    benchmark, stores = find_benchmark(key), stores_of(key)
    benchmark.per_class = FEW
    assert convert(benchmark, stores, form, tmp_path / "out") == tmp_path / "out"
    assert type(benchmark.find(tmp_path / "out")).__name__ == reader
    again = benchmark.open(tmp_path / "out")
    for split, store in stores.items():
        assert again[split].fingerprint == store.fingerprint
    assert {path.name for path in tmp_path.iterdir()} == {"out", "stores"}


@pytest.mark.usefixtures("small_sets")
@pytest.mark.parametrize(
    ("key", "form", "reader"),
    [
        ("omniglot", "folders", "OmniglotFolders"),
        ("omniglot", "torchmeta", "TorchmetaOmniglot"),
        ("omniglot", "pkl", "RenOmniglot"),
        ("cub", "torchmeta", "TorchmetaCub"),
    ],
)
def test_published_images_are_written_and_read_back(
    key: str, form: str, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "torchmeta":
        pytest.importorskip("h5py")
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))
    benchmark = small_set(key, tmp_path / "in")
    stores, source = benchmark.open(tmp_path / "in"), benchmark.find(tmp_path / "in")
    convert(benchmark, stores, form, tmp_path / "out", source)
    assert type(benchmark.find(tmp_path / "out")).__name__ == reader
    again = benchmark.open(tmp_path / "out")
    for split, store in stores.items():
        assert again[split].fingerprint == store.fingerprint
    if form == "pkl" and key == "omniglot":  # which has no drawings of the published size
        with pytest.raises(UsageError, match=r"no drawings of 105x105.*convert from"):
            convert(benchmark, again, "folders", tmp_path / "new", benchmark.find(tmp_path / "out"))


def small_set(key: str, folder: Path) -> Benchmark:
    """Omniglot or CUB with a few classes, written into a folder as it is published."""
    tables = pictures.tables_of(key)
    if key == "omniglot":
        tables = pictures.few(tables, train=30, val=4, test=6)
    (omniglot_folders if key == "omniglot" else cub_folders)(folder, tables)
    benchmark = find_benchmark(key)
    if key == "omniglot":
        lists = {split: list(classes) for split, classes in tables.items()}
        benchmark.lists = lambda: lists  # type: ignore[method-assign]
        benchmark.per_class = pictures.DRAWINGS
    return benchmark


def test_learn2learn_finds_the_validation_of_mini_imagenet(tmp_path: Path) -> None:
    convert(find_benchmark("miniimagenet"), stores_of("miniimagenet"), "pkl", tmp_path / "out")
    val, validation = (
        (tmp_path / "out" / f"mini-imagenet-cache-{name}.pkl").read_bytes()
        for name in ("val", "validation")
    )
    assert val == validation


def test_glyphs_become_a_folder_of_images(tmp_path: Path) -> None:
    out = tmp_path / "my glyphs"
    assert main(["convert", "glyphs", "--to", "folders", "--out", str(out)]) == 0
    glyphs = find_benchmark("glyphs").open(None)
    read = find_benchmark("folder[size=28]").open(out)
    for split, store in glyphs.items():
        assert len(read[split].images) == len(store.images)
        grey = {image.tobytes() for image in store.images.numpy()}
        assert {image[:1].tobytes() for image in read[split].images.numpy()} == grey


def test_what_cannot_be_written_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glyphs = find_benchmark("glyphs")
    stores = glyphs.open(None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for form, out, words in [
        ("zip", "new", "--to zip: choose from folders, csv, torchmeta, pkl"),
        ("pkl", "new", "Glyphs has no such form"),
        ("csv", "full", "does not exist yet"),
        ("csv", "full/file", "does not exist yet"),
    ]:
        with pytest.raises(UsageError, match=words):
            convert(glyphs, stores, form, tmp_path / out)

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zoo.datasets.convert._png", no_room)
    with pytest.raises(UsageError, match=r"No space left.*make room"):
        convert(glyphs, stores, "csv", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.mark.parametrize("key", ["miniimagenet", "tieredimagenet", "cifarfs"])
def test_h5py_is_asked_for(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"--to torchmeta.*pip install h5py"):
        convert(find_benchmark(key), stores_of(key), "torchmeta", tmp_path / "out")
    assert not list(tmp_path.iterdir())
