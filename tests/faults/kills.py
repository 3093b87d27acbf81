"""SIGKILL of single runs, of all learners and their stages, once or several times in a row."""

import os
import signal
import time
from collections.abc import Sequence

import numpy as np

from tests.faults.child import Child
from tests.faults.commands import RUNS, World, begin
from tests.faults.comparing import Progress
from tests.faults.fault import KILL, TRACEBACK, Fault, Outcome, joined
from tests.faults.file_operations import at_operation

COUNT = 100


def faults(rng: np.random.Generator) -> list[Fault]:
    """Every run about as often, half of them killed at a moment and half at a file operation."""
    names: list[str] = []
    while len(names) < COUNT:
        names += [str(name) for name in rng.permutation(list(RUNS))]
    found = []
    for number, name in enumerate(names[:COUNT]):
        shares = [round(float(rng.random()), 3) for _ in range(int(rng.integers(1, 4)))]
        by = ("a moment", "a file operation")[number % 2]
        times = f"{len(shares)} times" if len(shares) > 1 else "once"
        how = {"run": name, "by": by, "shares": shares}
        found.append(Fault("kills", f"{number}: {name}, {times} at {by}", how))
    return found


def attempt(fault: Fault, world: World) -> Outcome:
    """Kill the run, and each process that goes on with it; then let it end."""
    return killed_and_gone_on(["run", *RUNS[fault.how["run"]]], fault, world)


def killed_and_gone_on(words: Sequence[object], fault: Fault, world: World) -> Outcome:
    """Kill a command at each of a fault's shares of its whole length, then let it end."""
    undisturbed = world.undisturbed(words)
    folder = world.place("tried/r")
    steps: list[Outcome] = []
    kept = Progress(folder)
    for share in fault.how["shares"]:
        kill_at = int(share * undisturbed.operations)

        def prepare(number: int = kill_at) -> None:
            if fault.how["by"] == "a file operation":
                at_operation(folder, number, lambda: os.kill(os.getpid(), signal.SIGKILL))

        child = begin(words, folder, world.folder / "tried" / "log", prepare)
        if fault.how["by"] == "a moment":
            wait_while_running(child, share * undisturbed.seconds)
            child.send(signal.SIGKILL)
        ended = child.wait()
        if ended.status == -signal.SIGKILL:
            steps.append(Outcome((KILL,)))
        if ended.broke:
            steps.append(Outcome((TRACEBACK,), ended.err[-2000:]))
        steps.append(kept.lost_since())
        kept = Progress(folder)
    return joined(*steps, world.ends_equal(words, folder), kept.lost_since())


def wait_while_running(child: Child, seconds: float) -> None:
    """Wait so long, or until the process has ended."""
    deadline = time.monotonic() + seconds
    while child.running() and time.monotonic() < deadline:
        time.sleep(0.002)
