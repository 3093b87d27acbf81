"""Every form, spoilt in every way: one line of advice, and nothing is left of the attempt."""

import json
import os
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import in_full, pairs_in_full
from tests.support import pictures
from tests.support.forms import FORMS, Change, as_is, tiered_npz
from tests.support.pictures import Picture, Tables, encoded
from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.datasets.readers.base import Reader
from zoo.errors import UsageError

pytestmark = pytest.mark.usefixtures("small_sets")
# The gate spoils these, one for each way of keeping images and labels, in all ways, and others in
# two ways a test; `make test-all` spoils all of them in all ways.
KINDS = {
    "miniimagenet: csv", "miniimagenet: cache", "miniimagenet: category_split",
    "miniimagenet: torchmeta", "miniimagenet: TADAM", "tieredimagenet: png", "tieredimagenet: npz",
    "tieredimagenet: folders", "cifarfs: CIFAR-100", "cifarfs: r2d2", "cifarfs: MetaOptNet",
    "fc100: torchmeta", "omniglot: Lake", "omniglot: torchmeta", "cub: published",
    "folder: split folders",
}  # fmt: skip


def small_tables(name: str) -> Tables:
    """A few classes of a form's set; CIFAR-100's own form names all hundred."""
    tables = pictures.tables_of(FORMS[name].benchmark)
    return tables if name.endswith("CIFAR-100") else pictures.few(tables, train=4, val=2, test=3)


def small_benchmark(name: str, tables: Tables) -> Benchmark:
    """The benchmark of a form, as if these classes were all that it has."""
    benchmark = find_benchmark(FORMS[name].benchmark)
    lists = {
        split: [name.partition(".")[0] if benchmark.key == "cub" else name for name in classes]
        for split, classes in tables.items()
    }
    benchmark.lists = lambda: lists  # type: ignore[method-assign]
    if benchmark.per_class is not None:
        benchmark.per_class = len(next(iter(tables["train"].values())))
    return benchmark


class Site:
    """A folder for data and one for stores."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.stores = folder / "data", folder / "stores"
        self.root.mkdir()
        monkeypatch.setenv("ZOO_STORE", str(self.stores))

    def write(self, name: str, tables: Tables | None = None, change: Change = as_is) -> None:
        FORMS[name].write(self.root, tables or small_tables(name), change)

    def find(self, name: str) -> Reader:
        return small_benchmark(name, small_tables(name)).find(self.root)

    def complaint(self, name: str) -> str:
        """What is said when the form is opened: one line that names a file and ends with advice."""
        with pytest.raises(UsageError) as error:
            small_benchmark(name, small_tables(name)).open(self.root)
        message = str(error.value)
        assert "\n" not in message, message
        assert str(self.root) in message.partition(";")[0], message
        assert message.rpartition(";")[2].strip(), message
        kept = (path for path in self.stores.rglob("*") if path.is_file())
        left = [path.name for path in kept if path.suffix != ".lock"]
        assert not left
        return message


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


# Forms that do not say which split a class is of, but leave that to our lists.
SPLITLESS = {
    "miniimagenet: r2d2", "tieredimagenet: folders", "cifarfs: CIFAR-100", "fc100: CIFAR-100",
    "cifarfs: r2d2", "fc100: r2d2", "omniglot: Lake", "omniglot: merged", "omniglot: torchmeta",
    "cub: published",
}  # fmt: skip
NUMBERED = {"cifarfs: MetaOptNet", "fc100: MetaOptNet", "fc100: TADAM"}  # by CIFAR-100's numbers


def changed(tables: Tables, **splits: dict[str, list[Picture]]) -> Tables:
    return {**tables, **splits}


def first(classes: dict[str, list[Picture]]) -> tuple[str, list[Picture]]:
    return next(iter(classes.items()))


# What is done to the tables, and the forms that cannot tell.
BAD_TABLES: dict[str, tuple[Callable[[Tables], Tables], set[str]]] = {
    "val and test swapped": (lambda t: changed(t, val=t["test"], test=t["val"]), SPLITLESS),
    "class missing": (lambda t: changed(t, val=dict(list(t["val"].items())[1:])), set()),
    "class in two splits": (
        lambda t: changed(t, val={**t["val"], **dict([first(t["train"])])}),
        SPLITLESS,
    ),
    "class of another set": (
        lambda t: changed(t, val={**t["val"], "zebra/zebra": first(t["val"])[1]}),
        SPLITLESS | NUMBERED,
    ),
    "too few images": (
        lambda t: changed(t, val={**t["val"], first(t["val"])[0]: first(t["val"])[1][1:]}),
        {name for name, form in FORMS.items() if find_benchmark(form.benchmark).per_class is None},
    ),
    "too many images": (
        lambda t: changed(t, val={**t["val"], first(t["val"])[0]: first(t["val"])[1] * 2}),
        {name for name, form in FORMS.items() if find_benchmark(form.benchmark).per_class is None},
    ),
    "class without images": (lambda t: changed(t, val={**t["val"], first(t["val"])[0]: []}), set()),
}


@pytest.mark.parametrize(
    ("name", "fault"),
    pairs_in_full(
        [
            (name, fault)
            for name in FORMS
            for fault, (_, blind) in BAD_TABLES.items()
            if name not in blind and FORMS[name].benchmark != "folder"
        ],
        KINDS | {"class missing", "class in two splits"},
    ),
)
def test_classes_and_their_images_are_checked(name: str, fault: str, site: Site) -> None:
    spoil, _ = BAD_TABLES[fault]
    site.write(name, spoil(small_tables(name)))
    site.complaint(name)


# Where a form keeps its arrays: file, key of the pixels (None: all entries), and of the labels.
ARRAYS: dict[str, tuple[str, str | None, str | None]] = {
    "miniimagenet: cache": ("val", "image_data", None),
    "miniimagenet: cache, protocol 4": ("val", "image_data", None),
    "miniimagenet: cache, Python 2": ("val", "image_data", None),
    "miniimagenet: category_split": ("val", "data", "labels"),
    "miniimagenet: category_split, rewritten": ("val", "data", "labels"),
    "miniimagenet: torchmeta": ("val", None, None),
    "miniimagenet: TADAM": ("val", "features", "targets"),
    "miniimagenet: TADAM, packed": ("val", "features", "targets"),
    "tieredimagenet: npz": ("val_images", "images", None),
    "tieredimagenet: npz, old": ("val_images", "images", None),
    "tieredimagenet: torchmeta, raw": ("train", None, None),
    "cifarfs: CIFAR-100": ("train", "data", "fine_labels"),
    "cifarfs: MetaOptNet": ("val", "data", "labels"),
    "cifarfs: torchmeta": ("data", None, None),
    "fc100: CIFAR-100": ("test", "data", "fine_labels"),
    "fc100: MetaOptNet": ("val", "data", "labels"),
    "fc100: TADAM": ("val", "features", "targets"),
    "fc100: torchmeta": ("data", None, None),
    "omniglot: torchmeta": ("data", None, None),
}
BAD_PIXELS: dict[str, Callable[[np.ndarray], Any]] = {
    "floats": lambda a: a.astype(np.float32),
    "signed": lambda a: a.astype(np.int8),
    "grey": lambda a: a[..., 0],
    "an axis more": lambda a: a[..., None],
    "other size": lambda a: a[:, :-1],
    "planes first": lambda a: np.moveaxis(a, -1, 1)[:, :3],
    "one row less": lambda a: a[:-1],
    "no rows": lambda a: a[:0],
    "one number": lambda a: np.zeros((), np.uint8),
    "objects": lambda a: a.astype(object),
    "text": lambda a: np.array(["cat"] * len(a)).astype("S3"),
}
BAD_LABELS: dict[str, Callable[[list[Any]], Any]] = {
    "one less": lambda labels: labels[:-1],
    "one more": lambda labels: [*labels, labels[0]],
    "out of range": lambda labels: [*labels[:-1], 10**6],
    "negative": lambda labels: [-1, *labels[1:]],
    "another's": lambda labels: [next(x for x in labels if x != labels[0]), *labels[1:]],
    "text": lambda labels: ["cat", *labels[1:]],
    "fraction": lambda labels: [0.5, *labels[1:]],
    "none": lambda labels: [None, *labels[1:]],
    "nested": lambda labels: [[label] for label in labels],
    "one number": lambda labels: labels[0],
    "none at all": lambda labels: [],
}
HDF5 = {name for name in ARRAYS if "torchmeta" in name}


@pytest.mark.parametrize(
    ("name", "fault"),
    pairs_in_full(product(ARRAYS, BAD_PIXELS), KINDS | {"floats", "one row less"}),
)
def test_pixels_are_checked(name: str, fault: str, site: Site) -> None:
    stem, key, _ = ARRAYS[name]
    if fault == "objects" and name in HDF5:
        pytest.skip("HDF5 has none")
    if fault == "one row less" and name == "tieredimagenet: torchmeta, raw":
        pytest.skip("its classes differ in size, and pixels carry their label with them")

    def change(file: str, content: Any) -> Any:
        if file != stem:
            return content
        return content | {k: BAD_PIXELS[fault](content[k]) for k in ([key] if key else content)}

    site.write(name, change=change)
    site.complaint(name)


@pytest.mark.parametrize(
    ("name", "fault"),
    pairs_in_full(
        product([name for name, where in ARRAYS.items() if where[2]], BAD_LABELS),
        KINDS | {"one less", "out of range"},
    ),
)
def test_labels_are_checked(name: str, fault: str, site: Site) -> None:
    stem, _, key = ARRAYS[name]

    def change(file: str, content: Any) -> Any:
        if file != stem:
            return content
        labels = content[key]
        bad = BAD_LABELS[fault](list(labels))
        if isinstance(labels, np.ndarray):
            bad = np.array(bad, object if None in np.atleast_1d(bad).tolist() else None)
        return content | {key: bad}

    site.write(name, change=change)
    site.complaint(name)


def replaced(**entries: Any) -> Callable[[Any], Any]:
    """A dictionary with other entries."""
    return lambda content: content | entries


def edited(key: str, edit: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A dictionary with one entry changed."""
    return lambda content: content | {key: edit(content[key])}


def without(key: str) -> Callable[[Any], Any]:
    return lambda content: {k: v for k, v in content.items() if k != key}


def doubled(names: list[Any]) -> list[Any]:
    return [*names[:-1], names[0]]


def rows_of(members: dict[str, list[int]], change: Callable[[list[Any]], Any]) -> dict[str, Any]:
    """`class_dict` with the rows of its first class changed."""
    name = next(iter(members))
    return members | {name: change(members[name])}


CACHE, SPLIT, TIERED, PNG = (
    "miniimagenet: cache", "miniimagenet: category_split",
    "tieredimagenet: npz", "tieredimagenet: png",
)  # fmt: skip
CIFAR, MINI_HDF5, CIFAR_HDF5 = "fc100: CIFAR-100", "miniimagenet: torchmeta", "fc100: torchmeta"
CONTENTS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "cache, a list": (CACHE, "val", lambda c: list(c)),
    "cache, nothing": (CACHE, "val", lambda c: None),
    "cache, no pixels": (CACHE, "val", without("image_data")),
    "cache, no classes": (CACHE, "val", without("class_dict")),
    "cache, list of classes": (CACHE, "val", edited("class_dict", list)),
    "cache, row twice": (CACHE, "val", edited("class_dict", lambda d: rows_of(d, doubled))),
    "cache, row of another": (
        CACHE, "val", edited("class_dict", lambda d: rows_of(d, lambda r: [*r[:-1], max(r) + 1])),
    ),
    "cache, row of another too": (
        CACHE, "val", edited("class_dict", lambda d: rows_of(d, lambda r: [*r, max(r) + 1])),
    ),
    "cache, row too many": (
        CACHE, "val", edited("class_dict", lambda d: rows_of(d, lambda r: [*r, 10**9])),
    ),
    "cache, negative row": (
        CACHE, "val", edited("class_dict", lambda d: rows_of(d, lambda r: [*r[:-1], -1])),
    ),
    "cache, rows of text": (
        CACHE, "val", edited("class_dict", lambda d: rows_of(d, lambda r: "abc")),
    ),
    "cache, row of text": (
        CACHE, "val", edited("class_dict", lambda d: rows_of(d, lambda r: ["a", *r[1:]])),
    ),
    "cache, classes of numbers": (
        CACHE, "val", edited("class_dict", lambda d: dict(enumerate(d.values()))),
    ),
    "split, no names": (SPLIT, "val", without("catname2label")),
    "split, no pixels": (SPLIT, "val", without("data")),
    "split, names in a list": (SPLIT, "val", edited("catname2label", list)),
    "split, one label for two": (
        SPLIT, "val", edited("catname2label", lambda d: dict.fromkeys(d, 64)),
    ),
    "split, labels in lists": (
        SPLIT, "val", edited("catname2label", lambda d: {k: [v] for k, v in d.items()}),
    ),
    "split, names swapped": (
        SPLIT, "val", edited("catname2label", lambda d: {v: k for k, v in d.items()}),
    ),
    "tiered, no labels": (TIERED, "val_labels", without("label_specific")),
    "tiered, no names": (TIERED, "val_labels", without("label_specific_str")),
    "tiered, a list": (TIERED, "val_labels", lambda c: list(c)),
    "tiered, class twice": (TIERED, "val_labels", edited("label_specific_str", doubled)),
    "tiered, class twice more": (
        TIERED, "val_labels", edited("label_specific_str", lambda n: [*n, n[0]]),
    ),
    "tiered, class unknown": (
        TIERED, "val_labels", edited("label_specific_str", lambda n: ["zebra", *n[1:]]),
    ),
    "tiered, names of numbers": (
        TIERED, "val_labels", edited("label_specific_str", lambda n: list(range(len(n)))),
    ),
    "tiered, names in lists": (
        TIERED, "val_labels", edited("label_specific_str", lambda n: [[name] for name in n]),
    ),
    "tiered, too few names": (
        TIERED, "val_labels", edited("label_specific_str", lambda n: n[:-1]),
    ),
    **{
        f"{form.partition(': ')[2]}, labels {fault}": (
            form, "val_labels", edited("label_specific", change)
        )
        for form in (TIERED, PNG)
        for fault, change in {
            "one less": lambda a: a[:-1],
            "one more": lambda a: np.append(a, a[-1:]),
            "out of range": lambda a: a + 1,
            "negative": lambda a: a - 1,
            "nested": lambda a: a[:, None],
            "one number": lambda a: np.array(0, np.int32),
            "fractions": lambda a: a + 0.5,
            "a list": lambda a: {"a": 1},
        }.items()
    },
    "png, no list": (PNG, "val_images_png", lambda images: {0: images}),
    "png, one less": (PNG, "val_images_png", lambda images: images[:-1]),
    "png, one more": (PNG, "val_images_png", lambda images: [*images, images[0]]),
    "png, numbers": (PNG, "val_images_png", lambda images: list(range(len(images)))),
    "png, nothing": (PNG, "train_images_png", lambda images: [None] * len(images)),
    "png, pixels": (
        PNG, "train_images_png", lambda images: [np.zeros((84, 84, 3), np.uint8) for _ in images],
    ),
    "png, wide": (
        PNG, "val_images_png", lambda images: [image.astype(np.int32) for image in images],
    ),
    "cifar, no names": (CIFAR, "meta", without("fine_label_names")),
    "cifar, names in lists": (
        CIFAR, "meta", edited("fine_label_names", lambda n: [[name] for name in n]),
    ),
    "cifar, one in a list": (
        CIFAR, "meta", edited("fine_label_names", lambda n: [*n, ["x"]]),
    ),
    "cifar, one too many": (CIFAR, "meta", edited("fine_label_names", lambda n: [*n, "zebra"])),
    "cifar, class twice": (CIFAR, "meta", edited("fine_label_names", doubled)),
    "cifar, no pixels": (CIFAR, "test", without("data")),
    "cifar, labels in an array": (CIFAR, "test", edited("fine_labels", np.array)),
    "hdf5, other group": (
        MINI_HDF5, "val", lambda c: {k.replace("datasets", "x"): v for k, v in c.items()},
    ),
    "hdf5, no group": (MINI_HDF5, "val", lambda c: {"datasets": next(iter(c.values()))}),
    "hdf5, group of groups": (MINI_HDF5, "val", lambda c: {f"{k}/x": v for k, v in c.items()}),
    "hdf5, text": (
        MINI_HDF5, "val", lambda c: {k: np.array([b"a"] * len(v)) for k, v in c.items()},
    ),
    "cifar hdf5, no group": (
        CIFAR_HDF5, "data", lambda c: {k.partition("/")[0]: v for k, v in c.items()},
    ),
    "cifar hdf5, group of groups": (
        CIFAR_HDF5, "data", lambda c: {f"{k}/x": v for k, v in c.items()},
    ),
    "omniglot hdf5, no group": (
        "omniglot: torchmeta", "data", lambda c: {"images_background": next(iter(c.values()))},
    ),
    "omniglot hdf5, group of groups": (
        "omniglot: torchmeta", "data", lambda c: {f"{k}/x": v for k, v in c.items()},
    ),
    "omniglot hdf5, one part": (
        "omniglot: torchmeta", "data", lambda c: {k: v for k, v in c.items() if "_ev" in k},
    ),
    **{
        f"{form.partition(':')[0]} json, class twice": (
            form, "val_labels", lambda text: json.dumps([*json.loads(text), json.loads(text)[0]]),
        )
        for form in (MINI_HDF5, "tieredimagenet: torchmeta", "cub: torchmeta", CIFAR_HDF5)
    },
    **{
        f"{form.partition(':')[0]} {text[:20]}": (form, "val_labels", lambda _, text=text: text)
        for form in (MINI_HDF5, "tieredimagenet: torchmeta", "cub: torchmeta", CIFAR_HDF5)
        for text in (
            "{}", "[]", "null", "1", "[1]", "[null]", "[[]]", "[[1, 2]]", "[[null, null]]",
            '[["a"]]', '[{"a": 1}]', '["n0"]', '[["a", "b", "c"]]', '"n01855672"', '["../x"]',
            "[" * 100_000, "1e999", '["\\ud800"]', "[NaN]", '[""]', '[["", ""]]', '["/"]',
            '["a\\u0000b"]', '[["a\\u0000b", "c"]]',
        )
    },
}  # fmt: skip
# The lists of torchmeta's other benchmarks have the form of one of these.
REPEATED = [
    fault
    for fault in CONTENTS
    if fault.startswith(("tieredimagenet ", "cub ")) and not fault.endswith(("twice", "null"))
]


@pytest.mark.parametrize("fault", in_full(CONTENTS, *(CONTENTS.keys() - REPEATED)))
def test_contents_are_checked(fault: str, site: Site) -> None:
    name, stem, spoil = CONTENTS[fault]
    site.write(name, change=lambda file, content: spoil(content) if file == stem else content)
    site.complaint(name)


@pytest.mark.parametrize(
    ("name", "fault"),
    pairs_in_full(
        product(FORMS, ["half", "empty", "HTML", "missing", "folder"]), KINDS | {"half", "missing"}
    ),
)
def test_files_are_checked(name: str, fault: str, site: Site) -> None:
    """Each file that is there once, or once a split."""
    site.write(name)
    for path in site.find(name).files():
        if (path.name.startswith(("train", "test")) and path.suffix) or path.is_dir():
            continue
        whole = path.read_bytes()
        path.unlink()
        if fault == "folder":
            path.mkdir()
        elif fault != "missing":
            bad = {"half": whole[: len(whole) // 2], "empty": b"", "HTML": b"<!DOCTYPE html>\n" * 9}
            path.write_bytes(bad[fault])
        if fault in ("missing", "folder") and name == "omniglot: torchmeta":
            with pytest.raises(UsageError, match="was not found"):
                site.find(name)  # it was the only one
        else:
            known = path.name.replace("-validation", "-val")  # of two names that it may have
            assert str(path.with_name(known)) in site.complaint(name).replace("-validation", "-val")
        if fault == "folder":
            path.rmdir()
        path.write_bytes(whole)


# Where forms keep image files: suffix of the file, or the stem of what holds them.
ENCODED = {
    "miniimagenet: csv": ".jpg", "miniimagenet: MAML": ".jpg", "miniimagenet: r2d2": ".jpg",
    "tieredimagenet: png": "train_images_png", "tieredimagenet: png, old": "train_images_png",
    "tieredimagenet: torchmeta": "train", "tieredimagenet: folders": ".png",
    "cifarfs: r2d2": ".png", "cifarfs: learn2learn": ".png", "omniglot: Lake": ".png",
    "omniglot: merged": ".png", "cub: published": ".jpg", "cub: torchmeta": "train",
    "folder: split folders": ".png",
}  # fmt: skip
FOLDERS = "folder: split folders"  # JPEGs, whatever they are called
GREY_TOO = {
    "tieredimagenet: folders", "cub: published", "cub: torchmeta", FOLDERS,
}  # fmt: skip


def other_mode(mode: str, size: tuple[int, int] = (84, 84)) -> Callable[[bytes], bytes]:
    """The bytes of a blank image of another mode, as PNG or (CMYK) JPEG."""
    return lambda _: encoded(Image.new(mode, size), "JPEG" if mode == "CMYK" else "PNG")


BAD_IMAGES: dict[str, tuple[Callable[[bytes], bytes], set[str]]] = {
    "half": (lambda file: file[: len(file) // 2], set()),
    "header only": (lambda file: file[:30], set()),
    "empty": (lambda file: b"", set()),
    "HTML": (lambda file: b"<html>", set()),
    "wrong checksum": (  # of a PNG's pixels
        lambda file: file[:-13] + bytes([file[-13] ^ 1]) + file[-12:],
        {name for name in ENCODED if ENCODED[name] == ".jpg"} | {"cub: torchmeta", FOLDERS},
    ),
    "zeros": (lambda file: bytes(len(file)), set()),
    "zeros inside": (lambda file: file[: len(file) // 2] + bytes(len(file) // 2), set()),
    "grey": (other_mode("L", (32, 32)), GREY_TOO),
    "palette": (other_mode("P"), GREY_TOO),
    "transparent": (other_mode("RGBA"), GREY_TOO),
    "print": (other_mode("CMYK"), GREY_TOO),
    "16 bits": (other_mode("I;16"), GREY_TOO),
}


@pytest.mark.parametrize(
    ("name", "fault"), pairs_in_full(product(ENCODED, BAD_IMAGES), KINDS | {"half", "grey"})
)
def test_images_are_checked(name: str, fault: str, site: Site) -> None:
    spoil, taken = BAD_IMAGES[fault]
    spoilt: list[str] = []

    def change(stem: str, content: Any) -> Any:
        """Spoil the first image."""
        if spoilt or not stem.endswith(ENCODED[name]):
            return content
        spoilt.append(stem)
        if isinstance(content, bytes):
            return spoil(content)
        if isinstance(content, list):
            image = np.frombuffer(spoil(content[0].tobytes()), np.uint8)
            return [image.reshape(-1, *content[0].shape[1:]), *content[1:]]
        key = next(iter(content))
        return content | {key: [spoil(content[key][0]), *content[key][1:]]}

    site.write(name, change=change)
    assert spoilt
    if name in taken:
        stores = small_benchmark(name, small_tables(name)).open(site.root)
        assert stores["train"].images.shape[1:] == find_benchmark(FORMS[name].benchmark).image
    elif name == FOLDERS:  # own images: a damaged one is left out
        stores = small_benchmark(name, small_tables(name)).open(site.root)
        assert any(Path(spoilt[0]).name in store.unreadable for store in stores.values())
    else:
        site.complaint(name)


def test_a_damaged_image_of_a_later_split_leaves_only_whole_stores(site: Site) -> None:
    """Splits are built one after the other; what was finished is whole, and right."""
    name = "miniimagenet: csv"
    spoilt = next(iter(small_tables(name)["val"]))
    site.write(name, change=lambda file, data: data[: 900 if spoilt in file else None])
    with pytest.raises(UsageError, match=rf"{spoilt}.*truncated"):
        small_benchmark(name, small_tables(name)).open(site.root)
    assert [p.name for p in site.stores.glob("*") if p.suffix != ".lock"] == ["miniimagenet.train"]


@pytest.mark.parametrize("name", [name for name in FORMS if "torchmeta" in name])
def test_h5py_is_asked_for(name: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write(name)
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert site.complaint(name).endswith("; pip install h5py")


def test_metaoptnet_labels_are_no_names(site: Site) -> None:
    """Its labels.pkl, beside the npz that it shares with Ren et al., has numbers alone."""
    tables = small_tables("tieredimagenet: npz")
    tiered_npz(site.root, tables, labelled="metaoptnet")
    message = site.complaint("tieredimagenet: npz")
    assert "val_labels.pkl" in message or "train_labels.pkl" in message
    assert "MetaOptNet" in message and "authors" in message.partition(";")[2]


def test_swapped_val_and_test_are_named(site: Site) -> None:
    """Ren et al.'s caches had them swapped until April 2018."""
    name = "miniimagenet: cache"
    tables = small_tables(name)
    site.write(name, changed(tables, val=tables["test"], test=tables["val"]))
    assert "which is a test class" in site.complaint(name)


def test_tadam_sets_are_told_apart_by_size(site: Site) -> None:
    site.write("fc100: TADAM")
    message = site.complaint("miniimagenet: TADAM")
    assert "few-shot-train.npz" in message and "84, 84, 3" in message and "32, 32, 3" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", in_full(FORMS, *KINDS))
def test_files_that_may_not_be_read_are_named(name: str, site: Site) -> None:
    site.write(name)
    for path in [p for p in site.find(name).files() if "test" not in p.name][:3]:
        mode = path.stat().st_mode
        path.chmod(0)
        try:
            site.complaint(name)
        finally:
            path.chmod(mode)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", in_full(FORMS, *KINDS))
def test_folders_that_may_not_be_read_are_named(name: str, site: Site) -> None:
    site.write(name)
    folder = site.find(name).folder
    mode = folder.stat().st_mode
    folder.chmod(0)
    try:
        site.complaint(name)
    finally:
        folder.chmod(mode)
