"""Lists of images: files that say where the images of a set lie, of which class and split.

Read are, in the folder that is named:

- Closer Look's ``base.json``, ``val.json``, ``novel.json`` (wyharveychen/CloserLookFewShot):
  ``label_names``, ``image_names``, ``image_labels``;
- easyfsl's ``{train,val,test}.json`` (sicara/easy-few-shot-learning): ``class_names`` and
  ``class_roots``, a folder for each; and its ``{train,val,test}.csv``: ``class_name,image_name``;
- LibFewShot's ``{train,val,test}.csv`` (RL-VIG/LibFewShot): ``filename,label``, and ``images/``;
- Meta-Album's ``labels.csv`` with ``FILE_NAME`` and ``CATEGORY``, and ``images/``;
- Hugging Face's ``metadata.csv`` or ``metadata.jsonl`` with ``file_name`` and a class, in the
  folder or in folders of splits;
- any other csv with a column of paths and one of classes, and where there is one, of splits.

Paths were mostly written on another machine: see `ImageFinder`.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from zoo.datasets.readers.base import one_line
from zoo.datasets.readers.own_listing import (
    FOR_ALL,
    OWN_ENDINGS,
    ImageFile,
    folders_of_splits,
    shown,
    split_of,
)
from zoo.errors import UsageError

CLOSER_LOOK, EASYFSL_JSON = "Closer Look json", "easyfsl json"
EASYFSL_CSV, SPLIT_CSV = "easyfsl csv", "csv for each split"
META_ALBUM, HUGGING_FACE = "Meta-Album labels.csv", "Hugging Face metadata"
ONE_CSV = "csv of paths and classes"

# Names of columns, in small letters and without other signs; the first that is there is taken.
PATH_COLUMNS = (
    "path", "filepath", "imagepath", "imgpath", "filename", "file", "imagename", "imagefile",
    "image", "img",
)  # fmt: skip
CLASS_COLUMNS = ("classname", "class", "category", "labelname", "label", "species", "target")
SPLIT_COLUMNS = ("split", "subset", "set", "partition")

ListedPaths = dict[str, dict[str, list[str]]]  # the listed paths of each class of each split


class ImageList(NamedTuple):
    """The files of one list; those of splits are named after them, a single one is for "all"."""

    form: str
    files: Mapping[str, Path]


def find_list(folder: Path) -> ImageList | None:
    """The list of images in a folder; None if there is none.

    Raises:
        UsageError: two files list images, and it is not clear which one counts.
    """
    if not folder.is_dir():
        return None
    jsons, csvs = (_files_of_splits(folder, ending) for ending in (".json", ".csv"))
    kinds = {split: kind for split, path in jsons.items() if (kind := _kind_of_json(path))}
    if kinds:
        form = next(iter(kinds.values()))
        return ImageList(form, {split: jsons[split] for split in kinds if kinds[split] == form})
    headers = {split: _header(path) for split, path in csvs.items()}
    for form, is_of_form in ((EASYFSL_CSV, _is_easyfsl), (SPLIT_CSV, _lists_images)):
        of_form = {split: csvs[split] for split in csvs if is_of_form(headers[split])}
        if len(of_form) > 1:
            return ImageList(form, of_form)
    if metadata := _metadata(folder):
        return ImageList(HUGGING_FACE, metadata)
    singles = [path for path in sorted(folder.glob("*.csv")) if _lists_images(_header(path))]
    singles = [path for path in singles if path.is_file() and path not in csvs.values()]
    if not singles:
        return None
    album = folder / "labels.csv"
    if album in singles and {"filename", "category"} <= {*map(_plain, _header(album))}:
        return ImageList(META_ALBUM, {"all": album})
    if len(singles) > 1:
        names = ", ".join(path.name for path in singles[:3])
        raise UsageError(
            f"{folder}: {names} list images, each with a column of paths and one of classes; "
            "expected one such file: keep the others elsewhere"
        )
    return ImageList(ONE_CSV, {"all": singles[0]})


def read_list(found: ImageList) -> ListedPaths:
    """The listed paths of each class of each split, those of no split in a split called "all".

    Raises:
        UsageError: a file is damaged, or not as its form is.
    """
    state = tuple(
        (split, path, path.stat().st_mtime_ns, path.stat().st_size)
        for split, path in found.files.items()
    )
    return _read(found.form, state)


@lru_cache(maxsize=12)  # several benchmarks ask for the same list
def _read(form: str, state: tuple[tuple[str, Path, int, int], ...]) -> ListedPaths:
    listed: ListedPaths = {}
    for split, path, *_ in state:
        if form == CLOSER_LOOK:
            rows = _closer_look(path)
        elif form == EASYFSL_JSON:
            rows = _easyfsl(path)
        elif path.suffix == ".jsonl":
            rows = _jsonl(path)
        else:
            rows = _csv_rows(path, form)
        prefix = f"{path.parent.name}/" if form == HUGGING_FACE and split != "all" else ""
        for name, file, of_split in rows:
            classes = listed.setdefault(of_split or split, {})
            classes.setdefault(name, []).append(prefix + file)
    return listed


def _plain(name: object) -> str:
    """The name of a column in small letters, without signs between the words."""
    return "".join(sign for sign in str(name).lower() if sign.isalnum())


def _files_of_splits(folder: Path, ending: str) -> dict[str, Path]:
    """The files of a folder that are called as splits are, such as base.json."""
    paths = sorted(path for path in folder.glob(f"*{ending}") if path.is_file())
    return {split: path for path in paths if (split := split_of(path.stem))}


def _kind_of_json(path: Path) -> str:
    """The form of a JSON file by words at its beginning or end; "" if it is none of ours."""
    with path.open("rb") as file:
        text = file.read(2**16)
        file.seek(max(0, path.stat().st_size - 2**16))
        text += file.read()
    if b'"image_names"' in text or b'"image_labels"' in text:
        return CLOSER_LOOK
    return EASYFSL_JSON if b'"class_names"' in text or b'"class_roots"' in text else ""


def _separator(line: str) -> str:
    return max(",;\t", key=line.count)


def _header(path: Path) -> list[str]:
    """The first row of a csv file; empty if it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            line = file.readline(10_000)
            return next(csv.reader([line], delimiter=_separator(line)), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def column_of(header: Sequence[str], names: Sequence[str]) -> int | None:
    """The place of the first of these names in a header."""
    plain = [*map(_plain, header)]
    return next((plain.index(name) for name in names if name in plain), None)


def _lists_images(header: Sequence[str]) -> bool:
    columns = {column_of(header, PATH_COLUMNS), column_of(header, CLASS_COLUMNS)}
    return len(columns) == 2 and None not in columns


def _is_easyfsl(header: Sequence[str]) -> bool:
    return [*map(_plain, header)] == ["classname", "imagename"]


def _metadata(folder: Path) -> dict[str, Path]:
    """Hugging Face's metadata files with a class: of a folder, or of each split's folder."""

    def file_of(place: Path) -> Path | None:
        for name in ("metadata.csv", "metadata.jsonl"):
            path = place / name
            if path.is_file() and _lists_images(_first_keys(path)):
                return path
        return None

    if path := file_of(folder):
        return {"all": path}
    return {
        split: path
        for split, place in folders_of_splits(folder).items()
        if (path := file_of(place))
    }


def _first_keys(path: Path) -> list[str]:
    if path.suffix == ".csv":
        return _header(path)
    try:
        with path.open(encoding="utf-8") as file:
            return [*json.loads(file.readline(100_000))]
    except (OSError, ValueError, TypeError, RecursionError):
        return []


def _load(path: Path, keys: Sequence[str], form: str) -> list[list[Any]]:
    """Values of a JSON file, each of which must be a list."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        values = [content[key] for key in keys]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: expected {form} with {', '.join(keys)}, it is damaged ({one_line(error)}); "
            "write it again"
        ) from error
    for key, value in zip(keys, values, strict=True):
        if not isinstance(value, list):
            raise UsageError(f"{path}: {key} is no list; expected {form}: write it again")
    return values


Rows = Iterator[tuple[str, str, str]]  # class, path, and split if the file says it


def _closer_look(path: Path) -> Rows:
    names, files, labels = _load(path, ("label_names", "image_names", "image_labels"), CLOSER_LOOK)
    if len(files) != len(labels):
        raise UsageError(
            f"{path}: {len(files)} image_names and {len(labels)} image_labels; expected a label "
            "for each image: write it again"
        )
    for file, label in zip(files, labels, strict=True):
        if not isinstance(label, int) or not 0 <= label < len(names):
            raise UsageError(
                f"{path}: image label {label!r:.40}; expected a whole number below {len(names)}, "
                "the number of label_names: write it again"
            )
        yield str(names[label]), str(file), ""


def _easyfsl(path: Path) -> Rows:
    names, roots = _load(path, ("class_names", "class_roots"), EASYFSL_JSON)
    if len(names) != len(roots):
        raise UsageError(
            f"{path}: {len(names)} class_names and {len(roots)} class_roots; expected a folder for "
            "each class: write it again"
        )
    for name, root in zip(names, roots, strict=True):
        yield str(name), f"{root}/", ""  # the folder: all images in it


def _jsonl(path: Path) -> Rows:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                keys = [*row]
                values = [str(value) for value in row.values()]
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                raise UsageError(
                    f"{path}, line {number}: expected a JSON object ({one_line(error)}); mend it"
                ) from error
            yield _fields(path, number, keys, values)


def _csv_rows(path: Path, form: str) -> Rows:
    header = _header(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            separator = _separator(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=separator)
            next(reader, None)
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise UsageError(
                        f"{path}, line {reader.line_num}: {len(row)} values; expected "
                        f"{len(header)}: {', '.join(header)}; mend the line"
                    )
                if form == EASYFSL_CSV:
                    yield row[0], f"{row[0]}/{row[1]}", ""
                else:
                    yield _fields(path, reader.line_num, header, row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{path}: expected a csv file in UTF-8, it cannot be read ({one_line(error)}); write "
            "it again"
        ) from error


@lru_cache(maxsize=12)  # asked for each row of a file
def _columns(header: tuple[str, ...]) -> tuple[int | None, ...]:
    """The places of class, path and split in a header."""
    return tuple(column_of(header, names) for names in (CLASS_COLUMNS, PATH_COLUMNS, SPLIT_COLUMNS))


def _fields(
    path: Path, line: int, header: Sequence[str], row: Sequence[str]
) -> tuple[str, str, str]:
    """The class, path and split of a row."""
    at = _columns(tuple(header))
    name, file, split = (row[place].strip() if place is not None else "" for place in at)
    if not name or not file:
        raise UsageError(
            f"{path}, line {line}: no {'path' if name else 'class'}; expected both in each line: "
            "mend or remove it"
        )
    if at[2] is not None and split_of(split) is None:
        raise UsageError(
            f"{path}, line {line}: {header[at[2]]} is {split!r:.40}; expected train, val or test "
            "(or a name for one of them, such as novel)"
        )
    return name, file, split_of(split) or ""


class ImageFinder:
    """Finds images by paths that may have been written on another machine.

    A path is taken as it is, and else from the folder or its ``images/``, after as few of its
    leading parts were left out as possible: ``/home/me/CUB_200_2011/images/001.A/1.jpg`` is found
    as ``CUB_200_2011/images/001.A/1.jpg``, ``images/001.A/1.jpg``, ``001.A/1.jpg`` or ``1.jpg``.
    """

    def __init__(self, folder: Path) -> None:
        """``folder`` is the one that has the list."""
        self.bases = [str(folder), str(folder / "images")]
        self._names: dict[str, frozenset[str]] = {}

    def images(self, path: str) -> list[ImageFile]:
        """The image at a path, or those in a folder if the path ends in "/"; none if missing."""
        path = path.replace("\\", "/")
        parts = PurePosixPath(path.rstrip("/")).parts
        if not parts or ".." in parts[1:]:
            return []
        name = "" if path.endswith("/") else parts[-1]
        parents = parts if path.endswith("/") else parts[:-1]
        for parent in self._candidates(parents):
            names = self._in(parent)
            if name in names:
                return [_image_file(os.path.join(parent, name))]
            if not name and (found := [each for each in names if _is_image(each)]):
                return [_image_file(os.path.join(parent, each)) for each in sorted(found)]
        return []

    def _candidates(self, parents: Sequence[str]) -> Iterator[str]:
        if parents and parents[0] == "/":
            yield os.path.join(*parents)
            parents = parents[1:]
        for start in range(len(parents) + 1):
            for base in self.bases:
                yield os.path.join(base, *parents[start:])

    def _in(self, folder: str) -> frozenset[str]:
        """The names of what lies in a folder; none if there is no such folder."""
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._names[folder] = frozenset()
        return self._names[folder]


def _is_image(name: str) -> bool:
    return name[0] != "." and os.path.splitext(name)[1].lower() in OWN_ENDINGS


def _image_file(path: str) -> ImageFile:
    try:
        stat = os.stat(path)
    except OSError:
        return ImageFile(path, -1, -1, False)
    may = stat.st_mode & FOR_ALL == FOR_ALL or os.access(path, os.R_OK)
    return ImageFile(path, stat.st_size, stat.st_mtime_ns, may)


class Located(NamedTuple):
    """The images of a list that are there, by split and class."""

    splits: dict[str, dict[str, list[ImageFile]]]
    missing: dict[str, list[str]]  # listed paths that are not there, by the file that lists them


def locate(folder: Path, found: ImageList, listed: ListedPaths) -> Located:
    """Find the listed images.

    Args:
        folder: that has the list.
        found: the list.
        listed: what `read_list` returned.
    """
    finder = ImageFinder(folder)
    missing: dict[str, list[str]] = {}
    splits: dict[str, dict[str, list[ImageFile]]] = {}
    for split, classes in listed.items():
        for name, paths in classes.items():
            for path in paths:
                images = finder.images(path)
                splits.setdefault(split, {}).setdefault(shown(name), []).extend(images)
                if not images:
                    missing.setdefault(split if split in found.files else "all", []).append(path)
    return Located(splits, missing)


def where_to_put(folder: Path) -> str:
    """Advice on listed images that are missing."""
    return (
        f"put them below {folder} or {folder / 'images'}, in the folders that the list names or in "
        "their last parts"
    )
