"""Readers, on small sets in the publishers' layouts: full class lists, few images a class."""

import os
import pickle
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.pickles import Call, Python2Pickler
from zoo.datasets import splits
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.readers.base import Reader
from zoo.datasets.readers.cifar100_python import Cifar100Python
from zoo.datasets.readers.omniglot_folders import OmniglotFolders
from zoo.datasets.readers.ravi_csv import RaviCsv
from zoo.datasets.readers.safe_pickle import unpickle
from zoo.errors import UsageError

FEW = 2  # images a class
MINI, CIFAR, OMNIGLOT = (
    splits.miniimagenet(),
    splits.cifar100("cifar_fs"),
    splits.omniglot("vinyals"),
)
FINE = sorted(name for names in CIFAR.values() for name in names)
RNG = np.random.default_rng(0)


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write_mini(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    for split, wnids in MINI.items():
        rows = [(f"{wnid}{i:08}.jpg", wnid) for wnid in wnids for i in range(1, FEW + 1)]
        text = "filename,label\n" + "".join(f"{file},{wnid}\n" for file, wnid in rows)
        (folder / f"{split}.csv").write_text(text)
        for i, (file, _) in enumerate(rows):
            side = (84, 84) if i else (100, 90)
            pixels = RNG.integers(0, 256, (*side, 3), np.uint8)
            (folder / "images" / file).write_bytes(encoded(Image.fromarray(pixels), "JPEG"))


def write_cifar(folder: Path, python: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(1).integers(0, 256, (len(FINE) * FEW, 3072), np.uint8)
    labels = list(range(len(FINE))) * FEW
    things = {
        "train": {b"data": data[:150], b"fine_labels": labels[:150]},
        "test": {b"data": data[150:], b"fine_labels": labels[150:]},
        "meta": {b"fine_label_names": [name.encode() for name in FINE]},
    }
    for name, thing in things.items():
        with (folder / name).open("wb") as file:
            (Python2Pickler if python == 2 else pickle.Pickler)(file, python).dump(thing)


def write_omniglot(folder: Path) -> None:
    inks = [Image.fromarray(RNG.random((105, 105)) > 0.1) for _ in range(8)]
    files = [encoded(ink, "PNG") for ink in inks]
    for i, name in enumerate(name for names in OMNIGLOT.values() for name in names):
        part = "images_background" if i < 964 else "images_evaluation"
        drawings = folder / part / name
        drawings.mkdir(parents=True)
        for drawer in range(1, FEW + 1):
            (drawings / f"{i:04}_{drawer:02}.png").write_bytes(files[(i + drawer) % 8])


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    write_mini(tmp_path / "miniimagenet")
    return tmp_path / "miniimagenet"


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    write_cifar(tmp_path / "cifar-100-python")
    return tmp_path / "cifar-100-python"


@pytest.fixture
def omniglot(tmp_path: Path) -> Path:
    write_omniglot(tmp_path / "omniglot-py")
    return tmp_path / "omniglot-py"


def reader_at(root: Path) -> Reader:
    forms: list[tuple[type[Reader], dict[str, list[str]]]]
    forms = [(RaviCsv, MINI), (Cifar100Python, CIFAR), (OmniglotFolders, OMNIGLOT)]
    (found,) = filter(None, (form.find(root, lists, FEW) for form, lists in forms))
    return found


def complaint(root: Path) -> str:
    """What is said about a bad source: one line that ends with advice."""
    reader = reader_at(root)
    with pytest.raises(UsageError) as error:
        reader.check()
        for split in reader.lists:
            list(reader.images(split))
    message = str(error.value)
    assert "\n" not in message and ";" in message
    return message


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def test_mini_images_are_read_in_the_order_of_the_class_list(mini: Path) -> None:
    reader = reader_at(mini.parent)
    for split, wnids in MINI.items():
        assert reader.classes(split) == wnids
        arrays = list(reader.images(split))
        assert {array.shape for array in arrays} == {(FEW, 3, 84, 84)}
        for wnid, array in zip(wnids, arrays, strict=True):
            with Image.open(mini / "images" / f"{wnid}{FEW:08}.jpg") as image:
                pixels = np.asarray(image).transpose(2, 0, 1)
                assert (array == pixels).all((1, 2, 3)).sum() == 1


@pytest.mark.parametrize("python", [2, 3, 4, 5])
def test_cifar_is_read_from_pickles_of_python_2_and_3(cifar: Path, python: int) -> None:
    images = [array for array in reader_at(cifar).images("test")]
    write_cifar(cifar, python)
    for array, same in zip(reader_at(cifar.parent).images("test"), images, strict=True):
        assert array.shape == (FEW, 3, 32, 32)
        assert (array == same).all()


def test_omniglot_classes_are_turned_characters(omniglot: Path) -> None:
    reader = reader_at(omniglot)
    names = reader.classes("val")
    assert len(names) == 4 * 172 and names[:2] == [
        f"{OMNIGLOT['val'][0]}/rot{d}" for d in ("000", "090")
    ]
    arrays = list(reader.images("val"))
    with Image.open(next((omniglot).glob(f"*/{OMNIGLOT['val'][0]}/*_01.png"))) as image:
        for angle, array in zip((0, 90, 180, 270), arrays, strict=False):
            drawing = image.convert("L").rotate(angle).resize((28, 28), Image.Resampling.BILINEAR)
            assert any((255 - np.asarray(drawing) == row[0]).all() for row in array)
    assert arrays[0].shape == (FEW, 1, 28, 28) and arrays[0].mean() < 60  # little ink
    counter_clockwise = np.rot90(arrays[0], axes=(2, 3)).astype(int)
    assert abs(arrays[1] - counter_clockwise).max() <= 1


def test_omniglot_may_be_merged_and_split_in_two(omniglot: Path) -> None:
    merged = omniglot.parent / "merged"
    for part in ("images_background", "images_evaluation"):
        shutil.copytree(omniglot / part, merged, dirs_exist_ok=True)
    lists = splits.omniglot("1200/423")
    reader, other = (OmniglotFolders.find(at, lists, FEW) for at in (merged, omniglot))
    assert reader and other and list(lists) == ["train", "test"]
    assert len(reader.classes("train")) == 4800
    pairs = zip(reader.images("test"), other.images("test"), strict=True)
    assert all((one == two).all() for one, two in pairs)


def test_fingerprint_follows_the_source(mini: Path) -> None:
    before = reader_at(mini).fingerprint()
    assert reader_at(mini.parent).fingerprint() == before
    os.utime(mini / "val.csv", ns=(1, 1))
    assert reader_at(mini).fingerprint() != before


def swap_csv(mini: Path) -> None:
    (mini / "val.csv").rename(mini / "other")
    (mini / "test.csv").rename(mini / "val.csv")
    (mini / "other").rename(mini / "test.csv")


JPEG, WNID = f"{MINI['val'][3]}00000001.jpg", MINI["val"][3]
BAD_MINI: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "truncated image": (lambda p: os.truncate(p / "images" / JPEG, 600), [JPEG, "truncated"]),
    "empty image": (lambda p: os.truncate(p / "images" / JPEG, 0), [JPEG, "empty"]),
    "missing image": (lambda p: (p / "images" / JPEG).unlink(), [JPEG, "val.csv", "missing"]),
    "no image": (lambda p: (p / "images" / JPEG).write_text("<html>"), [JPEG]),
    "grey image": (
        lambda p: Image.new("L", (84, 84)).save(p / "images" / JPEG),
        [JPEG, "colour", "'L'"],
    ),
    "wrong split": (swap_csv, ["val.csv", "a test class", "16 val classes"]),
    "class missing": (
        lambda p: edit(
            p / "val.csv", lambda s: "".join(r for r in s.splitlines(True) if WNID not in r)
        ),
        ["val.csv", WNID, "missing"],
    ),
    "class in two splits": (
        lambda p: edit(p / "train.csv", lambda s: s + f"{JPEG},{WNID}\n"),
        ["train.csv", WNID, "a val class"],
    ),
    "unknown class": (
        lambda p: edit(p / "train.csv", lambda s: s + "n0000000100000001.jpg,n00000001\n"),
        ["train.csv", "'n00000001'", "none of the splits"],
    ),
    "doubled row": (
        lambda p: edit(p / "val.csv", lambda s: s + f"{JPEG},{WNID}\n"),
        [JPEG, "twice"],
    ),
    "other label": (
        lambda p: edit(
            p / "val.csv", lambda s: s.replace(f"{JPEG},{WNID}", f"{JPEG},{MINI['val'][0]}")
        ),
        ["val.csv, line 8", JPEG, MINI["val"][0]],
    ),
    "too few images": (
        lambda p: edit(p / "val.csv", lambda s: s.replace(f"{JPEG},{WNID}\n", "")),
        ["val.csv", WNID, "has 1 images", "expected 2"],
    ),
    "no csv": (lambda p: (p / "val.csv").unlink(), ["val.csv", "missing"]),
    "no csv text": (
        lambda p: (p / "val.csv").write_bytes(b"\xff\xfe\0"),
        ["val.csv", "unreadable"],
    ),
    "still zipped": (lambda p: shutil.rmtree(p / "images"), ["images", "unpack images.zip"]),
}


@pytest.mark.parametrize("name", BAD_MINI)
def test_bad_mini_is_named_in_one_line(mini: Path, name: str) -> None:
    spoil, words = BAD_MINI[name]
    spoil(mini)
    message = complaint(mini)
    assert all(word in message for word in words), message


def repickle(path: Path, **changes: object) -> None:
    path.write_bytes(pickle.dumps(unpickle(path) | changes))


BAD_CIFAR: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "truncated": (lambda p: os.truncate(p / "train", 9999), ["train", "truncated"]),
    "empty": (lambda p: os.truncate(p / "meta", 0), ["meta", "truncated"]),
    "missing": (lambda p: (p / "test").unlink(), ["test", "fetch"]),
    "no pickle": (lambda p: (p / "test").write_text("<html>"), ["test", "damaged"]),
    "hostile": (
        lambda p: (p / "test").write_bytes(pickle.dumps(Call(os.system, "touch hacked"))),
        ["test", f"{os.system.__module__}.system", "nothing was run"],
    ),
    "class missing": (
        lambda p: repickle(p / "meta", fine_label_names=[*FINE[1:], "zebra"]),
        ["meta", "'apple'", "missing"],
    ),
    "class doubled": (
        lambda p: repickle(p / "meta", fine_label_names=[*FINE[1:], FINE[1]]),
        ["meta", "'aquarium_fish'", "twice"],
    ),
    "no names": (
        lambda p: repickle(p / "meta", fine_label_names=[[[name]] for name in FINE]),
        ["meta", "'fine_label_names'", "text"],
    ),
    "too few images": (
        lambda p: repickle(p / "test", data=np.zeros((1, 3072), np.uint8), fine_labels=[50]),
        ["has 1 images", "expected 2"],
    ),
    "other shape": (
        lambda p: repickle(p / "test", data=np.zeros((50, 1024), np.uint8)),
        ["test", "(50, 1024)"],
    ),
    "other labels": (
        lambda p: repickle(p / "test", fine_labels=[100] * 50),
        ["test", "fine_labels"],
    ),
    "other contents": (
        lambda p: (p / "test").write_bytes(pickle.dumps([1])),
        ["test", "dictionary"],
    ),
}


@pytest.mark.parametrize("name", BAD_CIFAR)
def test_bad_cifar_is_named_in_one_line(cifar: Path, name: str) -> None:
    spoil, words = BAD_CIFAR[name]
    spoil(cifar)
    message = complaint(cifar)
    assert all(word in message for word in words), message


CHARACTER = OMNIGLOT["val"][5]
BAD_OMNIGLOT: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "class missing": (shutil.rmtree, [CHARACTER, "missing"]),
    "too few drawings": (
        lambda p: next(p.glob("*.png")).unlink(),
        [CHARACTER, "has 1 images", "expected 2"],
    ),
    "class doubled": (
        lambda p: shutil.copytree(p, p.parents[2] / "images_background" / CHARACTER),
        [CHARACTER, "twice"],
    ),
    "truncated": (lambda p: os.truncate(next(p.glob("*_02.png")), 200), ["_02.png", "truncated"]),
    "colour": (
        lambda p: Image.new("RGB", (105, 105)).save(next(p.glob("*_02.png"))),
        ["_02.png", "'RGB'"],
    ),
    "other size": (
        lambda p: Image.new("1", (28, 28)).save(next(p.glob("*_02.png"))),
        ["_02.png", "28x28"],
    ),
}


@pytest.mark.parametrize("name", BAD_OMNIGLOT)
def test_bad_omniglot_is_named_in_one_line(omniglot: Path, name: str) -> None:
    spoil, words = BAD_OMNIGLOT[name]
    spoil(next(omniglot.glob(f"*/{CHARACTER}")))
    message = complaint(omniglot)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("key", ["miniimagenet", "cifarfs", "omniglot"])
def test_benchmark_opens_from_the_published_form(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))
    {"miniimagenet": write_mini, "cifarfs": write_cifar, "omniglot": write_omniglot}[key](
        tmp_path / "data" / {"cifarfs": "cifar-100-python", "omniglot": "omniglot"}.get(key, key)
    )
    benchmark = find_benchmark(key)
    benchmark.per_class = FEW
    stores = benchmark.open(tmp_path / "data")
    for split, count in benchmark.classes.items():
        assert stores[split].images.shape == (count * FEW, *benchmark.image)
    assert not (tmp_path / "data" / "zoo-store").exists()
