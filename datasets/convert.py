"""Writing an image set in a form that other tools read, with the same pixels."""

import csv
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.datasets.benchmarks.base import Benchmark
from zoo.datasets.episodes.image_store import Store
from zoo.datasets.readers.base import Reader, in_order, optional_module
from zoo.datasets.readers.omniglot_folders import DRAWN_SIZE, OmniglotReader
from zoo.datasets.readers.ren_cache import CUB_FILE, QUARTER_TURNS, REN_FILE, REN_OMNIGLOT_FILE
from zoo.datasets.readers.torchmeta_hdf5 import Row
from zoo.datasets.splits import (
    coarse_names,
    cub_names,
    fine_names,
    omniglot,
    omniglot_part,
    tiered_full_names,
    tiered_superclasses,
)
from zoo.errors import DISK_FULL, UsageError
from zoo.files import make_folder

Writer = Callable[[Mapping[str, Store], Path], None]
OriginalsWriter = Callable[[Reader, Path], None]


def convert(
    benchmark: Benchmark,
    stores: Mapping[str, Store],
    form: str,
    out: Path,
    reader: Reader | None = None,
) -> Path:
    """Write all splits of a benchmark into a new folder.

    Args:
        benchmark: whose images they are.
        stores: of each split.
        form: ``folders`` (split/class/*.png; of Omniglot, Lake's), ``csv`` (Ravi & Larochelle's,
            with PNG), ``torchmeta`` (HDF5 and JSON, in the folder that torchmeta opens below its
            `root`), ``pkl`` (Ren et al.'s or MetaOptNet's).
        out: the folder, which must not exist yet or be empty.
        reader: that the stores were built from. Needed where a form has the published images and
            not those of the store: Omniglot's drawings are 105x105 and upright, CUB's photos are of
            any size.

    Raises:
        UsageError: the benchmark has no such form, what it needs is not in `reader`, or the folder
            cannot be written.
    """
    if form not in WRITERS:
        raise UsageError(f"--to {form}: choose from {', '.join(WRITERS)}")
    of_originals = ORIGINALS[form].get(benchmark.key)
    of_stores = WRITERS[form].get(benchmark.key) or WRITERS[form].get("")
    if of_originals is None and of_stores is None:
        forms = [
            name
            for name, writers in WRITERS.items()
            if "" in writers or benchmark.key in {**writers, **ORIGINALS[name]}
        ]
        raise UsageError(f"--to {form}: {benchmark.title} has no such form; choose from {forms}")
    if of_originals and reader is None:
        raise ValueError(
            f"{benchmark.title} is written as {form} from its published images: reader"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: expected a folder that does not exist yet, or an empty one")
    make_folder(out.parent, "--out")
    part = out.with_name(f"{out.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        if of_originals and reader:
            of_originals(reader, part)
        elif of_stores:
            of_stores(stores, part)
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        full = error.errno in DISK_FULL
        advice = "make room, or name another folder" if full else "name another folder"
        raise UsageError(f"--out {out}: cannot be written ({error.strerror}); {advice}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def _classes(store: Store, what: str) -> Iterator[tuple[str, np.ndarray]]:
    """Name and images (n, H, W, C) of each class, with a bar."""
    from tqdm import tqdm

    with tqdm(total=len(store.names), desc=f"writing {what}", unit=" classes") as bar:
        for name, start, end in zip(store.names, store.offsets, store.offsets[1:], strict=False):
            yield name, store.images[start:end].numpy().transpose(0, 2, 3, 1)
            bar.update()


def _png(image: np.ndarray) -> bytes:
    """An image (H, W, C) as a PNG file."""
    buffer = BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def _folders(stores: Mapping[str, Store], out: Path) -> None:
    for split, store in stores.items():
        for name, images in _classes(store, split):
            folder = out / split / name.replace("/", "-")
            folder.mkdir(parents=True)
            for i, image in enumerate(images, 1):
                (folder / f"{i:05}.png").write_bytes(_png(image))


def _csv(stores: Mapping[str, Store], out: Path) -> None:
    (out / "images").mkdir()
    for split, store in stores.items():
        with (out / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["filename", "label"])
            for name, images in _classes(store, split):
                label = name.replace("/", "-")
                for i, image in enumerate(images, 1):
                    writer.writerow([f"{label}{i:08}.png", label])
                    (out / "images" / f"{label}{i:08}.png").write_bytes(_png(image))


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _hdf5(path: Path) -> Any:
    return optional_module("h5py", "--to torchmeta").File(path, "w")


def _folder(out: Path, name: str) -> Path:
    """A new folder in `out`: torchmeta opens one of a fixed name for each set."""
    folder = out / name
    folder.mkdir()
    return folder


def _torchmeta_mini(stores: Mapping[str, Store], out: Path) -> None:
    out = _folder(out, "miniimagenet")
    for split, store in stores.items():
        with _hdf5(out / f"{split}_data.hdf5") as file:
            for name, images in _classes(store, split):
                file.create_dataset(f"datasets/{name}", data=images)
        _write_json(out / f"{split}_labels.json", sorted(store.names))


def _torchmeta_tiered(stores: Mapping[str, Store], out: Path) -> None:
    full, general = tiered_full_names(), tiered_superclasses()
    files = optional_module("h5py", "--to torchmeta").vlen_dtype(np.uint8)
    out = _folder(out, "tieredimagenet")
    for split, store in stores.items():
        with _hdf5(out / f"{split}_data.hdf5") as file:
            group = file.create_group("datasets")
            for label, (name, images) in enumerate(_classes(store, split)):
                dataset = group.create_dataset(full[name], (len(images),), files)
                for row, image in enumerate(images):
                    dataset[row] = np.frombuffer(_png(image), np.uint8)
                dataset.attrs["label_specific"] = label
                dataset.attrs["label_general"] = general[name]
        _write_json(out / f"{split}_labels.json", [full[name] for name in store.names])


def _torchmeta_cifar(part: str) -> Writer:
    def write(stores: Mapping[str, Store], out: Path) -> None:
        coarse = coarse_names()
        names: dict[str, list[str]] = {}
        out = _folder(out, "cifar100")
        (out / part).mkdir()
        with _hdf5(out / "data.hdf5") as file:
            for split, store in stores.items():
                for name, images in _classes(store, split):
                    file.create_dataset(f"{coarse[name]}/{name}", data=images)
                    names.setdefault(coarse[name], []).append(name)
                labels = [[coarse[name], name] for name in store.names]
                _write_json(out / part / f"{split}_labels.json", labels)
        _write_json(out / "fine_names.json", names)

    return write


def _torchmeta_cub(reader: Reader, out: Path) -> None:
    names, files = cub_names(), optional_module("h5py", "--to torchmeta").vlen_dtype(np.uint8)
    out = _folder(out, "cub")
    for split in reader.lists:
        with _hdf5(out / f"{split}_data.hdf5") as file:
            group = file.create_group("datasets")
            for number, items in _originals(reader, split):
                dataset = group.create_dataset(names[number], (len(items),), files)
                for row, item in enumerate(items):
                    dataset[row] = np.frombuffer(_image_file(reader, item), np.uint8)
        _write_json(out / f"{split}_labels.json", [names[name] for name in reader.lists[split]])


def _originals(reader: Reader, split: str) -> Iterator[tuple[str, list[Any]]]:
    """Name and items (see `Reader.scan`) of each class, files in the order of their names."""
    from tqdm import tqdm

    images = reader.scanned(split)
    for name in tqdm(reader.lists[split], f"writing {split}", unit=" classes"):
        items = list(images[name])
        yield name, sorted(items) if isinstance(items[0], Path) else items


def _image_file(reader: Reader, item: Any) -> bytes:
    """The bytes of an image's published file; where it was published as pixels, of a PNG."""
    if isinstance(item, Path):
        return item.read_bytes()
    if isinstance(item, Row) and len(item.dataset.shape) == 1:
        return np.asarray(item.dataset[item.row]).tobytes()
    return _png(reader.decode(item).transpose(1, 2, 0))


def _drawings(reader: Reader) -> Iterator[tuple[str, list[Any], np.ndarray]]:
    """Of each character of Omniglot its name, its items and its drawings uint8 (n, 105, 105).

    Raises:
        UsageError: the reader's form has no drawings of the published size.
    """
    if not isinstance(reader, OmniglotReader):
        height, width = DRAWN_SIZE
        raise UsageError(
            f"{reader.folder}: {reader.form} has no drawings of {height}x{width}, which this form "
            "needs; convert from Lake's folders (zoo fetch omniglot), or to pkl"
        )
    for split in reader.lists:
        for name, items in _originals(reader, split):
            yield name, items, np.stack(list(in_order(reader.decode, items)))


def _drawing_name(item: Any, number: int, place: int) -> str:
    """The published name of a drawing, or one like it: ``0001_01.png``."""
    return item.name if isinstance(item, Path) else f"{number:04}_{place:02}.png"


def _omniglot_folders(reader: Reader, out: Path) -> None:
    for number, (name, items, drawings) in enumerate(_drawings(reader), 1):
        folder = out / omniglot_part(name) / name
        folder.mkdir(parents=True)
        for place, (item, drawing) in enumerate(zip(items, drawings, strict=True), 1):
            (folder / _drawing_name(item, number, place)).write_bytes(_png(drawing[..., None]))


def _omniglot_csv(reader: Reader, out: Path) -> None:
    split_of = {name: split for split, names in reader.lists.items() for name in names}
    rows: dict[str, list[list[str]]] = {split: [["filename", "label"]] for split in reader.lists}
    for number, (name, items, drawings) in enumerate(_drawings(reader), 1):
        folder = out / "images" / name
        folder.mkdir(parents=True)
        for place, (item, drawing) in enumerate(zip(items, drawings, strict=True), 1):
            file = _drawing_name(item, number, place)
            (folder / file).write_bytes(_png(drawing[..., None]))
            rows[split_of[name]].append([f"{name}/{file}", name])
    for split, of_split in rows.items():
        with (out / f"{split}.csv").open("w", newline="", encoding="utf-8") as lists:
            csv.writer(lists, lineterminator="\n").writerows(of_split)


def _torchmeta_omniglot(reader: Reader, out: Path) -> None:
    out = _folder(out, "omniglot")
    written: dict[str, list[str]] = {}  # name -> part, alphabet and character
    with _hdf5(out / "data.hdf5") as file:
        for name, _, drawings in _drawings(reader):
            path = f"{omniglot_part(name)}/{name}"
            file.create_dataset(path, data=255 - drawings)
            written[name] = path.split("/")
    lists = {f"vinyals_{split}": names for split, names in omniglot("vinyals").items()}
    for split, part in (("train", "images_background"), ("test", "images_evaluation")):
        lists[split] = [name for name, path in written.items() if path[0] == part]
    for split, names in lists.items():
        labels = sorted(written[name] for name in names if name in written)
        _write_json(out / f"{split}_labels.json", labels)


def _array(store: Store, split: str) -> np.ndarray:
    """All images of a split (n, H, W, C), in memory: a pickle cannot be written otherwise."""
    return np.concatenate([images for _, images in _classes(store, split)])


def _dump(path: Path, content: Any) -> None:
    with path.open("wb") as file:
        pickle.dump(content, file, 4)  # Python 3.4 and later read it


def _ren_cache(store: Store, split: str, names: Mapping[str, str]) -> dict[str, Any]:
    """The content of one of Ren et al.'s caches; `names` are those of classes to be renamed."""
    ends = store.offsets.tolist()
    rows = {
        names.get(name, name): list(range(start, end))
        for name, start, end in zip(store.names, ends, ends[1:], strict=False)
    }
    return {"image_data": _array(store, split), "class_dict": rows}


def _pkl_mini(stores: Mapping[str, Store], out: Path) -> None:
    for split, store in stores.items():
        path = out / REN_FILE.format(split)
        _dump(path, _ren_cache(store, split, {}))
        if split == "val":  # Ren et al. and torchmeta read this name, learn2learn the other one
            second = out / REN_FILE.format("validation")
            try:
                os.link(path, second)
            except OSError:  # a file system without links
                shutil.copyfile(path, second)


def _pkl_cub(stores: Mapping[str, Store], out: Path) -> None:
    for split, store in stores.items():
        _dump(out / CUB_FILE.format(split), _ren_cache(store, split, cub_names()))


def _pkl_omniglot(stores: Mapping[str, Store], out: Path) -> None:
    for split, store in stores.items():
        labels = []
        for name in store.names:
            character, _, turn = name.rpartition("/")
            labels.append(f"{character}_{QUARTER_TURNS.index(turn)}")
        counts = np.diff(store.offsets)
        content = {
            "images": _array(store, split),
            "labels": np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            "label_str": labels,
        }
        part = "trainval" if split == "train" and "val" not in stores else split
        _dump(out / REN_OMNIGLOT_FILE.format(part), content)


def _pkl_cifar(prefix: str) -> Writer:
    def write(stores: Mapping[str, Store], out: Path) -> None:
        fine = fine_names()
        for split, store in stores.items():
            counts = np.diff(store.offsets)
            labels = np.repeat([fine.index(name) for name in store.names], counts).tolist()
            content = {"data": _array(store, split), "labels": labels}
            _dump(out / f"{prefix}_{split}.pickle", content)

    return write


def _pkl_tiered(stores: Mapping[str, Store], out: Path) -> None:
    full, general = tiered_full_names(), tiered_superclasses()
    for split, store in stores.items():
        # The pickle of a list too long for memory, put together from pickles of its items. These
        # are made without memo, because references would be wrong in the whole.
        with (out / f"{split}_images_png.pkl").open("wb") as file:
            file.write(pickle.PROTO + bytes([4]) + pickle.EMPTY_LIST)
            for _, images in _classes(store, split):
                for image in images:
                    buffer = BytesIO()
                    pickler = pickle.Pickler(buffer, 3)
                    pickler.fast = True
                    pickler.dump(np.frombuffer(_png(image), np.uint8)[:, None].copy())
                    item = buffer.getvalue()[2:-1]  # without the protocol and STOP
                    file.write(item + pickle.APPEND)
            file.write(pickle.STOP)
        counts = np.diff(store.offsets)
        superclasses = sorted({general[name] for name in store.names})
        superclass_of = [superclasses.index(general[name]) for name in store.names]
        content = {
            "label_specific": np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            "label_specific_str": [full[name] for name in store.names],
            "label_general": np.repeat(np.array(superclass_of, np.int32), counts),
            "label_general_str": superclasses,
        }
        _dump(out / f"{split}_labels.pkl", content)


WRITERS: dict[str, dict[str, Writer]] = {  # form -> benchmark ("": any) -> writer
    "folders": {"": _folders},
    "csv": {"": _csv},
    "torchmeta": {
        "miniimagenet": _torchmeta_mini,
        "tieredimagenet": _torchmeta_tiered,
        "cifarfs": _torchmeta_cifar("cifar-fs"),
        "fc100": _torchmeta_cifar("fc100"),
    },
    "pkl": {
        "miniimagenet": _pkl_mini,
        "tieredimagenet": _pkl_tiered,
        "cifarfs": _pkl_cifar("CIFAR_FS"),
        "fc100": _pkl_cifar("FC100"),
        "cub": _pkl_cub,
        "omniglot": _pkl_omniglot,
    },
}
# Forms that are written from the published images and not from those of the stores.
ORIGINALS: dict[str, dict[str, OriginalsWriter]] = {
    "folders": {"omniglot": _omniglot_folders},
    "csv": {"omniglot": _omniglot_csv},
    "torchmeta": {"omniglot": _torchmeta_omniglot, "cub": _torchmeta_cub},
    "pkl": {},
}
