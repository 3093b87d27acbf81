"""Image sets fetched from a server on this machine: kills, and a connection that breaks off."""

import csv
import io
import os
import signal
import tarfile
from pathlib import Path

import numpy as np

from tests.faults.child import Child, forked
from tests.faults.commands import World, goes_on
from tests.faults.comparing import compared
from tests.faults.fault import EQUAL, KILL, Fault, Outcome, joined
from tests.faults.file_operations import at_operation, count_operations
from tests.faults.kills import wait_while_running
from tests.support.fileserver import FileServer, serving

COUNT = 24
FILE, FORM = "cifar-100-python.tar.gz", "CIFAR-100 python version"
SECONDS = 0.7  # about, of a whole fetch


def faults(rng: np.random.Generator) -> list[Fault]:
    """Kills at a moment, at a file operation, and after the server has cut the connection."""
    found = []
    for number in range(COUNT):
        by = ("a file operation", "a moment", "a cut of the connection")[number % 3]
        how = {"by": by, "share": round(float(rng.random()), 3)}
        found.append(Fault("fetches", f"{number}: a fetch, at {by}", how))
    return found


def attempt(fault: Fault, world: World) -> Outcome:
    """Disturb a fetch, then give the same command again."""
    with serving() as server:
        server.files[FILE] = _archive(world)
        whole = world.place("tried/whole")
        count = world.folder / "tried" / "operations"
        count.unlink(missing_ok=True)
        _fetch(whole, server, world, lambda: count_operations(whole, count)).wait()
        folder, share, by = world.place("tried/r"), fault.how["share"], fault.how["by"]
        if by == "a cut of the connection":
            server.cuts = [int(share * len(server.files[FILE])), 1, 1, 1, 1]

        def prepare() -> None:
            if by == "a file operation":
                number = int(share * count.stat().st_size)
                at_operation(folder, number, lambda: os.kill(os.getpid(), signal.SIGKILL))

        child = _fetch(folder, server, world, prepare)
        wait_while_running(child, SECONDS * share if by == "a moment" else 60)
        child.send(signal.SIGKILL)
        killed = child.wait().status == -signal.SIGKILL
        server.cuts = []
        last = goes_on(_fetch(folder, server, world, lambda: None).wait())
    outcome = last if last.results else compared(_files(whole), _files(folder))
    return joined(
        Outcome((KILL,) if killed else ()),
        outcome if outcome.results else Outcome((EQUAL,)),
    )


def _archive(world: World) -> bytes:
    """A small CIFAR-100, as it is published."""
    from tests.datasets.readers.test_readers import write_cifar

    write_cifar(world.place("tried/served") / "cifar-100-python")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        archive.add(world.folder / "tried" / "served" / "cifar-100-python", "cifar-100-python")
    return buffer.getvalue()


def _fetch(folder: Path, server: FileServer, world: World, prepare) -> Child:
    """Begin to fetch the set; the server stands where the publisher's would."""
    from tests.datasets.readers.test_readers import FEW

    addresses = world.folder / "tried" / "addresses.csv"
    with addresses.open("w", newline="") as file:
        columns = "benchmark form file url about_mb unpacked_mb store_mb md5 md5_elsewhere".split()
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        url = f"{server.url}/{FILE}"
        writer.writerow({"benchmark": "cifarfs", "form": FORM, "file": FILE, "url": url})

    def prepare_all() -> None:
        import zoo.datasets.fetching.addresses
        import zoo.datasets.fetching.download
        from zoo.datasets.benchmarks.image_sets import CifarFs

        CifarFs.per_class = FEW
        zoo.datasets.fetching.addresses.ADDRESSES = addresses
        zoo.datasets.fetching.download.PAUSE = 0
        os.environ["ZOO_STORE"] = str(world.folder / "tried" / "stores")
        for name in ("http_proxy", "https_proxy"):
            os.environ.pop(name, None)
        prepare()

    words = ["fetch", "cifarfs", "--data", folder]
    return forked(words, world.folder / "tried" / "log", prepare_all)


def _files(folder: Path) -> dict[str, str]:
    """What lies in the data folder, by path; nothing of what was under way may be left."""
    return {
        str(path.relative_to(folder)): path.read_bytes().hex()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }
