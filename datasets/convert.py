"""Writing an image set in a form that other tools read, with the same pixels."""

import csv
import json
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
from zoo.datasets.readers.torchmeta_hdf5 import h5py_for
from zoo.datasets.splits import coarse_names, fine_names, tiered_full_names, tiered_superclasses
from zoo.errors import DISK_FULL, UsageError
from zoo.files import make_folder

Writer = Callable[[Mapping[str, Store], Path], None]


def convert(benchmark: Benchmark, stores: Mapping[str, Store], form: str, out: Path) -> Path:
    """Write all splits of a benchmark into a new folder.

    Args:
        benchmark: whose images they are.
        stores: of each split.
        form: ``folders`` (split/class/*.png), ``csv`` (Ravi & Larochelle's, with PNG),
            ``torchmeta`` (HDF5 and JSON), ``pkl`` (Ren et al.'s or MetaOptNet's).
        out: the folder, which must not exist yet or be empty.

    Raises:
        UsageError: the benchmark has no such form, or the folder cannot be written.
    """
    if form not in WRITERS:
        raise UsageError(f"--to {form}: choose from {', '.join(WRITERS)}")
    write = WRITERS[form].get(benchmark.key) or WRITERS[form].get("")
    if write is None:
        forms = [
            name for name, writers in WRITERS.items() if benchmark.key in writers or "" in writers
        ]
        raise UsageError(f"--to {form}: {benchmark.title} has no such form; choose from {forms}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: expected a folder that does not exist yet, or an empty one")
    make_folder(out.parent, "--out")
    part = out.with_name(f"{out.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        write(stores, part)
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
    return h5py_for("--to torchmeta").File(path, "w")


def _torchmeta_mini(stores: Mapping[str, Store], out: Path) -> None:
    for split, store in stores.items():
        with _hdf5(out / f"{split}_data.hdf5") as file:
            for name, images in _classes(store, split):
                file.create_dataset(f"datasets/{name}", data=images)
        _write_json(out / f"{split}_labels.json", sorted(store.names))


def _torchmeta_tiered(stores: Mapping[str, Store], out: Path) -> None:
    full, general = tiered_full_names(), tiered_superclasses()
    files = h5py_for("--to torchmeta").vlen_dtype(np.uint8)
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


def _array(store: Store, split: str) -> np.ndarray:
    """All images of a split (n, H, W, C), in memory: a pickle cannot be written otherwise."""
    return np.concatenate([images for _, images in _classes(store, split)])


def _dump(path: Path, content: Any) -> None:
    with path.open("wb") as file:
        pickle.dump(content, file, 4)  # Python 3.4 and later read it


def _pkl_mini(stores: Mapping[str, Store], out: Path) -> None:
    for split, store in stores.items():
        rows = zip(store.names, store.offsets.tolist(), store.offsets.tolist()[1:], strict=False)
        content = {
            "image_data": _array(store, split),
            "class_dict": {name: list(range(start, end)) for name, start, end in rows},
        }
        _dump(out / f"mini-imagenet-cache-{split}.pkl", content)


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
    },
}
