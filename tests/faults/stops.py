"""SIGTERM, Ctrl-C and SIGHUP, also while Python imports; SIGSTOP and SIGCONT."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from tests.faults.child import started
from tests.faults.commands import QUICK, RUNS, World, begin, goes_on, with_folders
from tests.faults.comparing import Progress
from tests.faults.fault import LOST, Fault, Outcome, joined, judged_line, judged_stop
from tests.faults.file_operations import at_operation
from tests.faults.kills import wait_while_running

COUNT = 50
SECONDS_TO_STOP = 1.0
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
WHEN = ("in the run", "at a file operation", "among the imports", "SIGSTOP", "twice")


def faults(rng: np.random.Generator) -> list[Fault]:
    """Every signal at every kind of moment, of runs that are quick."""
    found = []
    for number in range(COUNT):
        when, name = WHEN[number % len(WHEN)], list(SIGNALS)[number // len(WHEN) % len(SIGNALS)]
        run = str(rng.choice(QUICK))
        how = {"run": run, "when": when, "signal": name, "share": round(float(rng.random()), 3)}
        words = when if when == "SIGSTOP" else f"{name} {when}"
        found.append(Fault("stops", f"{number}: {words}, {run}", how))
    return found


def attempt(fault: Fault, world: World) -> Outcome:
    """Send the signal, look at what the command says, then give the same command again."""
    when, number = fault.how["when"], SIGNALS[fault.how["signal"]]
    words, share = ["run", *RUNS[fault.how["run"]]], fault.how["share"]
    undisturbed = world.undisturbed(words)
    folder, log = world.place("tried/r"), world.folder / "tried" / "log"
    sent = folder.parent / "sent"
    if when == "SIGSTOP":
        return _held(words, world, share)
    if when == "among the imports":
        child = started(with_folders(words, folder), log)
        seconds = share * 6  # importing takes about so long
    else:

        def prepare() -> None:
            if when == "at a file operation":
                act_at = int(share * undisturbed.operations)
                at_operation(folder, act_at, lambda: _note_and_send(sent, number))

        child = begin(words, folder, log, prepare)
        seconds = share * undisturbed.seconds
    if when != "at a file operation":
        wait_while_running(child, seconds)
        sent.touch()
        child.send(number)
        if when == "twice":
            time.sleep(0.01)
            child.send(number)
    stopped = joined(judged_stop(child.wait(), number), _went_on(folder, sent))
    kept = Progress(folder)
    return joined(stopped, world.ends_equal(words, folder), kept.lost_since())


def _note_and_send(sent: Path, number: int) -> None:
    """Send this process a signal, and note when."""
    sent.touch()
    os.kill(os.getpid(), number)


def _went_on(folder: Path, sent: Path) -> Outcome:
    """Whether a run still wrote its record, some time after the signal was sent."""
    for path in folder.glob("results/*.json") if sent.exists() else ():
        if path.stat().st_mtime > sent.stat().st_mtime + SECONDS_TO_STOP:
            return Outcome((LOST,), "the signal was not heeded")
    return Outcome(())


def _held(words: list[object], world: World, share: float) -> Outcome:
    """Hold a run: the same command is refused meanwhile, and then it ends as if nothing was."""
    folder = world.folder / "tried" / "r"
    child = begin(words, folder, world.folder / "tried" / "log")
    wait_while_running(child, share * world.undisturbed(words).seconds)
    said = Outcome(())
    if child.send(signal.SIGSTOP):
        time.sleep(0.05)
        refused = begin(words, folder, world.folder / "tried" / "other").wait()
        if refused.status != 0:  # else the run had its record already, or had not begun
            said = judged_line(refused)
        child.send(signal.SIGCONT)
    ended = child.wait()
    first = goes_on(ended)
    if refused_by_other(ended.err):
        first = Outcome(())
    return joined(said, first, world.ends_equal(words, folder))


def refused_by_other(text: str) -> bool:
    """Whether the held run came second: the other one had begun before it took its folder."""
    return " is in use by process" in text
