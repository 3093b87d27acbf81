"""Writers of the forms in which few-shot image sets are published, one function for each form.

They follow the code of those who publish the sets, and share nothing with our readers. A writer is
given the folder that a user would unpack into, the `Tables` to write, and `change`, a function that
may spoil files: it is called with a file's stem and content, and what it returns is written.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import pictures
from tests.support.pickling import Unicode, dumps
from tests.support.pictures import Picture, Tables

Change = Callable[[str, Any], Any]


def as_is(stem: str, content: Any) -> Any:
    return content


def save(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def stacked(rows: list[Picture]) -> np.ndarray:
    return np.stack([p.pixels for p in rows]) if rows else np.zeros((0, 84, 84, 3), np.uint8)


def shuffled(classes: Mapping[Any, list[Picture]]) -> tuple[list[Any], list[Picture]]:
    """Labels and pictures in a random order."""
    rows = [(name, picture) for name, of_class in classes.items() for picture in of_class]
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    return [rows[i][0] for i in order], [rows[i][1] for i in order]


# --- mini-ImageNet ---


def ravi_csv(root: Path, tables: Tables, change: Change = as_is) -> None:
    """Ravi & Larochelle's lists and the flat folder of images that goes with them."""
    for split, classes in tables.items():
        lines = ["filename,label"]
        for name in sorted(classes):
            for i, picture in enumerate(classes[name]):
                file = f"{name}{i + 5:08}.jpg"  # many of ImageNet's numbers are left out
                lines.append(f"{file},{name}")
                save(root / "images" / file, change(file, picture.file))
        save(root / f"{split}.csv", change(split, "\n".join(lines) + "\n"))


def ren_cache(
    root: Path,
    tables: Tables,
    change: Change = as_is,
    *,
    python: int = 3,
    protocol: int = 2,
    val: str = "val",
) -> None:
    """Ren et al.'s caches; learn2learn calls that of val ``validation``."""
    for split, classes in tables.items():
        names = sorted(classes)
        rows: list[Picture] = []
        members: dict[str, list[int]] = {}
        for name in names:
            members[name] = list(range(len(rows), len(rows) + len(classes[name])))
            rows += classes[name]
        content = change(split, {"image_data": stacked(rows), "class_dict": members})
        file = f"mini-imagenet-cache-{val if split == 'val' else split}.pkl"
        save(root / file, dumps(content, python, protocol))


VAL = """
n03535780 n03075370 n02981792 n03980874 n03770439 n02091244 n02114548 n02174001 n03417042 n02971356
n03584254 n02138441 n03773504 n02950826 n01855672 n09256479
""".split()
TEST = """
n02110341 n01930112 n02219486 n02443484 n01981276 n02129165 n04522168 n02099601 n03775546 n02110063
n02116738 n03146219 n02871525 n03127925 n03544143 n03272010 n07613480 n04146614 n04418357 n04149813
""".split()


def category_split(
    root: Path, tables: Tables, change: Change = as_is, *, python: int = 2, protocol: int = 2
) -> None:
    """Gidaris & Komodakis' pickles, with their two further ones of train's classes."""
    order = [*sorted(pictures.mini()["train"]), *VAL, *TEST]
    numbers = {name: i for i, name in enumerate(order)}  # 100 for a class that is none of these
    for split, classes in tables.items():
        names = sorted(classes, key=lambda name: numbers.get(name, 100))
        content: dict[str, Any] = {
            "data": stacked([picture for name in names for picture in classes[name]]),
            "labels": [numbers.get(name, 100) for name in names for _ in classes[name]],
            "catname2label": {name: numbers.get(name, 100) for name in names},
        }
        if split != "train":
            content["label2catname"] = {i: name for name, i in content["catname2label"].items()}
        phase = "train_phase_train" if split == "train" else split
        path = root / f"miniImageNet_category_split_{phase}.pickle"
        save(path, dumps(change(split, content), python, protocol))
        if split == "train":
            for extra in ("val", "test"):
                content["data"] = 255 - content["data"]
                path = root / f"miniImageNet_category_split_train_phase_{extra}.pickle"
                save(path, dumps(content, python, protocol))


def tadam_npz(
    root: Path, tables: Tables, change: Change = as_is, *, fine: bool = False, packed: bool = False
) -> None:
    """Oreshkin et al.'s arrays: labels are ranks in the split, or (FC100) CIFAR-100's numbers."""
    for split, classes in tables.items():
        labels, rows = shuffled(classes)
        names = pictures.cifar_meta()[0] if fine else sorted(classes)
        targets = np.array([names.index(name) for name in labels])
        content = change(split, {"features": stacked(rows), "targets": targets})
        root.mkdir(parents=True, exist_ok=True)
        savez = np.savez_compressed if packed else np.savez
        savez(root / f"few-shot-{split}.npz", **content)


# --- folders ---


def split_folders(
    root: Path, tables: Tables, change: Change = as_is, *, inside: str = ".", suffix: str = ".jpg"
) -> None:
    """``{train,val,test}/<class>/``, as MAML, yaoyao's tools and learn2learn write it."""
    for split, classes in tables.items():
        class_folders(root, {split: classes}, change, inside=f"{inside}/{split}", suffix=suffix)


def class_folders(
    root: Path, tables: Tables, change: Change = as_is, *, inside: str = ".", suffix: str = ".jpg"
) -> None:
    """``<class>/``, whatever split it belongs to."""
    for classes in tables.values():
        for name, of_class in classes.items():
            (root / inside / name).mkdir(parents=True, exist_ok=True)
            for i, picture in enumerate(of_class):
                file = f"{name}_{7 * i + 3}{suffix}"
                save(root / inside / name / file, change(file, picture.file))


def r2d2(
    root: Path, tables: Tables, change: Change = as_is, *, inside: str, lists: str, suffix: str
) -> None:
    """Bertinetto et al.'s ``data/<class>/`` and lists of each split's classes."""
    class_folders(root, tables, change, inside=f"{inside}/data", suffix=suffix)
    for split, classes in tables.items():
        text = "".join(f"{name}\n" for name in classes)
        save(root / inside / "splits" / lists / f"{split}.txt", change(split, text))


def cub_folders(root: Path, tables: Tables, change: Change = as_is) -> None:
    """The published folder, as macOS leaves it behind."""
    folder = "CUB_200_2011/images"
    class_folders(root, tables, change, inside=folder)
    for classes in tables.values():
        for name in classes:
            save(root / folder / name / f"._{name}_3.jpg", b"\0\5\x16\7\0\2\0\0Mac OS X")
    save(root / "CUB_200_2011" / "classes.txt", "1 001.Black_footed_Albatross\n")


# --- lists of images ---


def closer_look(
    root: Path, tables: Tables, change: Change = as_is, *, inside: str, images: str
) -> None:
    """Chen et al.'s lists; paths are of the machine that wrote them, labels of all classes."""
    every = sorted(name for classes in tables.values() for name in classes)
    for split, classes in tables.items():
        files, labels = [], []
        for name, of_class in classes.items():
            for i, picture in enumerate(of_class):
                file = f"{images}/{name}/{name}_{7 * i + 3}.jpg"
                save(root / inside / file, change(file, picture.file))
                files.append(f"/home/somebody/{inside}/{file}")
                labels.append(every.index(name))
        content = {"label_names": every, "image_names": files, "image_labels": labels}
        stem = {"train": "base", "val": "val", "test": "novel"}[split]
        save(root / inside / f"{stem}.json", change(stem, json.dumps(content)))


def easyfsl_json(
    root: Path, tables: Tables, change: Change = as_is, *, inside: str, suffix: str = ".jpg"
) -> None:
    """Bennequin's specs of the folder of each class, relative to his repository."""
    for split, classes in tables.items():
        content = {
            "class_names": list(classes),
            "class_roots": [f"./{inside}/images/{name}" for name in classes],
        }
        class_folders(root, {split: classes}, change, inside=f"{inside}/images", suffix=suffix)
        save(root / inside / f"{split}.json", change(split, json.dumps(content)))


def easyfsl_csv(root: Path, tables: Tables, change: Change = as_is, *, inside: str) -> None:
    """Bennequin's specs of mini-ImageNet, with ImageNet's file names."""
    class_folders(root, tables, change, inside=f"{inside}/images", suffix=".JPEG")
    for split, classes in tables.items():
        lines = [",".join(("class_name", "image_name"))]
        for name, of_class in classes.items():
            lines += [f"{name},{name}_{7 * i + 3}.JPEG" for i in range(len(of_class))]
        save(root / inside / f"{split}.csv", change(split, "\n".join(lines)))


def libfewshot(root: Path, tables: Tables, change: Change = as_is, *, suffix: str = ".jpg") -> None:
    """LibFewShot's lists and folder of images."""
    for split, classes in tables.items():
        lines = ["filename,label"]
        for name, of_class in classes.items():
            for i, picture in enumerate(of_class):
                file = f"{split}_{name.replace('/', '-')}_{i}{suffix}"
                save(root / "images" / file, change(file, picture.file))
                lines.append(f"{file},{name}")
        save(root / f"{split}.csv", change(split, "\r\n".join(lines) + "\r\n"))


# --- tiered-ImageNet ---


def tiered_png(root: Path, tables: Tables, change: Change = as_is, *, release: str = "new") -> None:
    """Ren et al.'s PNGs in a pickle: the release of 2019 (new), or that of 2018 (old, unicode)."""
    column = release != "new"  # older OpenCV
    for split, classes in tables.items():
        rows, labels = _tiered_rows(split, classes, release)
        arrays = [np.frombuffer(row.file, np.uint8) for row in rows]
        images = [array[:, None] if column else array for array in arrays]
        python, protocol = (3, 4) if release == "new" else (2, 2)
        folder = root / "tiered-imagenet"
        images = change(f"{split}_images_png", images)
        save(folder / f"{split}_images_png.pkl", dumps(images, python, protocol))
        labels = change(f"{split}_labels", labels)
        save(folder / f"{split}_labels.pkl", dumps(labels, python, protocol))
    _write_names(root / "tiered-imagenet")


def tiered_npz(
    root: Path, tables: Tables, change: Change = as_is, *, labelled: str = "new"
) -> None:
    """Images decompressed by Ren et al.'s code, BGR, with their labels or MetaOptNet's.

    Args:
        root: the folder to write in.
        tables: what to write.
        change: may spoil it.
        labelled: whose labels: a release of Ren et al., or ``metaoptnet``.
    """
    start = 0
    for split, classes in tables.items():
        release = "new" if labelled == "metaoptnet" else labelled
        rows, labels = _tiered_rows(split, classes, release)
        content = change(f"{split}_images", {"images": stacked(rows)[..., ::-1]})
        (root / "tiered-imagenet").mkdir(parents=True, exist_ok=True)
        np.savez(root / "tiered-imagenet" / f"{split}_images.npz", **content)
        if labelled == "metaoptnet":
            labels = {"labels": [start + int(label) for label in labels["label_specific"]]}
            start += len(classes)
        labels = change(f"{split}_labels", labels)
        python, protocol = (3, 4) if labelled == "new" else (2, 2)
        save(root / "tiered-imagenet" / f"{split}_labels.pkl", dumps(labels, python, protocol))


def _tiered_rows(
    split: str, classes: Mapping[str, list[Picture]], release: str
) -> tuple[list[Picture], dict[str, Any]]:
    """Pictures and labels, with the classes in no order, as a file system happened to list them."""
    names, superclasses = pictures.tiered_names(), pictures.superclasses()
    wnids = sorted(classes, key=lambda wnid: (hash_of(wnid), wnid))
    rows = [picture for wnid in wnids for picture in classes[wnid]]
    specific = [i for i, wnid in enumerate(wnids) for _ in classes[wnid]]
    groups = sorted({superclasses.get(wnid, "n0") for wnid in wnids}, key=hash_of)
    general = [groups.index(superclasses.get(wnids[i], "n0")) for i in specific]
    cut = [f"superclass {group}, and more names than fit into the column"[:46] for group in groups]
    labels: dict[str, Any] = {
        "label_specific": np.array(specific, np.int32),
        "label_general": np.array(general, np.int32),
        "label_specific_str": [names.get(wnid, wnid) for wnid in wnids],
        "label_general_str": dict(enumerate(cut)),
    }
    if release != "new":  # a bug of the first release: all labels are the number of superclasses
        labels["label_general"] = np.full(len(rows), len(groups), np.int32)
        labels["label_general_str"] = cut
    if release == "unicode":
        labels = {Unicode(key): value for key, value in labels.items()}
    return rows, labels


def _write_names(folder: Path) -> None:
    """ImageNet's classes line by line in two files; here only those of tiered-ImageNet."""
    names = pictures.tiered_names()
    save(folder / "synsets.txt", "".join(f"{wnid}\n" for wnid in names))
    save(folder / "class_names.txt", "".join(f"{name}\n" for name in names.values()))


def hash_of(text: str) -> int:
    """A number for sorting names as if at random."""
    return sum(ord(letter) * 31**i for i, letter in enumerate(text[::-1])) % 1009


# --- CIFAR-FS and FC100 ---


def cifar100_python(
    root: Path, tables: Tables, change: Change = as_is, *, python: int = 2, protocol: int = 2
) -> None:
    """Krizhevsky's pickles, with the last image of each class in the test part."""
    fine, coarse, coarse_of = pictures.cifar_meta()
    merged: dict[str, list[Picture]] = {}
    for classes in tables.values():
        merged |= classes
    if len(merged) < len(fine):  # a small set for a quick test
        coarse_of = [coarse_of[fine.index(name)] if name in fine else 0 for name in sorted(merged)]
        fine = sorted(merged)
    folder = root / "cifar-100-python"
    for part, of_part in (("train", slice(-1)), ("test", slice(-1, None))):
        labels, rows = shuffled({name: merged[name][of_part] for name in merged})
        numbers = [fine.index(name) for name in labels]
        content = {
            "filenames": [f"{name}_s_{i:06}.png" for i, name in enumerate(labels)],
            "batch_label": f"{part}ing batch 1 of 1",
            "fine_labels": numbers,
            "coarse_labels": [coarse_of[number] for number in numbers],
            "data": stacked(rows).transpose(0, 3, 1, 2).reshape(len(rows), 3072),
        }
        save(folder / part, dumps(change(part, content), python, protocol))
    content = {"fine_label_names": fine, "coarse_label_names": coarse}
    save(folder / "meta", dumps(change("meta", content), python, protocol))


def metaoptnet(root: Path, tables: Tables, change: Change = as_is, *, prefix: str) -> None:
    """Lee et al.'s pickles ``CIFAR_FS_*`` and ``FC100_*``; labels are CIFAR-100's class numbers."""
    fine = pictures.cifar_meta()[0]
    for split, classes in tables.items():
        labels, rows = shuffled(classes)
        content = {"data": stacked(rows), "labels": [fine.index(name) for name in labels]}
        save(root / f"{prefix}{split}.pickle", dumps(change(split, content), 2, 2))


# --- Omniglot ---

EVALUATION = """
Angelic Atemayar_Qelisayer Atlantean Aurek-Besh Avesta Ge_ez Glagolitic Gurmukhi Kannada Keble
Malayalam Manipuri Mongolian Old_Church_Slavonic_(Cyrillic) Oriya Sylheti Syriac_(Serto) Tengwar
Tibetan ULOG
""".split()


def part_of(character: str) -> str:
    """The part of Lake et al.'s release that a character is in."""
    alphabet = character.partition("/")[0]
    return "images_evaluation" if alphabet in EVALUATION else "images_background"


def omniglot_folders(
    root: Path, tables: Tables, change: Change = as_is, *, merged: str = ""
) -> None:
    """Lake et al.'s folders, or (merged) all alphabets side by side in one."""
    number = 0
    for classes in tables.values():
        for name, of_class in classes.items():
            number += 1
            folder = root / (merged or part_of(name)) / name
            folder.mkdir(parents=True, exist_ok=True)
            for i, picture in enumerate(of_class):
                file = f"{number:04}_{i + 1:02}.png"
                save(folder / file, change(f"{name}/{file}", picture.file))


# --- torchmeta ---


def write_hdf5(path: Path, content: Mapping[str, Any]) -> None:
    """Write an HDF5 file of data sets by their paths.

    An array is written as it is, a list of bytes as one array of uint8 for each.
    """
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for number, (name, rows) in enumerate(content.items()):
            if isinstance(rows, np.ndarray):
                file.create_dataset(name, data=rows)
                continue
            data = file.create_dataset(name, (len(rows),), h5py.special_dtype(vlen=np.uint8))
            for i, row in enumerate(rows):
                data[i] = np.frombuffer(row, np.uint8)
            data.attrs["label_general"], data.attrs["label_specific"] = "", number


def torchmeta(
    root: Path, tables: Tables, change: Change = as_is, *, folder: str, raw: bool, names: bool
) -> None:
    """One file for each split with a data set for each class.

    Args:
        root: the folder to write in.
        tables: what to write.
        change: may spoil it.
        folder: of the benchmark.
        raw: whether images are pixels, or else encoded files.
        names: whether classes are called by WordNet's names, or else by wnids.
    """
    full_names = pictures.tiered_names() if names else {}
    for split, classes in tables.items():
        wnids = sorted(classes, key=hash_of) if names else sorted(classes)
        labels = [full_names.get(wnid, wnid) for wnid in wnids]
        content: dict[str, Any] = {}
        for wnid, label in zip(wnids, labels, strict=True):
            rows = classes[wnid]
            content[f"datasets/{label}"] = stacked(rows) if raw else [row.file for row in rows]
        write_hdf5(root / folder / f"{split}_data.hdf5", change(split, content))
        text = json.dumps(labels)
        save(root / folder / f"{split}_labels.json", change(f"{split}_labels", text))


def torchmeta_cifar(root: Path, tables: Tables, change: Change = as_is, *, benchmark: str) -> None:
    """One file for both benchmarks, and lists of the classes of each split."""
    fine, coarse, coarse_of = pictures.cifar_meta()
    content, lists = {}, {}
    for split, classes in tables.items():
        lists[split] = [
            [coarse[coarse_of[fine.index(name)]] if name in fine else coarse[0], name]
            for name in sorted(classes)
        ]
        content |= {f"{group}/{name}": stacked(classes[name]) for group, name in lists[split]}
    folder = root / "cifar100"
    write_hdf5(folder / "data.hdf5", change("data", content))
    tree: dict[str, list[str]] = {}
    for path in sorted(content):
        tree.setdefault(path.partition("/")[0], []).append(path.partition("/")[2])
    save(folder / "fine_names.json", change("fine_names", json.dumps(tree)))
    for split, pairs in lists.items():
        text = change(f"{split}_labels", json.dumps(pairs))
        save(folder / benchmark / f"{split}_labels.json", text)


def torchmeta_omniglot(root: Path, tables: Tables, change: Change = as_is) -> None:
    """All characters in one file, ink 255, drawings in no order; the lists of Lake and Vinyals."""
    content, lists = {}, {}
    for split, classes in tables.items():
        paths = {name: f"{part_of(name)}/{name}" for name in classes}
        for name, of_class in classes.items():
            drawings = stacked(of_class[::-1])
            content[paths[name]] = np.where(drawings, 0, 255).astype(np.uint8)
        lists[split] = sorted(path.split("/") for path in paths.values())
    folder = root / "omniglot"
    write_hdf5(folder / "data.hdf5", change("data", content))
    for split, rows in lists.items():
        text = change(f"{split}_labels", json.dumps(rows))
        save(folder / f"vinyals_{split}_labels.json", text)
    for split, part in (("train", "images_background"), ("test", "images_evaluation")):
        rows = sorted(path.split("/") for path in content if path.startswith(part))
        save(folder / f"{split}_labels.json", json.dumps(rows))


# --- all of them ---


@dataclass(frozen=True)
class Form:
    """A form of a benchmark, the reader that must read it, and its writer."""

    benchmark: str
    reader: str
    write: Callable[..., None]


def _forms(benchmark: str, forms: Mapping[str, tuple[str, Callable[..., None]]]) -> dict[str, Form]:
    return {f"{benchmark}: {name}": Form(benchmark, *form) for name, form in forms.items()}


FORMS = {
    **_forms(
        "miniimagenet",
        {
            "csv": ("RaviCsv", ravi_csv),
            "cache": ("RenCache", partial(ren_cache, val="validation")),
            "cache, protocol 4": ("RenCache", partial(ren_cache, protocol=4)),
            "cache, Python 2": ("RenCache", partial(ren_cache, python=2)),
            "category_split": ("CategorySplit", category_split),
            "category_split, rewritten": (
                "CategorySplit",
                partial(category_split, python=3, protocol=5),
            ),
            "torchmeta": (
                "TorchmetaMini",
                partial(torchmeta, folder="miniimagenet", raw=True, names=False),
            ),
            "TADAM": ("TadamMini", tadam_npz),
            "TADAM, packed": ("TadamMini", partial(tadam_npz, packed=True)),
            "MAML": ("ClassFolders", split_folders),
            "r2d2": (
                "ClassFolders",
                partial(r2d2, inside="miniimagenet", lists="ravi-larochelle", suffix=".jpg"),
            ),
            "yaoyao": ("ClassFolders", partial(split_folders, inside="processed_images")),
            "Closer Look": (
                "MiniLists",
                partial(
                    closer_look,
                    inside="filelists/miniImagenet",
                    images="ILSVRC2015/Data/CLS-LOC/train",
                ),
            ),
            "easyfsl": ("MiniLists", partial(easyfsl_csv, inside="data/mini_imagenet")),
        },
    ),
    **_forms(
        "tieredimagenet",
        {
            "png": ("TieredPng", tiered_png),
            "png, old": ("TieredPng", partial(tiered_png, release="old")),
            "png, unicode": ("TieredPng", partial(tiered_png, release="unicode")),
            "npz": ("TieredNpz", tiered_npz),
            "npz, old": ("TieredNpz", partial(tiered_npz, labelled="old")),
            "torchmeta": (
                "TorchmetaTiered",
                partial(torchmeta, folder="tieredimagenet", raw=False, names=True),
            ),
            "torchmeta, raw": (
                "TorchmetaTiered",
                partial(torchmeta, folder="tieredimagenet", raw=True, names=True),
            ),
            "folders": ("TieredFolders", partial(class_folders, suffix=".png")),
            "split folders": ("TieredFolders", partial(split_folders, suffix=".png")),
            "easyfsl": (
                "TieredLists",
                partial(easyfsl_json, inside="data/tiered_imagenet", suffix=".png"),
            ),
        },
    ),
    **_forms(
        "cifarfs",
        {
            "CIFAR-100": ("Cifar100Python", cifar100_python),
            "r2d2": (
                "R2d2Folders",
                partial(r2d2, inside="cifar100", lists="bertinetto", suffix=".png"),
            ),
            "learn2learn": (
                "R2d2Folders",
                partial(split_folders, inside="cifarfs/processed", suffix=".png"),
            ),
            "MetaOptNet": ("CifarFsPickles", partial(metaoptnet, prefix="CIFAR_FS_")),
            "torchmeta": ("TorchmetaCifarFs", partial(torchmeta_cifar, benchmark="cifar-fs")),
            "LibFewShot": ("CifarLists", partial(libfewshot, suffix=".png")),
        },
    ),
    **_forms(
        "fc100",
        {
            "CIFAR-100": ("Cifar100Python", cifar100_python),
            "MetaOptNet": ("Fc100Pickles", partial(metaoptnet, prefix="FC100_")),
            "TADAM": ("TadamFc100", partial(tadam_npz, fine=True)),
            "torchmeta": ("TorchmetaFc100", partial(torchmeta_cifar, benchmark="fc100")),
            "r2d2": (
                "R2d2Folders",
                partial(r2d2, inside="cifar100", lists="bertinetto", suffix=".png"),
            ),
        },
    ),
    **_forms(
        "omniglot",
        {
            "Lake": ("OmniglotFolders", omniglot_folders),
            "merged": ("OmniglotFolders", partial(omniglot_folders, merged="omniglot/data")),
            "torchmeta": ("TorchmetaOmniglot", torchmeta_omniglot),
            "csv": ("OmniglotLists", partial(libfewshot, suffix=".png")),
        },
    ),
    **_forms(
        "cub",
        {
            "published": ("CubFolders", cub_folders),
            "torchmeta": ("TorchmetaCub", partial(torchmeta, folder="cub", raw=False, names=False)),
            "Closer Look": (
                "CubLists",
                partial(closer_look, inside="filelists/CUB", images="photographs"),
            ),
        },
    ),
    **_forms("folder", {"split folders": ("AnyFolders", partial(split_folders, suffix=".png"))}),
}
