"""Parquet files with the bytes of images and their classes, as Hugging Face's datasets have them.

The file's name, or that of its folder, says the split: ``data/train-00000-of-00001.parquet``,
``train/0000.parquet``. A column holds the image's file, as bytes or as a struct with ``bytes``;
another the class: its name, or its number with the names in the schema's metadata (ClassLabel).
Needs pyarrow.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.datasets.readers.base import one_line, optional_module
from zoo.datasets.readers.image_lists import CLASS_COLUMNS, PATH_COLUMNS, column_of
from zoo.datasets.readers.own_listing import ImageFile, LeftOut, shown, split_of
from zoo.errors import UsageError

FORM = "parquet with images"
FINER = ("label", "labels", "finelabel")  # of several columns of class numbers


def parquet_files(folder: Path) -> dict[str, list[Path]]:
    """The parquet files in a folder, its ``data/`` or its folders of splits, by split.

    Files of no split are in a split called "all".
    """
    found: dict[str, list[Path]] = {}
    if not folder.is_dir():
        return found
    places = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    places = [path for path in places if path in (folder, folder / "data") or split_of(path.name)]
    for place in places:
        for path in sorted(place.glob("*.parquet")):
            split = split_of(path.stem.partition("-")[0]) or split_of(place.name) or "all"
            found.setdefault(split, []).append(path)
    return found


def list_rows(
    files: Mapping[str, Sequence[Path]], left: LeftOut
) -> dict[str, dict[str, list[ImageFile]]]:
    """The rows of each class of each split.

    Args:
        files: of each split; those of no split are left out where others have one.
        left: gets the files and rows that are not used.

    Raises:
        UsageError: a file is damaged, or has no column of images or of classes.
    """
    splits: dict[str, dict[str, list[ImageFile]]] = {}
    for split, paths in files.items():
        for path in paths:
            if split == "all" and len(files) > 1:
                left.add("parquet files beside those of the splits", str(path))
                continue
            stat = path.stat()
            for row, name in enumerate(_class_names(path)):
                if name is None:
                    left.add("rows without a class", f"{path}, row {row}")
                    continue
                image = ImageFile(str(path), stat.st_size, stat.st_mtime_ns, True, row)
                splits.setdefault(split, {}).setdefault(shown(name), []).append(image)
    return splits


def _class_names(path: Path) -> list[str | None]:
    """The class of each row; None where it has none."""
    parquet = optional_module("pyarrow.parquet", path)
    try:
        schema = parquet.read_schema(path)
        column, names = _class_column(path, schema)
        _image_column(path, schema)
        values = parquet.read_table(path, columns=[column])[column].to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        raise UsageError(
            f"{path}: expected a parquet file, it is damaged ({one_line(error)}); fetch it again"
        ) from error
    if names is None:
        return [None if value is None else str(value) for value in values]
    return [names[v] if isinstance(v, int) and 0 <= v < len(names) else None for v in values]


def _class_column(path: Path, schema: Any) -> tuple[str, list[str] | None]:
    """The column of classes, and their names where it has their numbers."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        labels = {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if feature.get("_type") == "ClassLabel" and column in schema.names
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        labels = {}
    if labels:
        columns = [*labels]
        place = column_of(columns, (*FINER, *CLASS_COLUMNS))
        column = columns[place or 0]
        return column, labels[column]
    place = column_of(schema.names, (*CLASS_COLUMNS, *FINER))
    if place is None:
        raise UsageError(
            f"{path}: columns {', '.join(schema.names)}; expected one of classes, such as label"
        )
    return schema.names[place], None


def _image_column(path: Path, schema: Any) -> tuple[str, bool]:
    """The column of images, and whether it is a struct that has their ``bytes``."""
    import pyarrow.types as types

    def has_bytes(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind)

    structs = [
        field.name
        for field in schema
        if types.is_struct(field.type)
        and any(part.name == "bytes" and has_bytes(part.type) for part in field.type)
    ]
    plain = [field.name for field in schema if has_bytes(field.type)]
    if not structs and not plain:
        raise UsageError(
            f"{path}: columns {', '.join(schema.names)}; expected one with the bytes of image "
            "files, as bytes or as a struct with bytes (paths alone do not do)"
        )
    columns = structs or plain
    return columns[column_of(columns, PATH_COLUMNS) or 0], bool(structs)


class ParquetBytes:
    """The bytes of images in parquet files; a file's column stays in memory until `forget`."""

    def __init__(self) -> None:
        self._columns: dict[str, tuple[Any, bool]] = {}
        self._lock = threading.Lock()  # images are decoded on several threads

    def of(self, image: ImageFile) -> bytes:
        """The bytes of an image's file.

        Raises:
            UsageError: the row has none, or the file is damaged.
        """
        with self._lock:
            if image.path not in self._columns:
                self._columns[image.path] = self._read(Path(image.path))
        column, struct = self._columns[image.path]
        value = column[image.row].as_py()
        data = (value or {}).get("bytes") if struct else value
        if not data:
            raise UsageError(f"{image.label}: expected the bytes of an image, there are none")
        return data

    def _read(self, path: Path) -> tuple[Any, bool]:
        parquet = optional_module("pyarrow.parquet", path)
        try:
            column, struct = _image_column(path, parquet.read_schema(path))
            return parquet.read_table(path, columns=[column])[column], struct
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{path}: expected a parquet file, it is damaged ({one_line(error)}); fetch it "
                "again"
            ) from error

    def forget(self) -> None:
        """Free the memory."""
        self._columns.clear()
