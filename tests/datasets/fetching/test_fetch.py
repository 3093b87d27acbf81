"""Fetching whole image sets from a local server: small ones, with the published class lists."""

import csv
import errno
import hashlib
import io
import os
import tarfile
import threading
import time
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.readers.test_readers import FEW, FINE, repickle, write_cifar, write_omniglot
from tests.support.fileserver import FileServer, serving
from zoo.commands import main
from zoo.commands.data import print_report
from zoo.commands.parser import build_parser
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.benchmarks.image_sets import CifarFs, Fc100, MiniImageNet, Omniglot
from zoo.datasets.fetching import addresses, not_found
from zoo.datasets.fetching import download as downloading
from zoo.datasets.fetching import fetch as module
from zoo.datasets.fetching.fetch import fetch, find
from zoo.datasets.fetching.unpack import ARCHIVE_ENDINGS
from zoo.datasets.readers.base import Reader
from zoo.datasets.readers.cifar100_python import Cifar100Python
from zoo.runs.workspace import Workspace

COLUMNS = "benchmark form file url about_mb unpacked_mb store_mb md5 md5_elsewhere".split()
TAR, PICKLES = "cifar-100-python.tar.gz", ["train.pkl", "val.pkl", "test.pkl"]


def tarred(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        archive.add(folder, folder.name)
    return buffer.getvalue()


def zipped(folder: Path) -> bytes:
    """A zip of a folder, as few bytes as it can be."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    return buffer.getvalue()


@pytest.fixture(scope="session")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("cifar") / "cifar-100-python"
    write_cifar(folder)
    return tarred(folder)


class Pickles(Reader):
    """A form of plain files, as the caches of mini-ImageNet are; good ones begin with 0x80."""

    form, needs, homes, recipe = "Pickles", ", ".join(PICKLES), ("miniimagenet",), "1"

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        return any(path.exists() for path in cls(folder, lists, FEW).files())

    def files(self) -> list[Path]:
        return [self.folder / name for name in PICKLES]

    def where(self, split: str) -> Path:
        return self.folder / f"{split}.pkl"

    def classes(self, split: str) -> list[str]:
        self.where(split).read_bytes()
        return self.lists[split]

    def scan(self, split: str) -> dict[str, list[Path]]:
        raise AssertionError("nothing opens the images")

    def decode(self, item: Path) -> np.ndarray:
        raise AssertionError("nothing opens the images")


class Deep(Pickles):
    """A form whose files lie deep in an archive."""

    form, needs, homes = "Deep", "the folder data/", ("deep",)

    @classmethod
    def is_in(cls, folder: Path, lists: dict[str, list[str]]) -> bool:
        return (folder / "data").is_dir()

    def classes(self, split: str) -> list[str]:
        return self.lists[split]


class World:
    """A server, its addresses in addresses.csv, and an empty data folder."""

    def __init__(self, server: FileServer, table: Path, data: Path) -> None:
        self.server, self.table, self.data = server, table, data
        self.rows: list[dict[str, object]] = []

    def publish(self, benchmark: str, form: str, file: str, address: str = "", **more: Any) -> None:
        url = address or f"{self.server.url}/{file}"
        self.rows.append({"benchmark": benchmark, "form": form, "file": file, "url": url, **more})
        with self.table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)

    def serve_cifar(self, content: bytes, **more: Any) -> None:
        self.server.files[TAR] = content
        self.publish("cifarfs, fc100", "CIFAR-100 python version", TAR, **more)

    def serve_pickles(self) -> None:
        for i, name in enumerate(PICKLES):
            self.server.files[name] = b"\x80" + bytes([i]) * 5000
            self.publish("miniimagenet", "Pickles", name)

    def zoo(self, *words: str) -> int:
        return main([*words, "--data", str(self.data)])

    @property
    def there(self) -> set[str]:
        """What the data folder shows, the folder of what is under way left out."""
        return set(os.listdir(self.data)) - {"zoo-fetch"} if self.data.exists() else set()

    @property
    def under_way(self) -> set[str]:
        """What is kept of downloads."""
        return {path.name for path in self.data.glob("zoo-fetch/*/*")}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for benchmark in (CifarFs, Fc100, Omniglot, MiniImageNet):
        monkeypatch.setattr(benchmark, "per_class", FEW)
    monkeypatch.setattr(MiniImageNet, "readers", lambda self: [Pickles, Deep])
    monkeypatch.setattr("zoo.datasets.fetching.addresses.ADDRESSES", tmp_path / "addresses.csv")
    monkeypatch.setattr("zoo.datasets.fetching.download.PAUSE", 0)
    monkeypatch.setenv("ZOO_STORE", str(tmp_path / "stores"))
    # It would open the images.
    monkeypatch.setattr("zoo.commands.data.print_report", lambda data, benchmark: 0)
    with serving() as server:
        yield World(server, tmp_path / "addresses.csv", tmp_path / "meine Bilder é")


def test_a_set_is_fetched_checked_and_found(
    world: World, cifar: bytes, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("zoo.commands.data.print_report", print_report)
    world.serve_cifar(cifar, md5=hashlib.md5(cifar).hexdigest(), unpacked_mb=1, store_mb=2)
    assert world.zoo("fetch", "cifarfs") == 0
    out = capsys.readouterr().out.splitlines()
    size = downloading.amount(len(cifar))
    assert f"CIFAR-FS (CIFAR-100 python version): {size} to fetch from 127.0.0.1:" in out[0]
    assert f"into {world.data / 'cifar-100-python'}; " in out[0] and "of disk" in out[0]
    assert out[1] == f"CIFAR-FS: whole, in {world.data / 'cifar-100-python'}"
    assert out[-1].startswith("usable: cifarfs")
    assert world.there == {"cifar-100-python"} and not world.under_way
    assert set(os.listdir(world.data / "cifar-100-python")) == {"train", "test", "meta"}
    stores = find_benchmark("cifarfs").open(world.data)
    assert [len(store.names) for store in stores.values()] == [64, 16, 20]
    for key in ("cifarfs", "fc100"):  # which are two splits of the same files
        assert world.zoo("fetch", key) == 0
        assert f"usable: {key}" in capsys.readouterr().out
    assert len(world.server.asked) == len(world.server.looks) == 1


def test_glyphs_need_no_fetching(world: World, capsys) -> None:
    assert world.zoo("fetch", "glyphs") == 0
    assert "comes with the code" in capsys.readouterr().out and not world.data.exists()


def test_two_archives_make_one_set(world: World, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("tests.datasets.readers.test_readers.FEW", 1)
    monkeypatch.setattr(Omniglot, "per_class", 1)
    write_omniglot(tmp_path / "drawn")
    for part in ("images_background", "images_evaluation"):
        world.server.files[f"{part}.zip"] = zipped(tmp_path / "drawn" / part)
        world.publish("omniglot", "Lake folders", f"{part}.zip")
    world.server.statuses["images_evaluation.zip"] = [200, 404]
    assert world.zoo("fetch", "omniglot") == 2
    assert "images_evaluation.zip\n    404" in capsys.readouterr().err
    assert not world.there, "half a set does not show"
    world.server.asked.clear()
    assert world.zoo("fetch", "omniglot[split=1200/423]") == 0
    assert world.server.asked == [("/images_evaluation.zip", "")]
    assert world.there == {"omniglot-py"}
    assert len(list(world.data.glob("omniglot-py/*/*/*/*.png"))) == 1623


def test_plain_files_are_put_beside_what_is_there(world: World) -> None:
    world.serve_pickles()
    (world.data / "miniimagenet").mkdir(parents=True)
    (world.data / "miniimagenet" / "notes").write_text("mine")
    assert world.zoo("fetch", "miniimagenet") == 0
    assert set(os.listdir(world.data / "miniimagenet")) == {"notes", *PICKLES}
    assert (world.data / "miniimagenet" / "val.pkl").read_bytes() == world.server.files["val.pkl"]


def test_nothing_is_overwritten(world: World, capsys, monkeypatch) -> None:
    world.serve_pickles()
    monkeypatch.setattr(Pickles, "is_in", classmethod(lambda c, f, _: (f / "train.pkl").exists()))
    mine = world.data / "miniimagenet" / "val.pkl"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert world.zoo("fetch", "miniimagenet") == 2
    assert f"{mine} is in the way" in capsys.readouterr().err
    assert mine.read_text() == "mine" and os.listdir(mine.parent) == ["val.pkl"]
    mine.rename(world.data / "mine")
    world.server.asked.clear()
    assert world.zoo("fetch", "miniimagenet") == 0
    assert not world.server.asked and set(os.listdir(mine.parent)) == set(PICKLES)


def test_the_form_is_found_wherever_it_lies_in_an_archive(world: World, tmp_path: Path) -> None:
    (tmp_path / "top" / "middle" / "data").mkdir(parents=True)
    (tmp_path / "top" / "middle" / "data" / "image").write_text("")
    world.server.files["deep.zip"] = zipped(tmp_path / "top")
    world.publish("miniimagenet", "Deep", "deep.zip")
    assert world.zoo("fetch", "miniimagenet") == 0
    assert (world.data / "deep" / "data" / "image").exists()


def test_a_copy_is_taken_where_the_publisher_fails(world: World, cifar: bytes) -> None:
    for i, fault in enumerate(("404", "page", "refused", "md5", "archive")):
        folder = f"{world.server.url}/{i}"
        world.publish(
            "cifarfs",
            "CIFAR-100 python version",
            TAR,
            {"refused": f"http://127.0.0.1:9/{TAR}"}.get(fault, f"{folder}/{fault}.tar.gz"),
            md5="0" * 32 if fault == "md5" else "",
        )
    world.server.files |= {
        "page.tar.gz": b"<html>moved</html>",
        "md5.tar.gz": b"\x1f\x8b",
        "archive.tar.gz": b"\x1f\x8b" + bytes(999),
    }
    world.serve_cifar(cifar)
    assert world.zoo("fetch", "cifarfs") == 0
    assert world.there == {"cifar-100-python"}
    paths = [path for path, _ in world.server.asked]
    assert paths == ["/3/md5.tar.gz", "/4/archive.tar.gz", f"/{TAR}"]


def test_dead_links_give_one_screen_with_what_each_answered(world: World, capsys) -> None:
    world.publish("cifarfs", "CIFAR-100 python version", TAR)
    world.publish("cifarfs", "CIFAR-100 python version", TAR, f"http://127.0.0.1:9/{TAR}")
    world.publish("cifarfs", "other folders", "cifar100.zip")
    world.server.files["cifar100.zip"] = b"PK"
    start = time.monotonic()
    assert world.zoo("fetch", "cifarfs") == 2
    assert time.monotonic() - start < 2
    screen = capsys.readouterr().err
    assert f"{world.server.url}/{TAR}\n    404 Not Found\n" in screen
    assert f"http://127.0.0.1:9/{TAR}\n    no connection: Connection refused\n" in screen
    assert f"as other folders (not read by this version):\n  {world.server.url}/cifar" in screen
    assert Cifar100Python.needs in " ".join(screen.split()) and "make table-cifarfs DATA=" in screen
    assert len(screen.splitlines()) <= 25 and not world.data.exists()


def test_only_forms_that_are_read_are_fetched(world: World) -> None:
    world.publish("cifarfs", "other folders", "cifar100.zip")
    assert world.zoo("fetch", "cifarfs") == 2
    assert not world.server.looks and not world.server.asked


def test_the_next_form_is_taken_where_the_first_fails(world: World, tmp_path: Path) -> None:
    world.serve_pickles()
    (tmp_path / "top" / "data").mkdir(parents=True)
    world.server.files["deep.zip"] = zipped(tmp_path / "top")
    world.publish("miniimagenet", "Deep", "deep.zip")
    world.server.statuses["test.pkl"] = [200, 410]
    assert world.zoo("fetch", "miniimagenet") == 0
    assert world.there == {"deep"}


def test_another_copys_checksum_is_only_told(world: World, cifar: bytes, capsys) -> None:
    world.serve_cifar(cifar, md5_elsewhere="0" * 32)
    assert world.zoo("fetch", "cifarfs") == 0
    assert f"its md5 is {hashlib.md5(cifar).hexdigest()}" in capsys.readouterr().err


def test_a_set_with_other_classes_does_not_get_into_its_place(
    world: World, tmp_path: Path, capsys
) -> None:
    write_cifar(tmp_path / "cifar-100-python")
    repickle(tmp_path / "cifar-100-python" / "meta", fine_label_names=[*FINE[1:], "zebra"])
    world.serve_cifar(tarred(tmp_path / "cifar-100-python"))
    for _ in range(2):  # the second time without a download
        assert world.zoo("fetch", "cifarfs") == 2
        screen = " ".join(capsys.readouterr().err.split())
        assert "class 'apple' is missing" in screen and "to fetch it anew delete" in screen
        assert not world.there
    assert len(world.server.asked) == 1


def test_an_archive_of_something_else_is_said_so(world: World, tmp_path: Path, capsys) -> None:
    (tmp_path / "other").mkdir()
    world.serve_cifar(tarred(tmp_path / "other"))
    assert world.zoo("fetch", "cifarfs") == 2
    assert "does not hold train, test and meta" in capsys.readouterr().err and not world.there


def test_room_is_asked_for_before_anything_is_fetched(world: World, capsys, monkeypatch) -> None:
    world.serve_pickles()
    world.rows[0]["store_mb"] = 300
    world.publish("none", "none", "none")
    monkeypatch.delenv("ZOO_STORE")
    usage = namedtuple("usage", "free")(200e6)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    assert world.zoo("fetch", "miniimagenet") == 2
    error = capsys.readouterr().err
    assert "300 MB are needed and 200 MB are free" in error and error.count("\n") == 1
    assert not world.server.asked and not world.data.exists()
    monkeypatch.setenv("ZOO_STORE", "elsewhere")
    assert world.zoo("fetch", "miniimagenet") == 0


def test_a_large_set_is_asked_for(world: World, capsys, monkeypatch) -> None:
    world.serve_pickles()
    monkeypatch.setattr("zoo.datasets.fetching.fetch.LARGE_DOWNLOAD", 15_000)
    assert world.zoo("fetch", "miniimagenet") == 2
    assert "takes 15 kB: say --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", namedtuple("terminal", "isatty")(lambda: True))
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    assert world.zoo("fetch", "miniimagenet") == 2
    assert "nothing was fetched" in capsys.readouterr().err and not world.data.exists()
    monkeypatch.setattr("builtins.input", lambda prompt: "Y")
    assert world.zoo("fetch", "miniimagenet") == 0


def test_yes_is_a_flag(world: World, monkeypatch) -> None:
    world.serve_pickles()
    monkeypatch.setattr("zoo.datasets.fetching.fetch.LARGE_DOWNLOAD", 1)
    assert world.zoo("fetch", "miniimagenet", "--yes") == 0


def stop_at(monkeypatch: pytest.MonkeyPatch, limit: int, error: BaseException) -> None:
    """Let the download fail after `limit` bytes."""
    write, left = downloading._write, [limit]

    def failing(file: Any, chunk: bytes) -> None:
        write(file, chunk[: left[0]])
        if len(chunk) > left[0]:
            raise error
        left[0] -= len(chunk)

    monkeypatch.setattr("zoo.datasets.fetching.download._write", failing)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(world, capsys, monkeypatch) -> None:
    world.serve_pickles()
    with monkeypatch.context() as patch:
        stop_at(patch, 7000, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        assert world.zoo("fetch", "miniimagenet") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device, about 8 kB more are needed" in error
    assert "the same command goes on" in error and str(world.data) in error
    assert world.under_way == {"train.pkl", "val.pkl.part", "val.pkl.part.json"}
    world.server.asked.clear()
    assert world.zoo("fetch", "miniimagenet") == 0
    assert world.server.asked == [("/val.pkl", "bytes=1999-"), ("/test.pkl", "")]
    assert "8 kB to fetch" in capsys.readouterr().out


def test_ctrl_c_keeps_what_has_come(world: World, capsys, monkeypatch) -> None:
    world.serve_pickles()
    with monkeypatch.context() as patch:
        stop_at(patch, 3000, KeyboardInterrupt())
        assert world.zoo("fetch", "miniimagenet") == 130
    assert "stopped; the same command goes on" in capsys.readouterr().err
    world.server.asked.clear()
    assert world.zoo("fetch", "miniimagenet") == 0
    assert world.server.asked[0] == ("/train.pkl", "bytes=3000-")


def test_a_connection_that_breaks_for_good_is_one_line(world: World, capsys) -> None:
    world.serve_pickles()
    world.server.cuts = [3000] + [0] * (downloading.TRIES - 1)
    assert world.zoo("fetch", "miniimagenet") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "5 times in a row; 3 kB are kept in " in error and "the same command goes on" in error
    assert not world.there


def test_two_at_once_fetch_once(world: World, cifar: bytes, monkeypatch) -> None:
    world.serve_cifar(cifar)
    release, waited = world.server.hold(), []

    def wait(delivery: object, holder: str) -> None:
        waited.append(holder)
        release()

    monkeypatch.setattr(module._Delivery, "_wait", wait)
    arguments = (find_benchmark("cifarfs"), world.data)
    threads = [threading.Thread(target=fetch, args=arguments) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.server.looks) == 2 and len(world.server.asked) == len(waited) == 1
    assert world.there == {"cifar-100-python"}


def test_a_folder_that_cannot_be_written(world: World, tmp_path, capsys, monkeypatch) -> None:
    world.serve_pickles()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: namedtuple("usage", "free")(1e9))
    for data in (tmp_path / "file", Path("/proc/zoo")):
        assert main(["fetch", "miniimagenet", "--data", str(data)]) == 2
        error = capsys.readouterr().err
        assert f"--data {data}" in error and error.count("\n") == 1
    assert not world.server.asked


def test_a_read_only_disk_is_one_line(world: World, capsys, monkeypatch) -> None:
    world.serve_pickles()
    stop_at(monkeypatch, 10, OSError(errno.EROFS, os.strerror(errno.EROFS)))
    assert world.zoo("fetch", "miniimagenet") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "Read-only file system; mend that" in error


def test_runs_fetch_what_they_need(world: World, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("tests.datasets.readers.test_readers.FEW", 20)
    monkeypatch.setattr(CifarFs, "per_class", 20)
    write_cifar(tmp_path / "cifar-100-python")
    world.serve_cifar(tarred(tmp_path / "cifar-100-python"))
    words = ["run", "protonet", "cifarfs", "--budget", "none", "--test_episodes", "8",
             "--backbone", "conv4_strided[channels=4]", "--results", str(tmp_path / "results"),
             "--runs", str(tmp_path / "runs")]  # fmt: skip
    assert world.zoo(*words, "--way", "1") == 2, "mistakes are said before anything is fetched"
    assert not world.server.looks and not world.data.exists()
    assert world.zoo(*words) == 0
    out = capsys.readouterr().out
    assert out.startswith("CIFAR-FS (CIFAR-100 python version): ") and "accuracy" in out


def test_tables_fetch_what_they_need(world: World, cifar: bytes, capsys, monkeypatch) -> None:
    monkeypatch.setattr("zoo.datasets.fetching.fetch.LARGE_DOWNLOAD", 1)
    world.serve_cifar(cifar)
    words = ["table", "cifarfs", "--ways", "5000", "--learners", "protonet"]
    assert world.zoo(*words, "--dry-run") == 2
    assert "python -m zoo fetch cifarfs" in capsys.readouterr().err
    assert world.zoo(*words, "--seeds", "x") == 2, "mistakes are said before anything is fetched"
    assert not world.server.looks
    assert world.zoo(*words) == 2 and "say --yes" in capsys.readouterr().err
    assert not world.data.exists()
    assert world.zoo(*words, "--yes") == 2  # no split has 5000 classes; the images are there by now
    assert world.there == {"cifar-100-python"}


def test_a_place_fetches_only_if_it_may(world: World, cifar: bytes) -> None:
    world.serve_cifar(cifar)
    benchmark = find_benchmark("fc100")
    with pytest.raises(not_found.NotFoundError):
        Workspace(world.data).open(benchmark)
    assert set(Workspace(world.data, fetch=True).open(benchmark)) == {"train", "val", "test"}


def test_the_data_folder_has_a_default(monkeypatch) -> None:
    for words in (["fetch", "omniglot"], ["table", "omniglot"], ["run", "maml", "omniglot"]):
        monkeypatch.delenv("ZOO_DATA", raising=False)
        assert build_parser().parse_args(words).data == Path("data")
        monkeypatch.setenv("ZOO_DATA", "~/images")
        assert build_parser().parse_args(words).data == Path.home() / "images"
        assert build_parser().parse_args([*words, "--data", "d"]).data == Path("d")


def test_a_damaged_set_that_is_there_is_said_so(world: World, capsys, monkeypatch) -> None:
    monkeypatch.setattr("zoo.commands.data.print_report", print_report)
    write_cifar(world.data / "cifar-100-python")
    (world.data / "cifar-100-python" / "test").write_bytes(b"")
    assert world.zoo("fetch", "cifarfs") == 1
    assert "test: expected a whole pickle" in capsys.readouterr().out
    assert find(find_benchmark("cifarfs"), world.data)


def test_the_table_of_addresses_is_sound() -> None:
    with addresses.ADDRESSES.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["url"].startswith("https://") for row in rows)
    urls = [row["url"] for row in rows]
    assert len(set(urls)) == len(urls)
    for row in rows:
        assert not (row["md5"] and row["md5_elsewhere"])
        assert all(len(row[column]) in (0, 32) for column in ("md5", "md5_elsewhere"))
        assert all(
            float(row[f"{column}_mb"] or 0) >= 0 for column in ("about", "unpacked", "store")
        )
    for key in ("miniimagenet", "cifarfs", "fc100", "omniglot", "tieredimagenet", "cub"):
        found = addresses.known_addresses(key)
        assert found
        for form in {source.form for source in found}:  # all archives, or all plain files
            archives = {s.file.endswith(ARCHIVE_ENDINGS) for s in found if s.form == form}
            assert len(archives) == 1
    assert addresses.known_addresses("cifarfs")[0].form == Cifar100Python.form
    assert addresses.known_addresses("cub")[0].size == 1_151_000_000
