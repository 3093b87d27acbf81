"""Own images that a list names: every form gives the images of the folders, and says what lacks."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import pictures
from tests.support.forms import closer_look, easyfsl_json, libfewshot, save, split_folders
from tests.support.pictures import Tables
from zoo.commands import main
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.doctor import examine
from zoo.errors import UsageError

FOLDER = "folder[size=28]"


def write_csv(path: Path, rows: list[list[str]], separator: str = ",") -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(rows)
    save(path, text.getvalue())


def images_in(root: Path, tables: Tables) -> list[tuple[str, str, str]]:
    """Write all images into images/, and return the split, class and name of each."""
    rows = []
    for split, classes in tables.items():
        for name, of_class in classes.items():
            for i, picture in enumerate(of_class):
                save(root / "images" / f"{name} {i}.jpg", picture.file)
                rows.append((split, name, f"{name} {i}.jpg"))
    return rows


def csv_of_paths(root: Path, tables: Tables) -> None:
    rows = [[f"images/{file}", name, split] for split, name, file in images_in(root, tables)]
    write_csv(root / "photos.csv", [["Path", "Class", "Split"], *rows], ";")


def meta_album(root: Path, tables: Tables) -> None:
    rows = [[file, name, "all"] for _, name, file in images_in(root, tables)]
    write_csv(root / "labels.csv", [["FILE_NAME", "CATEGORY", "SUPER_CATEGORY"], *rows])
    save(root / "info.json", json.dumps({"dataset_name": "BRD", "image_column_name": "FILE_NAME"}))


def hugging_face(root: Path, tables: Tables, *, lines: bool = False) -> None:
    """An image folder with metadata beside the images of each split."""
    for split, classes in tables.items():
        place = root / {"val": "validation"}.get(split, split)
        rows = []
        for name, of_class in classes.items():
            for i, picture in enumerate(of_class):
                save(place / f"{name} {i}.jpg", picture.file)
                rows.append([f"{name} {i}.jpg", name])
        if lines:
            text = "".join(
                json.dumps({"file_name": file, "label": name}) + "\n" for file, name in rows
            )
            save(place / "metadata.jsonl", text)
        else:
            write_csv(place / "metadata.csv", [["file_name", "label"], *rows])


def hugging_face_lines(root: Path, tables: Tables) -> None:
    hugging_face(root, tables, lines=True)


def parquet(root: Path, tables: Tables, *, struct: bool = True) -> None:
    """As `datasets` writes it: class numbers, with the names in the schema's metadata."""
    parquet_files = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    names = sorted({name for classes in tables.values() for name in classes})
    features = {
        "image": {"_type": "Image"},
        "label": {"names": names, "_type": "ClassLabel"},
    }
    for split, classes in tables.items():
        rows = [(name, p.file) for name, of_class in classes.items() for p in of_class]
        images: list[Any] = [{"bytes": file, "path": None} if struct else file for _, file in rows]
        labels = [names.index(name) for name, _ in rows]
        table = pyarrow.table(
            {"image": images, "label": labels if struct else [name for name, _ in rows]}
        )
        if struct:
            table = table.replace_schema_metadata(
                {"huggingface": json.dumps({"info": {"features": features}})}
            )
        stem = {"val": "validation"}.get(split, split)
        (root / "data").mkdir(parents=True, exist_ok=True)
        parquet_files.write_table(
            table, root / "data" / f"{stem}-00000-of-00001.parquet", row_group_size=3
        )


def parquet_bytes(root: Path, tables: Tables) -> None:
    parquet(root, tables, struct=False)


def own_closer_look(root: Path, tables: Tables) -> None:
    closer_look(root, tables, inside=".", images="pictures")


def own_easyfsl(root: Path, tables: Tables) -> None:
    easyfsl_json(root, tables, inside="somewhere/else")
    for path in (root / "somewhere/else").glob("*"):
        path.rename(root / path.name)


FORMS: dict[str, tuple[str, Callable[[Path, Tables], None]]] = {
    "Closer Look": ("Closer Look json", own_closer_look),
    "easyfsl": ("easyfsl json", own_easyfsl),
    "LibFewShot": ("csv for each split", libfewshot),
    "csv": ("csv of paths and classes", csv_of_paths),
    "Hugging Face": ("Hugging Face metadata", hugging_face),
    "Hugging Face, jsonl": ("Hugging Face metadata", hugging_face_lines),
    "parquet": ("parquet with images", parquet),
    "parquet, bytes": ("parquet with images", parquet_bytes),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_list_gives_the_images_of_the_folders(name: str, tmp_path: Path) -> None:
    form, write = FORMS[name]
    tables = pictures.folder()
    split_folders(tmp_path / "folders", tables)
    write(tmp_path / "listed", tables)
    wanted = find_benchmark(FOLDER).open(tmp_path / "folders")
    benchmark = find_benchmark(FOLDER)
    assert benchmark.find(tmp_path / "listed").form == form
    found = benchmark.open(tmp_path / "listed")
    assert {s: store.fingerprint for s, store in found.items()} == {
        s: store.fingerprint for s, store in wanted.items()
    }
    (section,) = examine(tmp_path / "listed", FOLDER)["found"]
    assert section["form"] == form and section["usable"]


def test_meta_album_is_split_by_the_rule(tmp_path: Path) -> None:
    meta_album(tmp_path / "listed", pictures.folder())
    for classes in pictures.folder().values():
        for name, of_class in classes.items():
            for i, picture in enumerate(of_class):
                save(tmp_path / "folders" / name / f"{i}.jpg", picture.file)
    wanted, found = (find_benchmark(FOLDER).open(tmp_path / name) for name in ("folders", "listed"))
    assert find_benchmark(FOLDER).find(tmp_path / "listed").form == "Meta-Album labels.csv"
    for split, store in wanted.items():
        assert found[split].fingerprint == store.fingerprint


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv_of_paths(tmp_path, pictures.folder())
    gone = sorted((tmp_path / "images").glob("train 0*"))[0]
    gone.unlink()
    assert main(["doctor", str(tmp_path), "--benchmark", FOLDER]) == 0
    screen = capsys.readouterr().out
    assert f"listed images that are missing, 1 (images/{gone.name})" in screen
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    assert main(["doctor", str(tmp_path), "--benchmark", FOLDER]) == 1
    screen = capsys.readouterr().out
    assert "photos.csv: csv of paths and classes, and none of its images is there" in screen
    assert f"put them below {tmp_path}" in screen and len(screen.splitlines()) == 1


def test_class_folders_stay_what_they_are_beside_a_list_of_other_things(tmp_path: Path) -> None:
    split_folders(tmp_path, pictures.folder())
    write_csv(tmp_path / "orders.csv", [["image", "label"], ["17", "paid"], ["18", "open"]])
    assert find_benchmark(FOLDER).find(tmp_path).form == "any folder"


def test_easyfsl_specs_are_no_damaged_ravi_csv(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [["class_name", "image_name"], ["n01532829", "a.JPEG"]])
    write_csv(tmp_path / "val.csv", [["class_name", "image_name"], ["n01855672", "b.JPEG"]])
    report = examine(tmp_path)
    assert not report["found"]
    assert "easyfsl csv, and none of its images is there" in report["refused"]


def spoilt(fault: str, root: Path) -> None:
    """A folder whose list has a fault."""
    tables = pictures.folder()
    if fault in ("no label", "label", "no json"):
        own_closer_look(root, tables)
        content = json.loads((root / "base.json").read_text())
        if fault == "no label":
            content["image_labels"].pop()
        else:
            content["image_labels"][3] = 99
        text = json.dumps(content)
        save(root / "base.json", text[: len(text) // 2] if fault == "no json" else text)
    elif fault == "roots":
        own_easyfsl(root, tables)
        content = json.loads((root / "val.json").read_text())
        content["class_roots"].pop()
        save(root / "val.json", json.dumps(content))
    elif fault == "two lists":
        csv_of_paths(root, tables)
        save(root / "again.csv", (root / "photos.csv").read_bytes())
    elif fault == "no names in parquet":
        parquet_files = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        root.mkdir()
        parquet_files.write_table(pyarrow.table({"id": [1], "x": [b"1"]}), root / "a.parquet")
    elif fault == "no parquet":
        save(root / "train.parquet", b"PAR1 and nothing else")
    else:
        csv_of_paths(root, tables)
        lines = (root / "photos.csv").read_text().splitlines()
        lines[2] = {
            "split": lines[2].replace("train", "first", 3)[:-5] + "first",
            "no class": "images/a.jpg;;train",
            "columns": "images/a.jpg;train",
        }[fault]
        save(root / "photos.csv", "\n".join(lines))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no label", r"base\.json: \d+ image_names and \d+ image_labels"),
        ("label", r"base\.json: image label 99; expected a whole number below 12"),
        ("no json", r"base\.json: expected Closer Look json"),
        ("roots", r"val\.json: 2 class_names and 1 class_roots"),
        ("two lists", r"again\.csv, photos\.csv list images"),
        ("split", r"photos\.csv, line 3: Split is '.*first'; expected train, val or test"),
        ("no class", r"photos\.csv, line 3: no class"),
        ("columns", r"photos\.csv, line 3: 2 values; expected 3: Path, Class, Split"),
        ("no names in parquet", r"a\.parquet: columns id, x; expected one of classes"),
        ("no parquet", r"train\.parquet: expected a parquet file, it is damaged"),
    ],
)
def test_a_bad_list_is_named_in_a_line(fault: str, words: str, tmp_path: Path) -> None:
    spoilt(fault, tmp_path / "data")
    with pytest.raises(UsageError, match=words) as error:
        find_benchmark(FOLDER).open(tmp_path / "data")
    assert "\n" not in str(error.value)


def test_pyarrow_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    save(tmp_path / "train.parquet", b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"train\.parquet.*pip install pyarrow"):
        find_benchmark(FOLDER).open(tmp_path)


@pytest.mark.usefixtures("small_sets")
def test_another_split_than_the_published_one_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """easyfsl has its own split of CUB: the benchmark keeps the usual one, and says so."""
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))
    tables = pictures.cub()
    swapped = {"train": tables["train"], "val": tables["test"], "test": tables["val"]}
    easyfsl_json(tmp_path / "data", swapped, inside="data/CUB")
    (tmp_path / "data/data/CUB/images").rename(tmp_path / "data/data/CUB/birds")
    for path in (tmp_path / "data/data/CUB").glob("*.json"):
        path.write_text(path.read_text().replace("/images/", "/birds/"))
    (section,) = examine(tmp_path / "data", "cub")["found"]
    assert section["usable"]
    (note,) = [f["text"] for f in section["findings"] if f["kind"] == "layout"]
    assert "easyfsl json has 100 classes in another split" in note
