"""Every form of an image set gives the same images, and every bad one a line of advice."""

import pickle
from functools import cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import pictures
from tests.support.forms import FORMS, class_folders, ravi_csv, split_folders, torchmeta_omniglot
from tests.support.pictures import Picture, Tables
from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.datasets.episodes.image_store import Store
from zoo.datasets.readers.safe_pickle import unpickle
from zoo.errors import UsageError

pytestmark = pytest.mark.usefixtures("small_sets")
FOLDER = "Bilder für 図"  # everything works in a folder with blanks and more than ASCII


def small(benchmark: str, tables: Tables) -> Benchmark:
    """The benchmark, expecting as many images a class as the tables hold."""
    found = find_benchmark(benchmark)
    counts = {len(some) for classes in tables.values() for some in classes.values()}
    if found.per_class is not None:
        (found.per_class,) = counts
    return found


def class_of(benchmark: str, name: str) -> str:
    """What a store calls a class that the publisher's folders call `name`."""
    return name.partition(".")[0] if benchmark == "cub" else name


def shown(benchmark: str, picture: Picture) -> list[np.ndarray]:
    """What a store should hold of a picture, uint8 (C, H, W): for Omniglot, turned four ways."""
    image = Image.fromarray(picture.pixels)
    bilinear = Image.Resampling.BILINEAR
    if benchmark == "omniglot":
        turned = [image.convert("L").rotate(angle) for angle in (0, 90, 180, 270)]
        return [255 - np.asarray(one.resize((28, 28), bilinear))[None] for one in turned]
    side = 32 if benchmark in ("cifarfs", "fc100") else 84
    return [np.asarray(image.convert("RGB").resize((side, side), bilinear)).transpose(2, 0, 1)]


def digest(array: np.ndarray) -> bytes:
    return blake2b(np.ascontiguousarray(array).data, digest_size=8).digest()


@cache
def expected(benchmark: str) -> dict[str, dict[str, list[bytes]]]:
    """The digests of the images of each class of each split, in no order."""
    found: dict[str, dict[str, list[bytes]]] = {}
    for split, classes in pictures.tables_of(benchmark).items():
        found[split] = {}
        for name, some in classes.items():
            name = class_of(benchmark, name)
            ways = zip(*(shown(benchmark, picture) for picture in some), strict=True)
            for way, images in enumerate(ways):
                of = f"{name}/rot{90 * way:03}" if benchmark == "omniglot" else name
                found[split][of] = sorted(map(digest, images))
    return found


def held(store: Store) -> dict[str, list[bytes]]:
    """The digests of the images of each class of a store."""
    images, ends = store.images.numpy(), store.offsets
    return {
        name: sorted(map(digest, images[start:end]))
        for name, start, end in zip(store.names, ends, ends[1:], strict=False)
    }


@pytest.fixture(scope="module")
def fingerprints() -> dict[str, dict[str, str]]:
    """Content fingerprints of each benchmark's splits, from the first form that was opened."""
    return {}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_images(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fingerprints: dict[str, dict[str, str]],
) -> None:
    form = FORMS[name]
    tables = pictures.tables_of(form.benchmark)
    root = tmp_path / FOLDER / "data"
    form.write(root, tables)
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / FOLDER / "stores"))
    benchmark = small(form.benchmark, tables)
    reader = benchmark.find(root)
    assert type(reader).__name__ == form.reader
    stores = benchmark.open(root)
    assert {split: held(store) for split, store in stores.items()} == expected(form.benchmark)
    for split, names in reader.lists.items():
        kept = [name.rpartition("/rot")[0] or name for name in stores[split].names]
        assert list(dict.fromkeys(kept)) == names
    found = {split: store.fingerprint for split, store in stores.items()}
    assert fingerprints.setdefault(form.benchmark, found) == found
    for folder in (reader.folder, *reader.folder.parents):  # any of these may be given
        if folder.is_relative_to(root):
            again = benchmark.find(folder)
            assert (type(again), again.folder) == (type(reader), reader.folder)


def test_photographs_of_any_size_are_squashed_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ravi & Larochelle's images.zip holds photographs, not 84x84."""
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))
    tables = {
        split: {name: pictures.cub()["train"]["001.Black_footed_Albatross"][:1] for name in names}
        for split, names in pictures.few(pictures.mini(), train=1, val=1, test=1).items()
    }
    found = []
    for number, write in enumerate((ravi_csv, split_folders, class_folders)):
        write(tmp_path / str(number), tables)
        benchmark = find_benchmark("miniimagenet")
        benchmark.lists = lambda: {split: list(t) for split, t in tables.items()}  # type: ignore
        benchmark.per_class = 1
        found.append({k: v.fingerprint for k, v in benchmark.open(tmp_path / str(number)).items()})
    assert found[0] == found[1] == found[2]


def test_omniglot_may_be_split_in_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lists torchmeta wrote, the option decides."""
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))
    tables = pictures.few(pictures.omniglot(), train=3, val=2, test=2)
    torchmeta_omniglot(tmp_path, tables)
    benchmark = find_benchmark("omniglot[split=1200/423]")
    assert list(benchmark.lists()) == ["train", "test"]
    lists = {"train": [*tables["train"], *tables["val"]], "test": list(tables["test"])}
    benchmark.lists = lambda: lists  # type: ignore[method-assign]
    benchmark.per_class = pictures.DRAWINGS
    stores = benchmark.open(tmp_path)
    wanted = expected("omniglot")
    assert held(stores["train"]) == {
        f"{name}/rot{angle:03}": wanted[split][f"{name}/rot{angle:03}"]
        for split in ("train", "val")
        for name in tables[split]
        for angle in (0, 90, 180, 270)
    }


def test_class_folders_alone_are_split_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))
    tables = pictures.folder()
    class_folders(tmp_path / "one", tables)
    class_folders(tmp_path / "two", dict(reversed(tables.items())))
    one, two = (find_benchmark("folder").open(tmp_path / name) for name in ("one", "two"))
    assert [len(store.names) for store in one.values()] == [4, 4, 4]
    assert sorted(name for store in one.values() for name in store.names) == sorted(
        name for classes in tables.values() for name in classes
    )
    merged = {
        name: images for classes in expected("folder").values() for name, images in classes.items()
    }
    for split, store in one.items():
        assert held(store) == {name: merged[name] for name in store.names}
        assert store.fingerprint == two[split].fingerprint
    again = {split: {name: [] for name in store.names} for split, store in one.items()}
    pairs = {name: some for classes in tables.values() for name, some in classes.items()}
    split_folders(
        tmp_path / "split", {s: {n: pairs[n] for n in names} for s, names in again.items()}
    )
    for split, store in find_benchmark("folder").open(tmp_path / "split").items():
        assert held(store) == held(one[split])
    other = find_benchmark("folder[seed=1]").open(tmp_path / "one")
    assert other["train"].names != one["train"].names


@pytest.mark.parametrize("fault", ["one class", "two splits", "nothing", "no folder"])
def test_folders_of_anything_are_checked(fault: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    if fault != "no folder":
        root.mkdir()
    tables = pictures.few(pictures.folder(), train=2, val=0, test=2)
    if fault == "one class":
        class_folders(root, pictures.few(tables, train=1))
    elif fault == "two splits":
        split_folders(root, {**tables, "val": tables["train"]})
    with pytest.raises(UsageError) as error:
        find_benchmark("folder").open(root)
    message = str(error.value)
    assert "\n" not in message and ";" in message and str(root) in message


@pytest.mark.parametrize("name", [n for n in FORMS if "cache" in n or "category" in n])
def test_pickles_are_of_the_age_they_claim(name: str, tmp_path: Path) -> None:
    """The fixtures themselves: what made the published files readable or not is in them."""
    form = FORMS[name]
    form.write(tmp_path, pictures.few(pictures.tables_of(form.benchmark), val=1))
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    assert data[0] == 0x80 and b"numpy.core" in data and b"numpy._core" not in data
    assert (b"_codecs" in data) == (name == "miniimagenet: cache")
    if "2" in name or name.endswith("category_split"):
        with pytest.raises(UnicodeDecodeError):
            pickle.loads(data)  # as those who opened these files in Python 3 report
    assert len(unpickle(path)) >= 2
