"""The store: built once, whole or not at all, noticed when damaged, served from the file cache."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoo.datasets.episodes import image_store
from zoo.datasets.episodes.image_store import Store, open_store
from zoo.errors import UsageError

ROOT = Path(__file__).parents[3]
NAMES = ["a", "b", "ü"]
ARRAYS = [np.random.default_rng(i).integers(0, 256, (4 + i, 3, 8, 8), np.uint8) for i in range(3)]


class Source:
    """Stands in for a reader: three classes of 4, 5 and 6 images."""

    unreadable = ""

    def __init__(self, version: str = "1", pause: float = 0, log: Path | None = None) -> None:
        self.version, self.pause, self.log, self.builds = version, pause, log, 0

    def fingerprint(self) -> str:
        return self.version

    def check(self) -> None:
        pass

    def classes(self, split: str) -> list[str]:
        return NAMES

    def images(self, split: str) -> Iterator[np.ndarray]:
        self.builds += 1
        if self.log:
            with self.log.open("a") as file:
                file.write("built\n")
        for array in ARRAYS:
            yield array
            time.sleep(self.pause)


class BadSource(Source):
    """One that finds a damaged image in its second class."""

    def images(self, split: str) -> Iterator[np.ndarray]:
        yield ARRAYS[0]
        raise UsageError("x.jpg: damaged")


def opened(path: Path, source: Any = None) -> Store:
    return open_store(path, source or Source(), "train")


def intact(result: Store) -> bool:
    return result.images.equal(torch.from_numpy(np.concatenate(ARRAYS)))


def only_file(path: Path) -> bool:
    """Whether nothing but the store, or nothing, is left beside its lock."""
    return {other.name for other in path.parent.iterdir()} <= {path.name, f"{path.name}.lock"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "zoo-store" / "toy.train"


def test_a_built_store_holds_the_images(path: Path) -> None:
    result = opened(path)
    assert intact(result) and only_file(path)
    assert result.names == NAMES
    assert result.offsets.tolist() == [0, 4, 9, 15] and result.offsets.dtype == np.int64
    in_memory = Store.from_arrays(NAMES, ARRAYS)
    assert intact(in_memory) and in_memory.fingerprint == result.fingerprint
    assert in_memory.offsets.tolist() == result.offsets.tolist()


def test_the_fingerprint_is_of_names_counts_and_pixels() -> None:
    first = Store.from_arrays(NAMES, ARRAYS).fingerprint
    moved = [np.concatenate([ARRAYS[0], ARRAYS[1][:1]]), ARRAYS[1][1:], ARRAYS[2]]
    others = [(["a", "b", "c"], ARRAYS), (NAMES, moved), (NAMES, [ARRAYS[0] ^ 1, *ARRAYS[1:]])]
    assert all(Store.from_arrays(*other).fingerprint != first for other in others)


def test_gather_takes_rows(path: Path) -> None:
    rows = torch.tensor([14, 0, 3, 3])
    result = opened(path)
    assert result.gather(rows).equal(result.images[rows])
    assert result.to("cpu").gather(rows).dtype == torch.uint8
    with pytest.raises(IndexError):
        result.gather(torch.tensor([15]))


def test_an_open_store_is_not_built_again(path: Path) -> None:
    source = Source()
    assert intact(opened(path, source)) and intact(opened(path, source))
    assert source.builds == 1


def damage_pixel(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def damage_header(path: Path) -> None:
    """Even where the time of change does not tell."""
    stat = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"counts": [4, 5', b'"counts": [5, 4'))
    os.utime(path, ns=(stat.st_mtime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_pixel, "checksum"),
        (damage_header, "header"),
        (lambda path: os.truncate(path, path.stat().st_size - 9), "size"),
        (lambda path: os.truncate(path, 500), "header"),
        (lambda path: os.truncate(path, 0), "version"),
        (lambda path: path.write_bytes(b"\n" * 9999), "version"),
    ],
)
def test_damage_is_noticed_and_mended(
    path: Path, damage: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source()
    opened(path, source)
    damage(path)
    assert intact(opened(path, source)) and source.builds == 2
    assert reason in next(line for line in capsys.readouterr().err.splitlines() if "anew" in line)
    assert intact(opened(path, source)) and source.builds == 2


def test_a_touched_store_is_checked_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    opened(path, source)
    built = path.stat().st_mtime_ns
    os.utime(path)
    assert intact(opened(path, source)) and source.builds == 1
    assert path.stat().st_mtime_ns == built
    monkeypatch.setattr(
        "zoo.datasets.episodes.image_store._Content", None
    )  # no checksum is computed now
    opened(path, source)


def test_a_changed_source_is_read_again(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened(path)
    source = Source("2")
    assert intact(opened(path, source)) and source.builds == 1
    assert "its source has changed; building it anew" in capsys.readouterr().err


def test_a_bad_source_leaves_nothing(path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.jpg"):
        opened(path, BadSource())
    assert not path.exists() and only_file(path)
    assert intact(opened(path))


def test_what_could_not_be_read_is_kept_in_the_store(path: Path) -> None:
    """A class that came out empty is not in it, and the line is found again, however long."""

    class Damaged(Source):
        unreadable = "\U0001f600" * 5000

        def images(self, split: str) -> Iterator[np.ndarray]:
            yield from (ARRAYS[0], ARRAYS[1][:0], ARRAYS[2])

    for _ in range(2):  # built, then opened
        store = opened(path, Damaged())
        assert store.names == [NAMES[0], NAMES[2]] and store.offsets.tolist() == [0, 4, 10]
        assert np.array_equal(store.images.numpy(), np.concatenate([ARRAYS[0], ARRAYS[2]]))
        assert len(store.unreadable) == 1000 and {*store.unreadable} == {"\U0001f600"}


def test_a_full_disk_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"zoo-store: .*No space left.*ZOO_STORE") as error:
        opened(path)
    assert "\n" not in str(error.value)
    assert not path.exists() and only_file(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/zoo-store: .*ZOO_STORE"):
        opened(tmp_path / "file" / "zoo-store" / "toy.train")


def test_a_disk_that_cannot_be_mapped_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(np, "memmap", refuse)
    with pytest.raises(UsageError, match=r"toy\.train: .*No such device.*local disk"):
        opened(path)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    lines = "import sys; from pathlib import Path; "
    lines += "from tests.datasets.episodes import test_image_store as test_store"
    command = [sys.executable, "-c", f"{lines}\n{code}", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


BUILD = """
path, log, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
assert test_store.intact(test_store.opened(path, test_store.Source("1", pause, log)))
"""


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_build_leaves_no_store(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(BUILD, path, log, 60)
    wait_for(log.exists)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not path.exists() and list(path.parent.glob("*.tmp"))
    assert intact(opened(path)) and only_file(path)


def test_two_processes_build_once(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start(BUILD, path, log, 0.7) for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert log.read_text() == "built\n" and only_file(path)


def test_the_waiter_says_for_whom(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with image_store._only_builder(path):
        waiter = start(BUILD, path, log, 0)
        assert waiter.stderr
        line = waiter.stderr.readline()
        assert line.startswith(f"waiting for process {os.getpid()} on ")
        assert line.endswith(f", which is building {path}\n")
        assert not log.exists()
    waiter.communicate(timeout=60)
    assert waiter.returncode == 0 and log.exists()


SERVE = """
import time, torch
torch.manual_seed(0)
result = test_store.opened(Path(sys.argv[1]))
start = time.process_time()  # of all threads, whatever else the machine does
for _ in range(1000):
    x = result.gather(torch.randint(0, len(result.images), (100,)))
anonymous = [line for line in open("/proc/self/status") if line.startswith("RssAnon")][0]
print(int(anonymous.split()[1]), time.process_time() - start, result.images.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc/self/status")
def test_serving_needs_little_memory_of_its_own(path: Path) -> None:
    """100,000 random images of a store of 3.2 GB (sparse): below 1 GB."""
    path.parent.mkdir()
    facts = {"source": "1", "built_ns": 10**18, "content": "", "names": ["a"]}
    facts |= {"image": (3, 84, 84), "counts": [150_000]}
    path.write_bytes(image_store._header(facts, 4096))
    os.truncate(path, 4096 + 150_000 * 3 * 84 * 84)
    os.utime(path, ns=(10**18, 10**18))
    output, errors = start(SERVE, path).communicate(timeout=120)
    assert output, errors
    kilobytes, seconds, size = json.loads(f"[{','.join(output.split())}]")
    assert size > 3e9
    assert kilobytes < 1e6
    assert seconds < 20
