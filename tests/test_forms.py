"""Every form of an image set gives the same images, and every bad one a line of advice."""

from functools import cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.benchmarks import Benchmark, find_benchmark
from datasets.store import Store
from tests import pictures
from tests.forms import FORMS
from tests.pictures import Picture, Tables

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
