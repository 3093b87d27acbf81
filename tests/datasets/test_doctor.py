"""The doctor: each thing that can be wrong is provoked once, and named in words and in JSON."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import in_full
from tests.datasets.readers.test_readers import (
    FEW,
    MINI,
    edit,
    write_cifar,
    write_mini,
    write_omniglot,
)
from zoo.commands import main
from zoo.datasets import splits
from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.datasets.benchmarks.image_sets import Omniglot
from zoo.datasets.checking import content_checks
from zoo.errors import UsageError

ROOT = Path(__file__).parents[2]
FINE, CIFAR = splits.fine_names(), splits.cifar100("cifar_fs")
Arrays = dict[str, tuple[np.ndarray, list[Any]]]  # pixels (n, side, side, 3) and labels by split


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Benchmark, "per_class", FEW)
    monkeypatch.setattr(Omniglot, "per_class", FEW)
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def arrays(lists: dict[str, list[str]], side: int) -> Arrays:
    """Noise with more red than blue in it, a few images a class, and the names of their classes."""
    rng = np.random.default_rng(0)
    return {
        split: (
            rng.integers((30, 20, 0), (256, 246, 226), (FEW * len(names), side, side, 3), np.uint8),
            names * FEW,
        )
        for split, names in lists.items()
    }


def write_fs(folder: Path, things: Arrays) -> None:
    """CIFAR-FS as MetaOptNet's pickles."""
    folder.mkdir(exist_ok=True)
    for split, (pixels, names) in things.items():
        content = {"data": pixels, "labels": [FINE.index(name) for name in names]}
        (folder / f"CIFAR_FS_{split}.pickle").write_bytes(pickle.dumps(content))


def doctor(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, Any]:
    """Exit status, screen and JSON, which must say the same."""
    capsys.readouterr()
    status = main(["doctor", str(folder), *words])
    screen = capsys.readouterr().out
    assert main(["doctor", str(folder), *words, "--json"]) == status
    report = json.loads(capsys.readouterr().out)
    for section in report["found"]:
        assert section["verdict"] in screen
        for finding in section["findings"]:
            assert f"{'wrong' if finding['failure'] else 'note'}: {finding['text']}" in screen
    assert status == (0 if report["usable"] else 1)
    return status, screen, report


def kinds(section: dict[str, Any], failure: bool = True) -> list[str]:
    return [f["kind"] for f in section["findings"] if f["failure"] == failure]


def test_a_sound_set_is_usable(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mini(data / "miniimagenet")
    status, screen, report = doctor(data, capsys)
    assert status == 0 and report["usable"] == ["miniimagenet"]
    assert "usable: miniimagenet from Ravi csv + jpg" in screen
    (section,) = report["found"]
    assert section["folder"] == str(data / "miniimagenet") and section["sound"]
    for split, names in MINI.items():
        facts = section["splits"][split]
        assert facts["classes"] == facts["expected_classes"] == len(names)
        assert facts["images"] == facts["expected_images"] == FEW * len(names)
        assert facts["remarks"] == "ok"
    assert f"{64}/{64}" in screen and "128/128" in screen
    assert kinds(section, failure=False) == ["size"]  # one larger image a split
    assert "3 images have another size" in screen and "(90x100)" in screen
    assert not (data / "zoo-store").exists()
    assert max(len(line) for line in screen.splitlines() if "/64" in line) < 80


def test_turned_characters_are_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_omniglot(data)
    status, screen, report = doctor(data, capsys, "--benchmark", "omniglot[split=1200/423]")
    assert status == 0 and report["usable"] == ["omniglot[split=1200/423]"]
    assert "1,200/1,200" in screen and "ok: with rotations 4,800 classes" in screen
    assert report["found"][0]["content"]["pairs"]["across splits"] > 0  # eight drawings in all


WNID, OTHER = MINI["val"][3], MINI["val"][0]
JPEG = f"{WNID}00000001.jpg"


def without(word: str) -> Callable[[str], str]:
    return lambda text: "".join(row for row in text.splitlines(True) if word not in row)


def swap(folder: Path) -> None:
    (folder / "val.csv").rename(folder / "other")
    (folder / "test.csv").rename(folder / "val.csv")
    (folder / "other").rename(folder / "test.csv")


# What is done to a folder of mini-ImageNet; kinds of the failures; words; remark on a split.
BAD: dict[str, tuple[Callable[[Path], object], list[str], list[str], tuple[str, str]]] = {
    "class missing": (
        lambda p: edit(p / "val.csv", without(WNID)),
        ["missing"],
        ["val.csv: 1 of 16 val classes missing", WNID],
        ("val", "1 missing"),
    ),
    "class of no split": (
        lambda p: edit(p / "train.csv", lambda s: s + "n0000000100000001.jpg,n00000001\n"),
        ["extra"],
        ["train.csv: classes that are in none of the splits, 1: n00000001"],
        ("train", "1 extra"),
    ),
    "class in two splits": (
        lambda p: edit(p / "train.csv", lambda s: s + f"{JPEG},{WNID}\n"),
        ["overlap", "doubled"],
        [f"train.csv: holds 1 of the val classes: {WNID}", "classes that are in both, 1"],
        ("train", "1 of other splits"),
    ),
    "splits swapped": (
        swap,
        ["swapped"],
        ["val.csv holds exactly the test classes", "give each the other's name"],
        ("val", "16 missing, 20 of other splits"),
    ),
    "split of another": (
        lambda p: shutil.copy(p / "train.csv", p / "val.csv"),
        ["wrong split", "doubled"],
        ["val.csv: holds exactly the train classes, expected the val ones"],
        ("val", "16 missing, 64 of other splits"),
    ),
    "wrong counts": (
        lambda p: edit(p / "val.csv", lambda s: without(JPEG)(s).replace(f"{OTHER}00000001", "x")),
        ["unreadable"],  # x is not of its class; the other splits are looked at all the same
        ["val.csv, line"],
        ("train", "ok"),
    ),
    "too few images": (
        lambda p: edit(p / "val.csv", without(JPEG)),
        ["images"],
        [f"val.csv: expected {FEW} images a class, {WNID} has 1"],
        ("val", "1 wrong counts"),
    ),
    "no csv": (
        lambda p: (p / "val.csv").unlink(),
        ["unreadable"],
        ["val.csv", "missing or unreadable"],
        ("test", "ok"),
    ),
    "damaged images": (
        lambda p: [os.truncate(p / "images" / f"{n}00000001.jpg", 600) for n in (WNID, OTHER)],
        ["unreadable", "unreadable"],
        ["truncated", "2 images cannot be read", JPEG, f"{OTHER}00000001.jpg"],
        ("val", "ok"),
    ),
    "missing image": (
        lambda p: (p / "images" / JPEG).unlink(),
        ["unreadable"],
        [JPEG, "missing"],
        ("val", "ok"),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, failures, words, (split, remark) = BAD[name]
    write_mini(data)
    spoil(data)
    status, screen, report = doctor(data, capsys)
    (section,) = report["found"]
    assert status == 1 and kinds(section) == failures
    assert all(word in screen for word in [*words, "not usable: miniimagenet"]), screen
    assert section["splits"][split]["remarks"] == remark
    assert not list(data.parent.glob("stores/*.json")), "what is to be mended is looked for again"


def test_equal_images_are_counted(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    things = arrays(CIFAR, 32)
    (train, names), (val, _) = things["train"], things["val"]
    train[64] = train[0]  # of the same class
    train[2] = train[1]
    val[0] = val[1] = val[2] = train[3]  # 3 pairs with train, 3 among themselves
    write_fs(data / "cifarfs", things)
    status, screen, report = doctor(data, capsys)
    assert status == 0 and names[0] == names[64]
    content = report["found"][0]["content"]
    assert list(content["pairs"].values()) == [1, 4, 3]
    assert "1 within a class, 4 across classes of a split, 3 across splits (train" in screen
    assert "the published set has 9, 2, 15" in screen


def test_swapped_channels_fail(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    things = arrays(CIFAR, 32)
    things["val"] = things["val"][0][..., ::-1].copy(), things["val"][1]
    write_fs(data, things)
    status, screen, report = doctor(data, capsys)
    assert status == 1 and kinds(report["found"][0]) == ["channel order"]
    assert "suspected swapped (BGR) in val: the mean of channel 0 is 112" in screen
    with pytest.raises(UsageError, match="python -m zoo doctor") as error:
        find_benchmark("cifarfs").open(data)
    assert "\n" not in str(error.value)


def test_images_of_one_colour_are_told(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    things = arrays(CIFAR, 32)
    things["test"][0][[3, 7]] = (9, 5, 1)
    write_fs(data, things)
    status, screen, report = doctor(data, capsys)
    assert status == 1 and kinds(report["found"][0]) == ["constant"]  # 2 in 200: pixels were lost
    assert f"2 images of one colour: test {CIFAR['test'][3]} " in screen
    monkeypatch.setattr("zoo.datasets.checking.content_checks.CONSTANT", 0.01)
    status, _, report = doctor(data, capsys)
    assert status == 0 and kinds(report["found"][0], failure=False) == ["duplicates", "constant"]


def test_published_totals_are_held(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 201):
        folder = data / "CUB_200_2011" / "images" / f"{number:03}.Bird"
        folder.mkdir(parents=True)
        Image.new("RGB", (9, 9), (number, 7, 3)).save(folder / "a.png")
        Image.effect_noise((9, 9), number).convert("RGB").save(folder / "b.png")
    monkeypatch.setattr("zoo.datasets.checking.content_checks.CONSTANT", 1)
    status, screen, report = doctor(data, capsys)
    assert status == 1 and kinds(report["found"][0]) == ["images"]
    assert "400 images in all splits, published are 11,788" in screen
    with pytest.raises(UsageError, match="published are 11,788"):
        find_benchmark("cub").open(data)
    monkeypatch.setattr(
        "zoo.datasets.checking.content_checks.KNOWN_TOTALS", {("cub", 400): "a known copy"}
    )
    status, screen, _ = doctor(data, capsys)
    assert status == 0 and "; a known copy" in screen


def test_checks_are_made_once_for_a_content(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, check = [], content_checks.check
    monkeypatch.setattr(
        "zoo.datasets.checking.content_checks.check",
        lambda *words: calls.append(1) or check(*words),
    )
    things = arrays(CIFAR, 32)
    things["test"][0][1] = things["test"][0][0]
    write_fs(data, things)
    benchmark = find_benchmark("cifarfs")
    benchmark.open(data)
    assert "cifarfs: pairs of equal images: 1 across classes" in capsys.readouterr().err
    benchmark.open(data)
    assert len(calls) == 1 and not capsys.readouterr().err, "a warning is printed once"
    doctor(data, capsys)
    assert len(calls) == 1
    for path in data.iterdir():  # a newer copy of the same
        os.utime(path, ns=(1, 1))
    _, before, _ = doctor(data, capsys)
    benchmark.open(data)
    assert len(calls) == 1
    things["test"][0][4] = things["test"][0][0]
    write_fs(data, things)
    _, after, _ = doctor(data, capsys)
    assert len(calls) == 2 and before != after and "3 across classes" in after
    monkeypatch.setattr(
        "zoo.datasets.checking.content_checks.CHECKS_VERSION", content_checks.CHECKS_VERSION + 1
    )
    benchmark.open(data)
    assert len(calls) == 3


def test_a_second_look_needs_no_torch(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fs(data, arrays(CIFAR, 32))
    doctor(data, capsys)
    code = (
        "import sys; from zoo.datasets.benchmarks.base import Benchmark;"
        "from zoo.commands import main;"
        f"Benchmark.per_class = {FEW}; status = main(['doctor', sys.argv[1]]);"
        "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules), 'slow'; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(data)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "usable: cifarfs" in done.stdout, done.stderr


def test_nothing_found_is_one_screen(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, screen, report = doctor(data, capsys)
    assert status == 1 and report["found"] == [] and report["looked_for"]
    assert str(data) in screen and "train.csv" in screen and "images_background" in screen
    assert len(screen.splitlines()) <= 42
    _, screen, _ = doctor(data, capsys, "--benchmark", "omniglot")
    assert "there or in omniglot-py" in screen and "Ravi" not in screen
    status, screen, _ = doctor(data, capsys, "--benchmark", "folder")
    assert status == 1 and "expected a folder a class" in screen
    assert not list(data.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "nowhere: expected a folder"),
        ([".", "--benchmark", "glyphs"], "--benchmark glyphs: comes with the code"),
        ([".", "--benchmark", "glyph"], "did you mean 'glyphs'"),
        ([".", "--jsn"], "--jsn is not known"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *words]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_every_form_gets_a_section_and_one_is_read(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar(data / "cifar-100-python")
    write_fs(data / "cifarfs", arrays(CIFAR, 32))
    status, screen, report = doctor(data, capsys, "--benchmark", "cifarfs")
    assert status == 0 and [s["usable"] for s in report["found"]] == [True, False]
    assert "sound, but not read: run and table read CIFAR-100 python version" in screen
    os.truncate(data / "cifar-100-python" / "train", 99)
    status, screen, report = doctor(data, capsys)
    assert status == 1 and "move that away" in screen
    forms = [(s["benchmark"], s["sound"]) for s in report["found"]]
    assert forms == [("cifarfs", False), ("cifarfs", True), ("fc100", False)]


def test_another_sets_file_names_are_no_finding(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, (pixels, names) in arrays(splits.cifar100("fc100"), 32).items():
        targets = np.array([FINE.index(name) for name in names])
        np.savez(data / f"few-shot-{split}.npz", features=pixels, targets=targets)
    status, _, report = doctor(data, capsys)  # mini-ImageNet's TADAM files have the same names
    assert status == 0 and [s["benchmark"] for s in report["found"]] == ["fc100"]


def test_own_images_are_found_where_nothing_published_lies(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        (data / f"class {number}").mkdir()
        for image in range(3):
            pixels = np.random.default_rng((number, image)).integers(0, 200, (9, 9, 3), np.uint8)
            pixels[..., 2] += 50  # blue is no fault of theirs
            Image.fromarray(pixels).save(data / f"class {number}" / f"{image}.png")
    status, screen, report = doctor(data, capsys, "--benchmark", "folder[size=28]")
    assert status == 0 and report["usable"] == ["folder[size=28]"] and "?" not in screen
    assert kinds(report["found"][0], failure=False) == ["few"]
    assert "test has 2 classes, --way 2 at most" in screen and "has 3 images for --shot" in screen
    status, _, report = doctor(data.parent, capsys)  # one level too high
    assert status == 0 and report["usable"] == ["folder"]
    assert report["found"][0]["folder"] == str(data)
    assert not (data / "zoo-store").exists()


def test_known_bad_copies_are_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    things = arrays(MINI, 84)
    for split, (pixels, names) in things.items():
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            rows.setdefault(name, []).append(row)
        other = {"val": "test", "test": "val"}.get(split, split)
        content = {"image_data": pixels, "class_dict": rows}
        (data / f"mini-imagenet-cache-{other}.pkl").write_bytes(pickle.dumps(content))
    _, screen, report = doctor(data, capsys)
    assert kinds(report["found"][0]) == ["swapped"] and "written before April 2018" in screen

    def write(name: str, pixels: np.ndarray, names: list[str]) -> None:
        labels = {wnid: number for number, wnid in enumerate(sorted(set(names)))}
        content = {"data": pixels, "labels": [labels[n] for n in names], "catname2label": labels}
        path = folder / f"miniImageNet_category_split_{name}.pickle"
        path.write_bytes(pickle.dumps(content))

    folder = data.parent / "category"
    folder.mkdir()
    pixels, names = things["train"]
    write("train_phase_train", np.concatenate([pixels, pixels[:64]]), [*names, *names[:64]])
    write("val", pixels, names)
    write("test", *things["test"])
    _, screen, report = doctor(folder, capsys)
    assert kinds(report["found"][0]) == ["images", "wrong split", "doubled"]
    assert "train_phase files, merged" in screen and "base classes, renamed?" in screen


@pytest.mark.slow
@pytest.mark.parametrize(
    "key", in_full(["cifarfs", "fc100", "omniglot", "miniimagenet"], "cifarfs", "omniglot")
)
def test_real_sets_are_usable_and_their_equal_images_known(
    key: str,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.undo()  # as many images a class as published
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))
    try:
        status, screen, report = doctor(data_folder, capsys, "--benchmark", key)
    finally:
        shutil.rmtree(tmp_path / "stores", ignore_errors=True)  # which pytest would keep
    (section,) = report["found"]
    assert status == 0 and report["usable"] == [key] and not kinds(section)
    pairs = section["content"]["pairs"]
    if key in content_checks.PUBLISHED_PAIRS:
        assert "the published set has them too" in screen
        assert pairs["across splits"] == {"cifarfs": 15, "fc100": 3, "omniglot": 0}[key]


def test_kept_facts_that_are_damaged_are_made_again(tmp_path: Path) -> None:
    path, made = tmp_path / "facts.json", []

    def ask() -> bool:
        facts, new = content_checks.kept_facts(path, ["key"], lambda: {"findings": [], "n": 12})
        assert facts == {"findings": [], "n": 12}
        made.append(new)
        return new

    assert ask() and not ask()
    whole = path.read_text()
    for text in (whole.replace("12", "13"), whole.replace("n", "m"), "", "[]", "[" * 10**5):
        path.write_text(text)
        assert ask() and path.read_text() == whole
    path.write_text('{"key": ["key"], "facts": {"findings": [], "n": 12}}')  # of earlier code
    assert not ask()
