"""SIGKILL of tables whose runs two processes share: of the parent, or of one of them."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from tests.faults.commands import SMOKE, World, begin
from tests.faults.comparing import Progress
from tests.faults.fault import KILL, LOST, TRACEBACK, Fault, Outcome, joined
from tests.faults.kills import wait_while_running
from zoo.files import is_locked

COUNT = 12
OVER = ("--shots", "5", "--jobs", 2, *SMOKE)
TABLES = {
    "four learners": (
        "table", "sinusoid", "--learners",
        "maml[updates=60] metasgd[updates=30] cnp[updates=90] anil[updates=60]", *OVER,
    ),
    "two seeds": ("table", "sinusoid", "--learners", "maml[updates=60] cnp[updates=90]",
                  "--seeds", "0 1", *OVER),
}  # fmt: skip
SECONDS_TO_END = 20  # for workers whose parent was killed


def faults(rng: np.random.Generator) -> list[Fault]:
    """Killed in the middle: in the first third the processes only begin to work."""
    found = []
    for number in range(COUNT):
        table = list(TABLES)[number % len(TABLES)]
        who = ("parent", "worker", "parent")[number % 3]
        how = {"table": table, "who": who, "share": round(float(rng.uniform(0.35, 0.95)), 3)}
        found.append(Fault("tables", f"{number}: {table}, {who} killed", how))
    return found


def attempt(fault: Fault, world: World) -> Outcome:
    """Kill a process of a table, then give the same command again."""
    words = TABLES[fault.how["table"]]
    undisturbed = world.undisturbed(words)
    folder = world.place("tried/r")
    child = begin(words, folder, world.folder / "tried" / "log")
    wait_while_running(child, fault.how["share"] * undisturbed.seconds)
    workers = _children(child.pid)
    steps = []
    if fault.how["who"] == "worker" and workers and _kill(workers[0]):
        steps.append(Outcome((KILL,)))
    if fault.how["who"] == "parent" and child.send(signal.SIGKILL):
        steps.append(Outcome((KILL,)))
    ended = child.wait()
    if ended.broke:
        steps.append(Outcome((TRACEBACK,), ended.err[-2000:]))
    if not _all_left(folder):
        steps.append(Outcome((LOST,), "workers go on without their parent"))
    kept = Progress(folder)
    return joined(*steps, world.ends_equal(words, folder), kept.lost_since())


def _children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    except OSError:
        return []


def _kill(pid: int) -> bool:
    """Kill a process, if it is there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _all_left(folder: Path) -> bool:
    """Whether no process works in a folder any more, after some seconds."""
    deadline = time.monotonic() + SECONDS_TO_END
    while any(is_locked(path) for path in folder.rglob("lock")):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
