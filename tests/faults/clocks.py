"""A clock that is wrong, stands still, or jumps, in the process and between two of them."""

import os
import signal
import time
from collections.abc import Callable

import numpy as np

from tests.faults.commands import QUICK, RUNS, World, begin
from tests.faults.comparing import Progress
from tests.faults.fault import KILL, TRACEBACK, Fault, Outcome, joined
from tests.faults.file_operations import at_operation

COUNT = 24
DAY, YEAR = 86400.0, 365 * 86400.0
CLOCKS: dict[str, Callable[[float, int], float]] = {  # of the true time, and of how often asked
    "a year slow": lambda now, asked: now - YEAR,
    "ten years fast": lambda now, asked: now + 10 * YEAR,
    "at its beginning, 1970": lambda now, asked: float(asked),
    "standing still": lambda now, asked: 1.7e9,
    "going backwards": lambda now, asked: 1.7e9 - asked,
    "jumping a day back after ten looks": lambda now, asked: now - DAY * (asked > 10),
    "jumping to and fro": lambda now, asked: now + DAY * (-1) ** asked,
    "beyond 2106": lambda now, asked: now + 100 * YEAR,
}


def faults(rng: np.random.Generator) -> list[Fault]:
    """Each clock with a run that is killed, and goes on under another one."""
    found = []
    for number in range(COUNT):
        clock, then = list(CLOCKS)[number % len(CLOCKS)], str(rng.choice(list(CLOCKS)))
        run, share = str(rng.choice(QUICK)), round(float(rng.random()), 3)
        how = {"clock": clock, "then": then, "run": run, "share": share}
        found.append(Fault("clocks", f"{number}: {clock}, then {then}, {run}", how))
    return found


def attempt(fault: Fault, world: World) -> Outcome:
    """Kill the run under the first clock, let it go on under the second."""
    words = ["run", *RUNS[fault.how["run"]]]
    number = int(fault.how["share"] * world.undisturbed(words).operations)
    folder, log = world.place("tried/r"), world.folder / "tried" / "log"

    def first() -> None:
        set_clock(fault.how["clock"])
        at_operation(folder, number, lambda: os.kill(os.getpid(), signal.SIGKILL))

    killed = begin(words, folder, log, first).wait()
    kept = Progress(folder)
    ended = begin(words, folder, log, lambda: set_clock(fault.how["then"])).wait()
    steps = [Outcome((KILL,)) if killed.status == -signal.SIGKILL else Outcome(())]
    steps += [Outcome((TRACEBACK,), each.err[-2000:]) for each in (killed, ended) if each.broke]
    return joined(*steps, kept.lost_since(), world.ends_equal(words, folder))


def set_clock(name: str) -> None:
    """From now on this process's time of day is that of a clock of `CLOCKS`."""
    true_time, asked = time.time, 0

    def told() -> float:
        nonlocal asked
        asked += 1
        return CLOCKS[name](true_time(), asked)

    time.time = told
    time.time_ns = lambda: int(told() * 1e9)
