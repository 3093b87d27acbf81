"""Full disks: a limit to the size of files, and a small file system of its own."""

import resource
import subprocess
from pathlib import Path

import numpy as np

from tests.faults.child import Ended
from tests.faults.commands import QUICK, RUNS, World, begin
from tests.faults.comparing import Progress, passes_begun
from tests.faults.fault import Fault, Outcome, joined, judged_line, skipped

COUNT = 40


def faults(rng: np.random.Generator) -> list[Fault]:
    """Sizes from a kilobyte to two megabytes, in turn as a limit and as a file system."""
    found = []
    for number in range(COUNT):
        kind, run = ("limit", "mount")[number % 2], str(rng.choice(QUICK))
        size = int(2 ** rng.uniform(10, 21))
        if kind == "mount":
            size = max(size, 16384)
        how = {"run": run, "kind": kind, "bytes": size}
        words = "files of at most" if kind == "limit" else "a disk of"
        found.append(Fault("disks", f"{number}: {words} {size:,} bytes, {run}", how))
    return found


def attempt(fault: Fault, world: World) -> Outcome:
    """Let a run meet the full disk, make room, and give the same command again."""
    words, size = ["run", *RUNS[fault.how["run"]]], fault.how["bytes"]
    world.undisturbed(words)
    subprocess.run(["umount", str(world.folder / "disk/r")], capture_output=True)  # of a kill
    folder, log = world.place("disk/r"), world.folder / "disk" / "log"
    if fault.how["kind"] == "limit":
        ended = begin(words, folder, log, lambda: _limit(size)).wait()
        return _gone_on(words, ended, folder, world)
    if not _mount(folder, size):
        return skipped("no right to mount a file system")
    try:
        ended = begin(words, folder, log).wait()
        _mount(folder, 2**28, "remount")
        return _gone_on(words, ended, folder, world)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _gone_on(words: list[object], ended: Ended, folder: Path, world: World) -> Outcome:
    first = Outcome((), "there was room") if ended.status == 0 else judged_line(ended)
    kept = Progress(folder)
    last = world.ends_equal(words, folder)
    return joined(first, last, kept.lost_since(), passes_begun(folder))


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _mount(folder: Path, size: int, *options: str) -> bool:
    """Mount a file system in memory of so many bytes on a folder; whether that was allowed."""
    given = ",".join([*options, f"size={size}"])
    command = ["mount", "-t", "tmpfs", "-o", given, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0
