"""Own images as people keep them: untidy folders, every kind of file, names of any letters."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from zoo.commands import main
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.readers.any_folders import AnyFolders, divide
from zoo.datasets.readers.own_pixels import as_seen
from zoo.errors import UsageError


def photo(kind: int, number: int, size: tuple[int, int] = (28, 28)) -> Image.Image:
    noise = np.random.default_rng((kind, number)).integers(0, 60, (size[1], size[0], 3))
    colour = np.array([kind * 53 % 190, kind * 97 % 190, 0])
    return Image.fromarray((noise + colour).astype(np.uint8))


def fill(folder: Path, count: int = 4, kind: int = 0, end: str = ".png", form: str = "PNG") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        photo(kind, number).save(folder / f"{number}{end}", form)


def classes(folder: Path, count: int = 15, first: int = 0, images: int = 4) -> Path:
    for kind in range(first, first + count):
        fill(folder / f"c{kind:02}", images, kind)
    return folder


def opened(folder: Path, **options: object) -> AnyFolders:
    words = {"size": 28, "seed": 0, "anew": False, **options}
    return AnyFolders(folder, **words)  # type: ignore[arg-type]


def counts(reader: AnyFolders) -> dict[str, int]:
    return {split: len(names) for split, names in reader.lists.items()}


def held(reader: AnyFolders) -> dict[str, int]:
    return {name: len(some) for split in reader.lists for name, some in reader.scan(split).items()}


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        (2, [2]), (3, [3]), (4, [2, 2]), (5, [3, 2]), (6, [2, 2, 2]), (12, [4, 4, 4]),
        (15, [5, 5, 5]), (20, [10, 5, 5]), (27, [17, 5, 5]), (29, [18, 5, 6]), (30, [19, 5, 6]),
        (100, [64, 16, 20]), (101, [65, 16, 20]),
    ],
)  # fmt: skip
def test_classes_are_divided_by_a_rule(count: int, parts: list[int]) -> None:
    names = [f"name {number}" for number in range(count)]
    lists = divide(names, 0)
    assert [len(part) for part in lists.values()] == parts
    assert sorted(name for part in lists.values() for name in part) == sorted(names)
    assert lists == divide(names[::-1], 0)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "validation", "test"), ("Training", "Valid", "Testing"), ("TRAIN", "DEV", "TEST"),
        ("meta-train", "meta_val", "meta-test"), ("base", "val", "novel"),
    ],
)  # fmt: skip
def test_splits_in_all_spellings(train: str, val: str, test: str, tmp_path: Path) -> None:
    for first, name in enumerate((train, val, test)):
        classes(tmp_path / name, 5, 10 * first)
    classes(tmp_path / "more", 2, 50)
    reader = opened(tmp_path)
    assert counts(reader) == {"train": 5, "val": 5, "test": 5}
    assert reader.lists["val"] == [f"c{number}" for number in range(10, 15)]
    assert reader.where("val") == tmp_path / val
    assert "folders beside those of the splits, 1 (more)" in reader.left_out


def test_validation_is_split_off_training(tmp_path: Path) -> None:
    classes(tmp_path / "train", 30)
    classes(tmp_path / "test", 5, 40)
    reader = opened(tmp_path)
    assert counts(reader) == {"train": 24, "val": 6, "test": 5}
    assert reader.lists["test"] == [f"c{number}" for number in range(40, 45)]
    assert opened(tmp_path, seed=1).lists["val"] != reader.lists["val"]


def test_splits_that_share_classes_are_explained_and_split_anew(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        classes(tmp_path / split, 15, images=number + 2)
    with pytest.raises(UsageError) as error:
        opened(tmp_path)
    said = str(error.value)
    assert "15 classes are in two splits, such as 'c00' in train and val" in said
    assert "training has not seen" in said and "folder[splits=anew]" in said and "\n" not in said
    reader = opened(tmp_path, anew=True)
    assert counts(reader) == {"train": 5, "val": 5, "test": 5} and {*held(reader).values()} == {9}
    find_benchmark("folder[splits=anew,size=28]").open(tmp_path)


@pytest.mark.parametrize("levels", [1, 2])
def test_folders_too_high(levels: int, tmp_path: Path) -> None:
    inner = tmp_path.joinpath(*["photos"] * levels)
    classes(inner)
    (tmp_path / "__MACOSX" / "photos").mkdir(parents=True)
    (tmp_path / "read me.txt").write_text("x")
    reader = opened(tmp_path)
    assert reader.folder == inner and counts(reader)["test"] == 5


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "expected a folder a class"),
        (lambda p: fill(p), "it has no folder of images"),
        (lambda p: classes(p, 1), "found 1 such classes; tests need 2, training and tests 4"),
        (lambda p: classes(p, 9, images=1), "at least 2 images a class, found 0 such classes"),
        (lambda p: [classes(p / f"group{n}", 3) for n in range(3)], "'c00' is in 3, such as gro"),
        (lambda p: [classes(p / s, 3, n) for n, s in ((0, "train"), (9, "more"))], "(more, train)"),
        (lambda p: [classes(p / s, 5, n) for n, s in ((0, "train"), (9, "val"))], "none for the"),
        (lambda p: [classes(p / s, c, c) for s, c in (("train", 9), ("test", 1))], "test has 1 cl"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(make, says: str, tmp_path: Path) -> None:  # type: ignore
    make(tmp_path)
    with pytest.raises(UsageError) as error:
        opened(tmp_path)
    said = str(error.value)
    assert says in said and "\n" not in said and str(tmp_path) in said, said


def test_class_folders_in_groups_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for group in range(4):
        classes(tmp_path / "own" / f"group{group}", 3, 3 * group)
    photo(0, 99).save(tmp_path / "own/group1/stray.png")
    reader = opened(tmp_path)
    assert "images beside the class folders, 1 (own/group1/stray.png)" in reader.left_out
    assert held(reader) == {f"c{number:02}": 4 for number in range(12)}
    assert main(["doctor", str(tmp_path), "--benchmark", "folder[size=28]"]) == 0
    said = capsys.readouterr().out
    assert "class folders lie in 4 folders (group0, group1, group2, ...): all of them are" in said


def test_a_group_beside_class_folders_is_named(tmp_path: Path) -> None:
    classes(tmp_path)
    classes(tmp_path / "birds", 3, 20)
    reader = opened(tmp_path)
    assert {*held(reader)} == {f"c{number:02}" for number in range(15)}
    assert "images lie deeper than the others', 1 (birds)" in reader.left_out


def test_images_two_folders_below_are_counted_as_images(tmp_path: Path) -> None:
    """Beside class folders, inside one, and in a folder of a split: none is an empty folder."""
    for names in ("birds/songbirds/robin", "c00/more/old"):
        fill(tmp_path / "own" / names)
    classes(tmp_path / "own")
    (tmp_path / "own/nothing/at/all").mkdir(parents=True)
    said = opened(tmp_path / "own").left_out
    assert "folders whose images lie deeper than the others', 1 (birds)" in said
    assert "images in a folder inside a class's folder, 4 (c00/more/old/0.png, " in said
    assert "folders without images, 1 (nothing)" in said
    for first, split in ((0, "train"), (9, "test")):
        classes(tmp_path / "splits" / split, 5, first)
    fill(tmp_path / "splits/train/birds/songbirds/robin")
    said = opened(tmp_path / "splits").left_out
    assert "folders whose images lie deeper than the others', 1 (train/birds)" in said


def test_doctor_says_why_own_images_are_refused_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val", "test"):
        classes(tmp_path / split, 5)
    assert main(["doctor", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("not usable: own images, ") and said.count("\n") == 1
    assert "folder[splits=anew]" in said
    (tmp_path / "empty").mkdir()
    assert main(["doctor", str(tmp_path / "empty")]) == 1
    assert "Looked for:" in capsys.readouterr().out


DAMAGE = {
    "empty": lambda whole: b"",
    "half": lambda whole: whole[: len(whole) // 2],
    "page": lambda whole: b"<html>",
    "flipped": lambda whole: whole[:-30] + bytes([whole[-30] ^ 255]) + whole[-29:],
}


@pytest.mark.parametrize("fault", DAMAGE)
def test_damaged_images_are_left_out_and_counted(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three of one class, so that a single one is left, and one of another: of 60, 55 are used."""
    classes(tmp_path)
    whole = (tmp_path / "c07" / "3.png").read_bytes()
    for name in ("c00/0.png", "c00/1.png", "c00/2.png", "c07/3.png"):
        (tmp_path / name).write_bytes(DAMAGE[fault](whole))
    benchmark = find_benchmark("folder[size=28]")
    stores = benchmark.open(tmp_path)
    sizes = {
        name: int(count)
        for store in stores.values()
        for name, count in zip(store.names, np.diff(store.offsets), strict=True)
    }
    assert sizes == {f"c{n:02}": 3 if n == 7 else 4 for n in range(1, 15)}
    split = next(split for split, store in stores.items() if "c07" in store.names)
    for _ in range(2):  # the second time from what is kept
        err = capsys.readouterr().err
        assert "images that cannot be read, " in err and "c07/3.png" in err
        assert "classes of a single image, 1 (c00)" in err
        assert main(["doctor", str(tmp_path), "--benchmark", "folder[size=28]"]) == 0
        said = capsys.readouterr().out
        assert "note: left out: images that cannot be read" in said and "\nusable: folder" in said
        again = benchmark.open(tmp_path)
        assert [s.fingerprint for s in again.values()] == [s.fingerprint for s in stores.values()]
    (tmp_path / "c07" / "3.png").write_bytes(whole)
    mended = benchmark.open(tmp_path)[split]
    place = mended.names.index("c07")
    assert np.diff(mended.offsets)[place] == 4


def test_images_without_permission_are_left_out_until_they_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither size nor time of change tells: one of c07's, and all of c08's.

    Root may read everything, so `os.access` and `Image.open` are told to refuse.
    """
    classes(tmp_path)
    forbidden = {tmp_path / "c07" / "3.png", *(tmp_path / "c08").iterdir()}
    for path in forbidden:
        path.chmod(0o600)  # somebody else's
    may_access, open_image = os.access, Image.open

    def access(path: str | Path, mode: int) -> bool:
        return Path(path) not in forbidden and may_access(path, mode)

    def opened_image(path: Path, *rest: object) -> Image.Image:
        if path in forbidden:
            raise PermissionError(13, "Permission denied", str(path))
        return open_image(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(Image, "open", opened_image)
    benchmark = find_benchmark("folder[size=28]")
    for lacking in ({"c07": 3, "c08": 0}, {"c07": 3}, {}):
        forbidden = {path for path in forbidden if path.parent.name in lacking}
        assert lacking == {} or forbidden
        for again in (False, True):
            stores = benchmark.open(tmp_path)
            err = capsys.readouterr().err
            assert ("images without permission to read them, " in err) == bool(lacking)
            assert ("c07/3.png" in err) == bool(lacking)
            assert not again or "building" not in err
            sizes = {
                name: int(count)
                for store in stores.values()
                for name, count in zip(store.names, np.diff(store.offsets), strict=True)
            }
            expected = {f"c{n:02}": 4 for n in range(15)} | lacking
            assert sizes == {name: count for name, count in expected.items() if count}
            assert main(["doctor", str(tmp_path), "--benchmark", "folder[size=28]"]) == 0
            said = capsys.readouterr().out
            assert ("without permission" in said) == bool(lacking) and "another size" not in said


def test_a_folder_whose_files_cannot_be_looked_at_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that may be listed but not entered, and a link to what is in such a folder."""
    classes(tmp_path)
    scan = os.scandir

    class Entry:
        def __init__(self, entry: os.DirEntry[str], link: bool) -> None:
            self.name, self.path, self.is_dir = entry.name, entry.path, entry.is_dir
            self.stat, self.is_symlink = entry.stat, lambda: link
            if entry.path.endswith("c03/1.png"):
                self.stat = self.refuse  # type: ignore[assignment]

        def refuse(self) -> None:
            raise PermissionError(13, "Permission denied", self.path)

    class Listing:
        def __init__(self, path: str, link: bool) -> None:
            with scan(path) as found:
                self.entries = [Entry(entry, link) for entry in found]

        def __enter__(self) -> list[Entry]:
            return self.entries

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", lambda path: Listing(path, False))
    with pytest.raises(UsageError, match=r"c03/1\.png: cannot be read \(Permission denied\); make"):
        opened(tmp_path)
    monkeypatch.setattr(os, "scandir", lambda path: Listing(path, True))
    assert "without permission to read them, 1 (c03/1.png)" in opened(tmp_path).left_out


def test_a_split_without_an_image_that_can_be_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes(tmp_path)
    for path in tmp_path.glob("c*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(UsageError) as error:
        find_benchmark("folder[size=28]").open(tmp_path)
    said = str(error.value)
    assert "no class of train has 2 images that can be read" in said and "\n" not in said
    assert main(["doctor", str(tmp_path), "--benchmark", "folder[size=28]"]) == 1
    assert "not usable" in capsys.readouterr().out


def test_clutter_is_passed_over_and_counted(tmp_path: Path) -> None:
    classes(tmp_path)
    (tmp_path / "__MACOSX" / "c00").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "docs").mkdir()
    photo(0, 99).save(tmp_path / "stray.png")
    (tmp_path / "c01" / "thumbs.png").mkdir()
    (tmp_path / "c02" / "gone.png").symlink_to("nowhere.png")
    fill(tmp_path / "c03" / "more", 5, 50)
    fill(tmp_path / "single", 1, 30)
    for name in ("docs/a.txt", "c04/.DS_Store", "c04/Thumbs.db", "c04/raw.heic", "c04/LICENSE"):
        (tmp_path / name).write_text("x")
    reader = opened(tmp_path)
    assert held(reader) == {f"c{number:02}": 4 for number in range(15)}
    for part in (
        "hidden files and those of systems, 3 (__MACOSX, c04/.DS_Store, c04/Thumbs.db)",
        "links to files that are gone, 1 (c02/gone.png)",
        "files that are no images, 2 (c04/LICENSE, c04/raw.heic)",
        "images in a folder inside a class's folder, 5 (c03/more/0.png, ",
        "folders without images, 3 (c01/thumbs.png, docs, empty)",
        "classes of a single image, 1 (single)",
        "images beside the class folders, 1 (stray.png)",
    ):
        assert part in reader.left_out
    assert reader.left_out.count("\n") == 0


def test_what_is_left_out_is_said_by_run_and_doctor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes(tmp_path)
    (tmp_path / "empty").mkdir()
    find_benchmark("folder[size=28]").open(tmp_path)
    assert "left out: folders without images, 1 (empty)" in capsys.readouterr().err
    assert main(["doctor", str(tmp_path), "--benchmark", "folder[size=28]"]) == 0
    assert "note: left out: folders without images, 1 (empty)" in capsys.readouterr().out


def test_files_of_all_endings_are_read(tmp_path: Path) -> None:
    classes(tmp_path, 14)
    endings = {".jfif": "JPEG", "": "JPEG", ".JPEG": "JPEG", ".WebP": "WEBP", ".gif": "GIF"}
    if features.check("avif"):
        endings[".avif"] = "AVIF"
    for end, form in endings.items():
        fill(tmp_path / "all", 2, 50, end, form)
    assert held(opened(tmp_path))["all"] == 2 * len(endings)
    find_benchmark("folder[size=28]").open(tmp_path)


def test_names_that_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes(tmp_path)
    os.rename(tmp_path / "c03", os.fsencode(tmp_path) + b"/gr\xf6\xdfe")
    reader = opened(tmp_path)
    assert r"gr\xf6\xdfe" in held(reader) and len(held(reader)) == 15
    find_benchmark("folder[size=28]").open(tmp_path)
    (broken,) = tmp_path.glob("gr*")
    (broken / "0.png").write_bytes(b"")
    capsys.readouterr()
    assert main(["doctor", str(tmp_path), "--benchmark", "folder[size=28]"]) == 0
    assert r"gr\xf6\xdfe/0.png" in capsys.readouterr().out


def test_images_edited_in_place_are_noticed(tmp_path: Path) -> None:
    classes(tmp_path)
    benchmark = find_benchmark("folder[size=28]")
    before = benchmark.open(tmp_path)["train"].fingerprint
    stamp = (tmp_path / "c00").stat().st_mtime_ns
    for path in tmp_path.glob("c*/0.png"):
        Image.new("RGB", (40, 40)).save(path)
    assert (tmp_path / "c00").stat().st_mtime_ns == stamp  # the folder does not tell
    assert benchmark.open(tmp_path)["train"].fingerprint != before


def test_stores_lie_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ZOO_STORE", raising=False)
    benchmark = find_benchmark("folder[size=28]")
    one, two = (classes(tmp_path / name / "photos") for name in ("one", "two"))
    for folder in (one, two):
        benchmark.open(folder)
        assert len(list(folder.iterdir())) == 15
    assert len(list((tmp_path / "cache" / "zoo").glob("photos-*/*.train"))) == 2
    (one / "zoo-store").mkdir()  # from before
    assert len(benchmark.open(one)["train"].names) == 5
    assert list((one / "zoo-store").glob("*.train"))
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "named"))
    benchmark.open(two)
    assert list((tmp_path / "named").glob("photos-*/*.train"))


def test_fifteen_thousand_classes_are_listed_in_seconds(tmp_path: Path) -> None:
    for number in range(15_000):
        folder = tmp_path / f"k{number}"
        folder.mkdir()
        for name in ("0.png", "1.png"):
            (folder / name).touch()
    started = time.process_time()
    reader = opened(tmp_path)
    reader.fingerprint()
    for split in reader.lists:
        reader.classes(split)
    assert counts(reader)["train"] == 9600
    assert time.process_time() - started < 5


def words_about(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterable[str]:
    capsys.readouterr()
    main(["doctor", str(folder), "--benchmark", "folder[size=28]"])
    said = capsys.readouterr()
    return [
        line for line in (said.out + said.err).splitlines() if str(folder) in line or ":" in line
    ]


@pytest.mark.parametrize("fault", ["blue", "empty file", "half", "page"])
def test_words_fit_own_images(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = classes(tmp_path / "own")
    if fault == "blue":
        for path in folder.glob("*/*.png"):
            values = np.asarray(Image.open(path)) * 0.2 + [20, 90, 180]
            Image.fromarray(values.astype(np.uint8)).save(path)
    else:
        whole = (folder / "c00" / "0.png").read_bytes()
        bad = {"empty file": b"", "half": whole[: len(whole) // 2], "page": b"<html>"}
        for number in range(2):
            (folder / "c00" / f"{number}.png").write_bytes(bad[fault])
    said = "\n".join(words_about(folder, capsys))
    assert not any(word in said for word in ("BGR", "fetch", "unpack", "archive", "published"))
    assert (fault == "blue") != ("images that cannot be read, 2 (c00/0.png, c00/1.png)" in said)


RAMP = np.arange(256)[None].repeat(8, 0)


@pytest.mark.parametrize(
    "values",
    [
        RAMP.astype(np.uint8), (RAMP * 257).astype(np.uint16), (RAMP * 16).astype(np.uint16),
        (RAMP / 255).astype(np.float32), RAMP.astype(np.float32), (RAMP * 257).astype(np.int32),
        ((RAMP - 128) * 1000.5).astype(np.float32),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["png", "tif"])
def test_grey_of_all_depths_is_the_same_picture(
    values: np.ndarray, end: str, tmp_path: Path
) -> None:
    if end == "png" and values.dtype.kind not in "u":
        pytest.skip("PNG has whole numbers of 8 or 16 bits")
    Image.fromarray(values).save(tmp_path / f"a.{end}")
    with Image.open(tmp_path / f"a.{end}") as image:
        got = np.asarray(as_seen(image))
    assert got.shape == (8, 256, 3) and np.abs(got[..., 0].astype(int) - RAMP).max() <= 1


def test_missing_numbers_are_black() -> None:
    values = np.array([[np.nan, 0.5, 1.0, np.inf]], np.float32)
    assert np.asarray(as_seen(Image.fromarray(values)))[0, :, 0].tolist() == [0, 128, 255, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_upright(orientation: int, tmp_path: Path) -> None:
    upright = photo(1, 0, (40, 20))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what a camera so held does to the picture
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright  # type: ignore
    tag = Image.Exif()
    tag[274] = orientation
    stored.save(tmp_path / "phone.png", exif=tag)
    with Image.open(tmp_path / "phone.png") as image:
        assert np.array_equal(np.asarray(as_seen(image)), np.asarray(upright))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str, tmp_path: Path) -> None:
    colours = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
    colours.paste((200, 200, 200, 0), (0, 0, 2, 4))
    if mode == "P":
        colours.quantize(4).save(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            image.load()
    else:
        image = colours.convert(mode)
    got = np.asarray(as_seen(image))
    assert (got[:, :2] == 255).all() and (got[:, 2:] == 0).all()
