"""Fetch the image set of a benchmark from an address of addresses.csv into the data folder.

Files are downloaded and unpacked in ``<data>/zoo-fetch``. When the set is whole and its reader has
checked it, they are moved to where the reader looks for them. So a download that was interrupted
leaves no part of a set there.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from zoo.datasets.fetching.addresses import Source, known_addresses
from zoo.datasets.fetching.download import UnavailableError, amount, download, md5_of, probe
from zoo.datasets.fetching.not_found import NotFoundError, not_found
from zoo.datasets.fetching.unpack import ARCHIVE_ENDINGS, BadArchiveError, unpack
from zoo.errors import DISK_FULL, UsageError
from zoo.files import locked, make_folder, store_slug

if TYPE_CHECKING:
    from zoo.datasets.readers.base import ImageSet, Reader

Result = TypeVar("Result")

LARGE_DOWNLOAD = 12e9  # bytes of disk; the user is asked before so much or more is fetched


def fetch(benchmark: "ImageSet", data: Path, yes: bool = False) -> None:
    """Fetch the images of a benchmark, unless they lie below `data` in a form that is read.

    Args:
        benchmark: whose images are wanted. Nothing is done if they come with the code; if they are
            made from those of another benchmark, the images of that one are fetched.
        data: the data folder; it is made if it does not exist.
        yes: do not ask before a large download.

    Raises:
        NotFoundError: no address gives the set; the message says what each of them answered.
        UsageError: there is no disk space or permission, the user said no, or the connection broke.
    """
    benchmark = benchmark.source
    if not benchmark.readers() or find(benchmark, data):
        return
    readers = {reader.form: reader for reader in benchmark.readers()}
    sources = [source for source in known_addresses(benchmark.key) if source.form in readers]
    failures: dict[str, str] = {}
    for form in dict.fromkeys(source.form for source in sources):
        of_form = [source for source in sources if source.form == form]
        try:
            _Delivery(benchmark, data, readers[form], of_form, failures).carry_out(yes)
            return
        except UnavailableError:
            continue  # `failures` has the reason
    raise NotFoundError(not_found(benchmark, data, failures))


def find(benchmark: "ImageSet", data: Path) -> "Reader | None":
    """The reader of the benchmark's images below `data`; None if they are not there."""
    try:
        return benchmark.find(data)
    except NotFoundError:
        return None


class _Delivery:
    """The download of an image set in one of its forms.

    Args:
        benchmark: whose images they are.
        data: the data folder.
        form: the reader of the form.
        sources: the addresses of its files.
        failures: gets, by address, the reason why a file could not be fetched from there.
    """

    def __init__(
        self,
        benchmark: "ImageSet",
        data: Path,
        form: type["Reader"],
        sources: list[Source],
        failures: dict[str, str],
    ) -> None:
        self.benchmark, self.data, self.form, self.failures = benchmark, data, form, failures
        self.files: dict[str, list[Source]] = {}
        for source in sources:
            self.files.setdefault(source.file, []).append(source)
        self.home = data / form.homes[0]
        self.work = data / "zoo-fetch" / store_slug(f"{form.homes[0]} {form.form}")
        self.need = 0  # bytes of disk for downloads, contents and store, as far as known

    def carry_out(self, yes: bool) -> None:
        """Look for an address of each file, ask the user, download, unpack, check, move.

        Nothing is written before an address of each file has answered.

        Raises:
            UnavailableError: no address gives the set in this form; `failures` says why.
            UsageError: there is no disk space or permission, the user said no, or the connection
                broke.
        """
        missing = [file for file in self.files if not (self.work / file).exists()]
        sizes = {file: self._from_any(file, _size) for file in missing}
        self._announce(sizes, yes)
        make_folder(self.work, "--data")
        with self._writing(), locked(self.work.with_suffix(".lock"), self._wait):
            if find(self.benchmark, self.data):
                return  # another process has fetched the set in the meantime
            shutil.rmtree(self.work / "unpacked", ignore_errors=True)  # left by a process that died
            for file in self.files:
                self._from_any(file, self._get)
            self._settle(self._checked().folder)
            shutil.rmtree(self.work, ignore_errors=True)
        print(f"{self.benchmark.title}: whole, in {self.home}", flush=True)

    def _from_any(self, file: str, action: Callable[[Source], Result]) -> Result:
        """Try the addresses of a file in turn; returns what `action` does for the first that works.

        Raises:
            UnavailableError: none works; `failures` says why.
        """
        for source in self.files[file]:
            if source.url not in self.failures:
                try:
                    return action(source)
                except UnavailableError as error:
                    self.failures[source.url] = str(error)
        raise UnavailableError(file)

    def _first(self, file: str) -> Source:
        """The first address of a file that has not failed."""
        return next(source for source in self.files[file] if source.url not in self.failures)

    def _announce(self, sizes: dict[str, int | None], yes: bool) -> None:
        """Say how much is fetched from where; check the disk space, and ask if it is much.

        Args:
            sizes: bytes of each file that is to be fetched, None if unknown.
            yes: do not ask.

        Raises:
            UsageError: there is too little disk space, or the user did not say yes.
        """
        first = [self._first(file) for file in self.files]
        to_come = sum(max((sizes[file] or 0) - self._fetched_part(file), 0) for file in sizes)
        store = 0 if os.environ.get("ZOO_STORE") else sum(source.store for source in first)
        disk = to_come + store + sum(source.unpacked for source in first)
        self.need = disk + self._bytes_in_work()
        hosts = dict.fromkeys(urlsplit(source.url).netloc for source in first)
        more = " or more" if None in sizes.values() else ""
        text = (
            f"{self.benchmark.title} ({self.form.form}): {amount(to_come)}{more} to fetch from "
            f"{', '.join(hosts)} into {self.home}; {amount(disk)}{more} of disk in all"
        )
        print(text, flush=True)
        folder = next(folder for folder in (self.data, *self.data.parents) if folder.exists())
        free = shutil.disk_usage(folder).free
        if free < disk:
            raise UsageError(
                f"{self.data}: {amount(disk)} are needed and {amount(free)} are free; make room, "
                "or choose another folder with --data"
            )
        if disk < LARGE_DOWNLOAD or yes:
            return
        if not (sys.stdin and sys.stdin.isatty()):
            raise UsageError(f"{self.benchmark.title} takes {amount(disk)}: say --yes to fetch it")
        if input("Fetch it? [y/N] ").strip().lower() not in ("y", "yes"):
            raise UsageError("nothing was fetched")

    def _get(self, source: Source) -> None:
        """Download a file, unless that was done before, and unpack it if it is an archive."""
        target = self.work / source.file
        if not target.exists():
            number = list(self.files).index(source.file) + 1
            title = f"{source.file} ({number}/{len(self.files)})"
            download(source.url, target, title, source.md5)
            if source.md5_elsewhere and (md5 := md5_of(target)) != source.md5_elsewhere:
                print(
                    f"{source.file}: its md5 is {md5}, that of another copy is "
                    f"{source.md5_elsewhere}; what counts is what its images are checked for",
                    file=sys.stderr,
                )
        if source.file.endswith(ARCHIVE_ENDINGS):
            print(f"unpacking {source.file}", file=sys.stderr)
            unpacked = self.work / "unpacked"
            unpacked.mkdir(exist_ok=True)
            try:
                unpack(target, unpacked, source.unpacked)
            except BadArchiveError as error:
                target.unlink()
                raise UnavailableError(f"{error}; it was removed") from None

    def _checked(self) -> "Reader":
        """The reader of what was fetched, after it has checked the classes.

        The files may lie in the archive itself or in folders up to two levels below.

        Raises:
            UnavailableError: the files are not the form, or its reader finds a fault in them.
        """
        url = self._first(next(iter(self.files))).url
        top = self.work / "unpacked"
        top = top if top.exists() else self.work
        lists, per_class = self.benchmark.lists(), self.benchmark.per_class
        for folder in (top, *sorted(top.glob("*/")), *sorted(top.glob("*/*/"))):
            if reader := self.form.find(folder, lists, per_class):
                break
        else:
            self.failures[url] = f"what came does not hold {self.form.needs}"
            raise UnavailableError(url)
        try:
            reader.check()
        except UsageError as error:
            self.failures[url] = f"was fetched, but {error}; to fetch it anew delete {self.work}"
            raise UnavailableError(url) from None
        return reader

    def _settle(self, folder: Path) -> None:
        """Move what is in `folder` to where the reader looks for it.

        Raises:
            UsageError: a file or folder of the same name is there; nothing is moved.
        """
        if not self.home.exists():
            self.home.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(self.home)
            return
        paths = sorted(folder.iterdir())
        for path in paths:
            if (self.home / path.name).exists():
                raise UsageError(
                    f"{self.home / path.name} is in the way of what was fetched: move it away, and "
                    "the same command goes on"
                )
        for path in paths:
            shutil.move(path, self.home / path.name)

    def _fetched_part(self, file: str) -> int:
        part = self.work / f"{file}.part"
        return part.stat().st_size if part.exists() else 0

    def _bytes_in_work(self) -> int:
        return sum(path.stat().st_size for path in self.work.rglob("*") if path.is_file())

    def _wait(self, holder: str) -> None:
        print(f"waiting for {holder}, which is fetching {self.benchmark.title}", file=sys.stderr)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise a UsageError with advice if something cannot be written.

        Failures of the network are no OSErrors here: `download` raises its own errors for them.
        """
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno in DISK_FULL:
                more = self.need - self._bytes_in_work()
                reason += f", about {amount(more)} more are needed" if more > 0 else ""
            raise UsageError(
                f"{self.data}: {reason}; mend that and the same command goes on, or choose another "
                "folder with --data"
            ) from error


def _size(source: Source) -> int | None:
    return probe(source.url, source.file) or source.size
