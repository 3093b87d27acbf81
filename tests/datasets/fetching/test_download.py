"""One file from a server with faults, and archives that hold what they should not."""

import errno
import hashlib
import io
import os
import random
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.support.fileserver import FileServer, serving
from zoo.datasets.fetching import download as module
from zoo.datasets.fetching.download import (
    UnavailableError,
    UnreachableError,
    amount,
    download,
    probe,
)
from zoo.datasets.fetching.unpack import BadArchiveError, unpack
from zoo.errors import UsageError

CONTENT = b"\x80\x02" + random.Random(0).randbytes(20_000)
NAME = "set.pkl"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as state:
        state.files[NAME] = CONTENT
        yield state


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are noted, not made."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "Bilder für später"
    folder.mkdir()
    return folder / NAME


def fetched(server: FileServer, target: Path, md5: str = "") -> bytes:
    """The file after a download that left nothing else."""
    download(f"{server.url}/{NAME}", target, md5=md5)
    assert os.listdir(target.parent) == [NAME]
    return target.read_bytes()


def broken_off(server: FileServer, target: Path, after: int = 1000) -> Path:
    """What a download leaves whose connection breaks again and again."""
    server.cuts = [after] + [0] * (module.TRIES - 1)
    with pytest.raises(UsageError, match="the same command goes on") as error:
        download(f"{server.url}/{NAME}", target)
    assert "\n" not in str(error.value) and str(target) in str(error.value)
    assert not target.exists()
    server.asked.clear()
    return target.with_name(f"{NAME}.part")


def test_a_file_comes_in_one_request(server: FileServer, target: Path, capsys) -> None:
    assert probe(f"{server.url}/{NAME}", NAME) == len(CONTENT)
    assert fetched(server, target, hashlib.md5(CONTENT).hexdigest()) == CONTENT
    assert server.asked == [(f"/{NAME}", "")]
    bar = capsys.readouterr().err
    assert "20.0k/20.0k" in bar and "B/s" in bar  # of how much, and how fast


def test_only_the_missing_bytes_are_asked_for(server: FileServer, target: Path, slept) -> None:
    server.cuts = [1000, 2000]
    assert fetched(server, target) == CONTENT
    assert [span for _, span in server.asked] == ["", "bytes=1000-", "bytes=3000-"]
    assert slept == [1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_any_cuts_give_the_same_file(server: FileServer, target: Path, seed: int) -> None:
    chance = random.Random(seed)
    server.cuts = [chance.choice((0, 1, 5, 511, 512, 513, 4000)) for _ in range(module.TRIES - 1)]
    server.ranges, server.tags = chance.random() < 0.7, chance.random() < 0.7
    assert fetched(server, target) == CONTENT


def test_a_later_call_goes_on(server: FileServer, target: Path) -> None:
    part = broken_off(server, target)
    assert part.read_bytes() == CONTENT[:1000]
    assert fetched(server, target) == CONTENT
    assert server.asked == [(f"/{NAME}", "bytes=1000-")]


def test_progress_is_no_failed_try(server: FileServer, target: Path, monkeypatch) -> None:
    monkeypatch.setattr("zoo.datasets.fetching.download.DOWNLOAD_CHUNK", 1000)
    server.cuts = [1000] * 19
    assert fetched(server, target) == CONTENT


def test_a_server_without_ranges_sends_it_anew(server: FileServer, target: Path) -> None:
    server.ranges = False
    broken_off(server, target)
    server.cuts = [3000]
    assert fetched(server, target) == CONTENT
    assert [span for _, span in server.asked] == ["bytes=1000-", "bytes=3000-"]


def changed(server: FileServer) -> bytes:
    server.version = "2"
    server.files[NAME] = CONTENT[:2] + CONTENT[9000:]
    return server.files[NAME]


@pytest.mark.parametrize("kind", ["tag", "weak tag", "size alone", "shorter than the part"])
def test_a_changed_file_is_fetched_anew(server: FileServer, target: Path, kind: str) -> None:
    server.weak, server.tags = kind == "weak tag", "tag" in kind
    broken_off(server, target, 15_000 if "shorter" in kind else 1000)
    new = changed(server)
    assert fetched(server, target) == new
    spans = [span for _, span in server.asked]
    assert spans == (["bytes=1000-"] if kind == "tag" else [spans[0], ""])


def test_a_part_of_another_address_is_not_continued(server: FileServer, target: Path) -> None:
    broken_off(server, target)
    server.files["other.pkl"] = b"\x80" + bytes(5000)
    download(f"{server.url}/other.pkl", target)
    assert target.read_bytes() == server.files["other.pkl"]
    assert server.asked == [("/other.pkl", "")]


@pytest.mark.parametrize("notes", ["", "[]", "{}", "\xff"])
def test_a_part_without_notes_is_fetched_anew(server: FileServer, target: Path, notes: str) -> None:
    part = broken_off(server, target)
    part.with_name(f"{part.name}.json").write_bytes(notes.encode("latin1"))
    assert fetched(server, target) == CONTENT
    assert server.asked == [(f"/{NAME}", "")]


def test_a_whole_part_is_only_renamed(server: FileServer, target: Path) -> None:
    part = broken_off(server, target)
    part.write_bytes(CONTENT)
    assert fetched(server, target) == CONTENT and not server.asked


def test_a_file_of_unknown_length_comes_too(server: FileServer, target: Path) -> None:
    server.lengths = server.ranges = False
    assert probe(f"{server.url}/{NAME}", NAME) is None
    assert fetched(server, target) == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_dead_address_is_said_at_once(server: FileServer, target: Path, slept, status) -> None:
    for action in (probe, lambda url, name: download(url, target)):
        server.statuses[NAME] = [status]
        with pytest.raises(UnavailableError, match=str(status)):
            action(f"{server.url}/{NAME}", NAME)
    assert not slept and os.listdir(target.parent) == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_recovers(server: FileServer, target: Path, slept, status: int) -> None:
    server.statuses[NAME] = [status, status, 200, status, 200]
    assert probe(f"{server.url}/{NAME}", NAME) == len(CONTENT)
    assert fetched(server, target) == CONTENT
    assert slept == [1, 2, 1]


def test_a_server_that_does_not_recover(server: FileServer, target: Path) -> None:
    server.statuses[NAME] = [503] * 2 * module.TRIES
    with pytest.raises(UnavailableError, match="503 Service Unavailable"):
        probe(f"{server.url}/{NAME}", NAME)
    with pytest.raises(UnavailableError, match="503 Service Unavailable"):
        download(f"{server.url}/{NAME}", target)
    assert len(server.looks) == len(server.asked) == module.TRIES


def test_a_server_says_how_long_to_wait(server: FileServer, target: Path, slept) -> None:
    server.headers = {"Retry-After": "7"}
    server.statuses[NAME] = [429, 200]
    assert fetched(server, target) == CONTENT
    server.headers = {"Retry-After": formatdate(time.time() + 60, usegmt=True)}
    server.statuses[NAME] = [503, 200]
    assert fetched(server, target) == CONTENT
    assert slept[0] == 7 and 50 < slept[1] <= 60
    server.headers = {"Retry-After": "7200"}
    server.statuses[NAME] = [503]
    with pytest.raises(UnavailableError, match="try again in 120 minutes"):
        probe(f"{server.url}/{NAME}", NAME)
    server.headers = {"Retry-After": "9" * 400}
    server.statuses[NAME] = [503]
    with pytest.raises(UnavailableError, match=r"try again in \d{1,5} minutes"):
        probe(f"{server.url}/{NAME}", NAME)
    assert len(slept) == 2


@pytest.mark.parametrize(
    "said", ["²", "-1", "1e3", "Fri, 31 Dec 99999 23:59:59 GMT", "soon", "\x1b[2J"]
)
def test_a_time_to_wait_that_is_none_is_ignored(
    server: FileServer, target: Path, slept, said: str
) -> None:
    server.headers = {"Retry-After": said}
    server.statuses[NAME] = [503, 200]
    assert fetched(server, target) == CONTENT
    assert slept == [1]


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/a.pkl", "file:///etc/passwd", "data:,x"])
def test_only_addresses_of_the_web_are_followed(
    server: FileServer, target: Path, slept, address: str
) -> None:
    server.headers = {"Location": address}
    server.statuses[NAME] = [302]
    with pytest.raises(UnavailableError, match=r"not followed|not allowed"):
        probe(f"{server.url}/{NAME}", NAME)
    with pytest.raises(UnavailableError, match="expected an address that begins with http"):
        download(address, target)
    assert not slept and os.listdir(target.parent) == []


def test_a_circle_of_addresses_is_one_line(server: FileServer) -> None:
    server.headers = {"Location": f"{server.url}/{NAME}"}
    server.statuses[NAME] = [302] * 40
    with pytest.raises(UnavailableError) as error:
        probe(f"{server.url}/{NAME}", NAME)
    assert "30 redirects" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.pkl", "a.pickle", "a.zip", "a.tar.gz", "a.tgz", "a.txt"])
def test_a_page_instead_of_the_file_is_refused(server: FileServer, target: Path, name) -> None:
    server.files[name] = b"\n<!DOCTYPE html><html>The file has moved.</html>"
    for action in (probe, lambda url, name: download(url, target.with_name(name))):
        with pytest.raises(UnavailableError, match=f"not {name}, but an HTML page"):
            action(f"{server.url}/{name}", name)
    assert os.listdir(target.parent) == []


def test_a_page_does_not_spoil_what_has_come(server: FileServer, target: Path) -> None:
    part = broken_off(server, target)
    server.version, server.files[NAME] = "login", b"<html>Log in to this hotel's network</html>"
    with pytest.raises(UnavailableError, match="HTML page"):
        download(f"{server.url}/{NAME}", target)
    assert part.read_bytes() == CONTENT[:1000]


def test_other_bytes_than_the_name_promises_are_refused(server: FileServer) -> None:
    server.files["a.zip"] = b"\x1f\x8b not a zip"
    with pytest.raises(UnavailableError, match="octet-stream"):
        probe(f"{server.url}/a.zip", "a.zip")


def test_a_wrong_checksum_is_refused_and_removed(server: FileServer, target: Path) -> None:
    with pytest.raises(UnavailableError, match=f"{hashlib.md5(CONTENT).hexdigest()}.*{'0' * 32}"):
        download(f"{server.url}/{NAME}", target, md5="0" * 32)
    assert os.listdir(target.parent) == []


def test_offline_is_said_at_once(target: Path, slept) -> None:
    with pytest.raises(UnreachableError, match="no connection: Connection refused"):
        probe("http://127.0.0.1:9/set.pkl", NAME)
    assert not slept


def test_a_network_that_goes_away_and_comes_back(server: FileServer, target, monkeypatch) -> None:
    port = server.url
    server.cuts = [1000]

    def back(pause: float) -> None:
        monkeypatch.setenv("no_proxy", "127.0.0.1" if pause >= 2 else "")  # else a dead proxy

    monkeypatch.setattr(time, "sleep", back)
    download(f"{port}/{NAME}", target)
    assert target.read_bytes() == CONTENT


def test_a_server_that_falls_silent(server: FileServer, target: Path, monkeypatch) -> None:
    monkeypatch.setattr("zoo.datasets.fetching.download.READ_SECONDS", 0.05)
    release = server.hold()
    try:
        with pytest.raises(UnavailableError, match="no answer: timed out"):
            download(f"{server.url}/{NAME}", target)
    finally:
        release()
    assert len(server.asked) == module.TRIES


def test_a_proxy_is_honoured(server: FileServer, target: Path, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    download(f"http://images.invalid/{NAME}", target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [(f"http://images.invalid/{NAME}", "")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_oserror(server: FileServer, target: Path) -> None:
    target.with_name(f"{NAME}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        download(f"{server.url}/{NAME}", target)


def test_what_came_before_the_disk_was_full_is_kept(server, target, monkeypatch) -> None:
    monkeypatch.setattr("zoo.datasets.fetching.download.DOWNLOAD_CHUNK", 1000)
    write, room = module._write, [3000]

    def full(file: io.BytesIO, chunk: bytes) -> None:
        write(file, chunk[: room[0]])
        if len(chunk) > room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= len(chunk)

    monkeypatch.setattr("zoo.datasets.fetching.download._write", full)
    with pytest.raises(OSError, match="No space left"):
        download(f"{server.url}/{NAME}", target)
    monkeypatch.setattr("zoo.datasets.fetching.download._write", write)
    assert fetched(server, target) == CONTENT
    assert server.asked[-1] == (f"/{NAME}", "bytes=3000-")


def test_amounts_are_written_as_people_do() -> None:
    sizes = (0, 1234, 9.46e6, 169_001_437, 1.27e9, 28.4e9)
    assert list(map(amount, sizes)) == ["0 kB", "1 kB", "9.5 MB", "169 MB", "1.3 GB", "28 GB"]


def tar_of(*members: tuple[str, bytes, str]) -> bytes:
    """A .tar.gz of members (type, name or link name)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            content = b"content" if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(*names: str, mode: int = 0o100644, content: bytes = b"content") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, b"" if name.endswith("/") else content)
    return buffer.getvalue()


FILE = tarfile.REGTYPE
OUT = Path(tempfile.gettempdir()) / f"zoo-out-{os.getpid()}"
GOOD = {
    "a.zip": zip_of("top/", "top/one", "top/deep/two", "three"),
    "a.tar.gz": tar_of(("./", tarfile.DIRTYPE, ""), ("top", tarfile.DIRTYPE, ""),
                       ("top/one", FILE, ""), ("./top/deep/two", FILE, ""), ("three", FILE, "")),
}  # fmt: skip
BAD: dict[str, tuple[str, bytes, str]] = {
    "zip, up": ("a.zip", zip_of("fine", "top/../../out"), "outside"),
    "zip, absolute": ("a.zip", zip_of(str(OUT)), "outside"),
    "zip, link": ("a.zip", zip_of("link", mode=0o120777, content=b"../out"), "link"),
    "zip, no archive": ("a.zip", b"PK but no zip", "damaged"),
    "zip, cut": ("a.zip", zip_of("one", "two")[:-30], "damaged"),
    "zip, other bytes": ("a.zip", zip_of("one").replace(b"\x4b", b"\x4c", 3), "damaged"),
    "zip, no name": ("a.zip", zip_of(""), "without a name"),
    "zip, a long name": ("a.zip", zip_of("x" * 300), "name too long"),
    "tar, no name": ("a.tgz", tar_of(("", FILE, "")), "without a name"),
    "tar, up": ("a.tgz", tar_of(("../out", FILE, "")), "outside"),
    "tar, absolute": ("a.tgz", tar_of((str(OUT), FILE, "")), "outside"),
    "tar, link": (
        "a.tgz",
        tar_of(("link", tarfile.SYMTYPE, ".."), ("link/out", FILE, "")),
        "link or device",
    ),
    "tar, hard link": ("a.tgz", tar_of(("link", tarfile.LNKTYPE, "../out")), "link or device"),
    "tar, device": ("a.tgz", tar_of(("null", tarfile.CHRTYPE, "")), "link or device"),
    "tar, no archive": ("a.tgz", b"\x1f\x8b but no gzip", "damaged"),
    "tar, cut": ("a.tgz", tar_of(("one", FILE, ""))[:-20], "damaged"),
    "tar, file and folder": ("a.tgz", tar_of(("one", FILE, ""), ("one/two", FILE, "")), "damaged"),
}


@pytest.mark.parametrize("name", GOOD)
def test_archives_are_unpacked(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(GOOD[name])
    (tmp_path / "to").mkdir()
    unpack(tmp_path / name, tmp_path / "to")
    files = {p.relative_to(tmp_path / "to").as_posix() for p in tmp_path.glob("to/**/*")}
    assert files == {"top", "top/one", "top/deep", "top/deep/two", "three"}
    assert (tmp_path / "to" / "top" / "deep" / "two").read_bytes() == b"content"


@pytest.mark.parametrize("kind", BAD)
def test_bad_archives_are_refused(kind: str, tmp_path: Path) -> None:
    name, content, says = BAD[kind]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "to" / "here").mkdir(parents=True)
    with pytest.raises(BadArchiveError, match=says):
        unpack(tmp_path / name, tmp_path / "to" / "here")
    assert {path.name for path in tmp_path.glob("**/*")} <= {name, "to", "here", "fine", "one"}
    assert not OUT.exists()


def bomb(name: str, size: int) -> bytes:
    """An archive of zeros."""
    if name.endswith(".zip"):
        return zip_of("one", content=bytes(size))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("one")
        member.size = size
        archive.addfile(member, io.BytesIO(bytes(size)))
    return buffer.getvalue()


@pytest.mark.parametrize("name", GOOD)
def test_an_archive_unpacks_to_twice_what_is_known_at_most(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(bomb(name, 50_000))
    unpack(tmp_path / name, tmp_path, known_size=30_000)
    with pytest.raises(BadArchiveError, match="the archive holds more than 40 kB"):
        unpack(tmp_path / name, tmp_path, known_size=20_000)


@pytest.mark.parametrize("name", GOOD)
def test_an_archive_of_which_nothing_is_known_has_a_bound_too(
    name: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("zoo.datasets.fetching.unpack.SMALL", 10_000)
    (tmp_path / name).write_bytes(bomb(name, 2_000_000))
    with pytest.raises(BadArchiveError, match="the archive holds more than"):
        unpack(tmp_path / name, tmp_path)
    assert not (tmp_path / "one").exists()


def test_headers_of_an_archive_are_bounded(tmp_path: Path) -> None:
    """tarfile reads them into memory; and many empty files take disk too."""
    header = tarfile.TarInfo("one")
    header.pax_headers = {"comment": "x" * 100_000}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(header)
    (tmp_path / "a.tgz").write_bytes(buffer.getvalue())
    with pytest.raises(BadArchiveError, match="holds more than 40 kB"):
        unpack(tmp_path / "a.tgz", tmp_path, known_size=20_000)
    (tmp_path / "a.zip").write_bytes(zip_of(*(f"{n}/" for n in range(20))))
    with pytest.raises(BadArchiveError, match="holds more than 40 kB"):
        unpack(tmp_path / "a.zip", tmp_path, known_size=20_000)


def test_an_archive_larger_than_the_disk_is_not_begun(tmp_path: Path, monkeypatch) -> None:
    usage: Callable = lambda folder: type("Usage", (), {"free": 6})  # noqa: E731
    monkeypatch.setattr("shutil.disk_usage", usage)
    for name, content in GOOD.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OSError, match="No space left"):
            unpack(tmp_path / name, tmp_path)
    assert not list(tmp_path.glob("**/one"))
