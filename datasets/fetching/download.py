"""Download one file over HTTP. A download that broke off is continued, not begun again.

Until it is whole the file is called ``<name>.part``; ``<name>.part.json`` has its address, its size
and the version that the server gave it. Proxies are taken from the environment (http_proxy,
https_proxy, no_proxy).
"""

import hashlib
import http.client
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.files import write_json

if TYPE_CHECKING:  # requests takes long to import, and is needed for fetching alone
    import requests

CONNECT_SECONDS, READ_SECONDS = 10, 60
TRIES = 5  # in a row that may bring less than DOWNLOAD_CHUNK each
PAUSE = 1.0  # seconds before the second try; doubled before each further one
PATIENCE = 120  # seconds: the longest pause that a server may ask for
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)  # statuses after which it is worth trying again
SCHEMES = ("http://", "https://")
SAID_CHARACTERS = 200  # of a server's answer that a message shows at most
HEAD = 512  # bytes at the beginning of a file, by which its type is checked
DOWNLOAD_CHUNK = 1 << 20
_ZIP, _GZIP, _PICKLE = (b"PK",), (b"\x1f\x8b",), (b"\x80", b"(")
BEGINNINGS = {".zip": _ZIP, ".npz": _ZIP, ".gz": _GZIP, ".tgz": _GZIP} | dict.fromkeys(
    (".pkl", ".pickle"), _PICKLE
)


class UnavailableError(Exception):
    """A file cannot be had from an address; the message says why, in a few words."""


class UnreachableError(UnavailableError):
    """There is no connection to the address."""


class _BrokenError(Exception):
    """Something failed that may work if it is tried again.

    `pause` is how many seconds the server asks to wait before, None if it does not say.
    """

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class _ChangedError(_BrokenError):
    """The file on the server is no longer the one that an earlier try fetched the beginning of."""


def probe(url: str, name: str) -> int | None:
    """Fetch the first bytes of a file, to see whether an address has it.

    Args:
        url: the address.
        name: the name the file gets here; by its ending the first bytes are checked.

    Returns:
        The size of the file in bytes, None if the server does not say.

    Raises:
        UnreachableError: there is no connection; it is not tried again.
        UnavailableError: the address does not have such a file, or failed `TRIES` times.
    """
    tries = 0
    while True:
        try:
            with _ask(url, {"Range": f"bytes=0-{HEAD - 1}"}) as answer:
                _, size = _extent(answer)
                _check_beginning(name, answer, _read(answer.raw.read, HEAD))
            return size
        except _BrokenError as error:
            tries += 1
            if tries == TRIES:
                raise UnavailableError(str(error)) from None
            _wait(name, error, tries)


def download(url: str, target: Path, title: str = "", md5: str = "") -> None:
    """Fetch a file, or the rest of it if an earlier call was interrupted.

    Args:
        url: the address.
        target: path of the file; its folder must exist.
        title: what the progress bar calls the file; by default its name.
        md5: the checksum it must have; "" if none is known.

    Raises:
        UnavailableError: the address does not have the file, or it has another checksum.
        UsageError: the connection broke too often; what was fetched is kept.
        OSError: the file cannot be written; what was fetched is kept.
    """
    part = target.with_name(f"{target.name}.part")
    title = title or target.name
    tries = 0
    while True:
        before = _size(part)
        try:
            _go_on(url, part, target.name, title)
            break
        except (_BrokenError, UnreachableError) as error:
            if isinstance(error, _ChangedError):
                _forget(part)
            tries = 1 if _size(part) >= before + DOWNLOAD_CHUNK else tries + 1
            if tries == TRIES and not _size(part):
                raise UnavailableError(str(error)) from None
            if tries == TRIES:
                raise UsageError(
                    f"{url}: {error}, {TRIES} times in a row; {amount(_size(part))} are kept in "
                    f"{part}: the same command goes on from there"
                ) from None
            _wait(title, error, tries)
    if md5 and (actual := md5_of(part)) != md5:
        _forget(part)
        raise UnavailableError(f"its md5 is {actual}, expected {md5}; the file was removed")
    os.replace(part, target)
    _notes(part).unlink(missing_ok=True)


def md5_of(path: Path) -> str:
    """The md5 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest()


def amount(size: float) -> str:
    """A number of bytes as text, such as "1.3 GB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            decimals = 1 if size < 10 * scale else 0
            return f"{size / scale:.{decimals}f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _go_on(url: str, part: Path, name: str, title: str) -> None:
    """Fetch with one request what is missing of `part`.

    Raises:
        UnavailableError: the address does not have the file.
        _BrokenError: it failed, or the connection broke; what was fetched is in `part`.
        OSError: `part` cannot be written.
    """
    from tqdm import tqdm

    notes = _read_notes(part, url)
    have = _size(part) if notes else 0
    if have and have == notes["size"]:
        return
    headers = {}
    if have:
        headers["Range"] = f"bytes={have}-"
        # A weak tag, W/..., does not promise that the bytes are the same.
        if notes["version"] and not notes["version"].startswith("W/"):
            headers["If-Range"] = notes["version"]
    with _ask(url, headers) as answer:
        start, size = _extent(answer)
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified", "")
        if not have or answer.status_code != http.client.PARTIAL_CONTENT:
            have = 0  # the server does not do ranges, or its file has changed
            chunk = _read(answer.raw.read, HEAD)
            _check_beginning(name, answer, chunk)
            write_json(_notes(part), {"url": url, "version": version, "size": size})
        elif start != have or size != notes["size"] or version not in ("", notes["version"]):
            raise _ChangedError("the file has changed on the server")
        else:
            chunk = _read(answer.raw.read1, DOWNLOAD_CHUNK)
        often = 0.2 if sys.stderr.isatty() else 10  # seconds
        bar = tqdm(None, title, size, unit="B", unit_scale=True, initial=have, mininterval=often)
        with part.open("ab" if have else "wb", buffering=0) as file, bar:
            while chunk:
                _write(file, chunk)
                bar.update(len(chunk))
                chunk = _read(answer.raw.read1, DOWNLOAD_CHUNK)
            os.fsync(file.fileno())
    if size is not None and _size(part) < size:
        raise _BrokenError(f"the connection broke after {amount(_size(part))} of {amount(size)}")


def _ask(url: str, headers: dict[str, str]) -> "requests.Response":
    """Send a GET request; the body of the answer is not read yet.

    Raises:
        UnreachableError: there is no connection.
        UnavailableError: the server refuses, or asks to wait for longer than `PATIENCE`.
        _BrokenError: it may work if it is tried again.
    """
    import requests
    from urllib3.exceptions import MaxRetryError

    if not url.startswith(SCHEMES):
        raise UnavailableError(f"expected an address that begins with {' or '.join(SCHEMES)}")
    headers = {"User-Agent": "meta-learning-zoo", "Accept-Encoding": "identity", **headers}
    timeouts = CONNECT_SECONDS, READ_SECONDS
    try:
        answer = requests.get(url, headers=headers, timeout=timeouts, stream=True)
    except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
        raise UnavailableError(f"it redirects to what is not followed: {_reason(error)}") from None
    except requests.TooManyRedirects as error:
        raise UnavailableError(_reason(error)) from None
    except requests.RequestException as error:
        if error.args and isinstance(error.args[0], MaxRetryError):
            raise UnreachableError(f"no connection: {_reason(error)}") from None
        raise _BrokenError(f"no answer: {_reason(error)}") from None
    if answer.ok:
        return answer
    answer.close()
    reason = f"{answer.status_code} {_one_line(answer.reason)}"
    if answer.status_code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise _ChangedError(reason)
    if answer.status_code not in TEMPORARY:
        raise UnavailableError(reason)
    pause = _seconds(answer.headers.get("Retry-After", ""))
    if pause and pause > PATIENCE:
        raise UnavailableError(f"{reason}; try again in {pause / 60:.0f} minutes")
    raise _BrokenError(reason, pause)


def _read(read: Callable[[int], bytes], most: int) -> bytes:
    """Read from an answer.

    Raises:
        _BrokenError: the connection broke. An OSError would be taken for one of the disk.
    """
    from urllib3.exceptions import HTTPError

    try:
        return read(most)
    except (OSError, HTTPError) as error:
        raise _BrokenError(f"the connection broke: {_reason(error)}") from None


def _write(file: IO[bytes], chunk: bytes) -> None:
    """Write a whole chunk to a file without a buffer, of which one call may write only a part."""
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]


def _extent(answer: "requests.Response") -> tuple[int, int | None]:
    """At which byte of the file an answer begins (-1: unknown), and the size of the whole file."""
    if answer.status_code != http.client.PARTIAL_CONTENT:
        return 0, answer.raw.length_remaining
    header = answer.headers.get("Content-Range", "")
    parts = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", header)
    if not parts:
        return -1, None
    return int(parts[1]), None if parts[2] == "*" else int(parts[2])


def _check_beginning(name: str, answer: "requests.Response", head: bytes) -> None:
    """Compare the first bytes with the ending of the file's name: dead links often give a page."""
    if not head:
        raise _BrokenError("the connection broke before the first byte")
    page = head.lstrip().lower().startswith((b"<!doctype", b"<html"))
    beginnings = BEGINNINGS.get(Path(name).suffix)
    if page or (beginnings and not head.startswith(beginnings)):
        content_type = _one_line(answer.headers.get("Content-Type", "of no type").partition(";")[0])
        what = (
            "an HTML page"
            if page
            else f"something else ({content_type}, it begins with {head[:4]!r})"
        )
        raise UnavailableError(f"not {name}, but {what}")


def _wait(title: str, error: Exception, tries: int) -> None:
    pause = getattr(error, "pause", None)
    pause = PAUSE * 2 ** (tries - 1) if pause is None else pause
    print(f"{title}: {error}; trying again in {pause:.0f} s", file=sys.stderr)
    time.sleep(pause)


def _seconds(text: str) -> float | None:
    """The seconds that a Retry-After of seconds or a date asks for; None if it is neither."""
    from urllib3 import Retry
    from urllib3.exceptions import InvalidHeader

    try:
        return float(Retry().parse_retry_after(text))
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _reason(error: BaseException) -> str:
    """The first cause of an error of requests or urllib3, in a few words."""
    while error.__context__:
        error = error.__context__
    return getattr(error, "strerror", None) or _one_line(str(error)) or type(error).__name__


def _one_line(text: str) -> str:
    """What a server said, on one line and without control characters, at most 200 characters."""
    line = " ".join(text.split())
    return "".join(sign if sign.isprintable() else "?" for sign in line)[:SAID_CHARACTERS]


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_notes(part: Path, url: str) -> dict[str, Any]:
    """The notes on the file that `part` is the beginning of; empty if it is not from `url`."""
    try:
        notes = json.loads(_notes(part).read_text())
        return notes if notes["url"] == url and {"version", "size"} <= notes.keys() else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)
