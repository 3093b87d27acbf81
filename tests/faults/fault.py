"""What is tried, and what can come of it."""

import re
from typing import Any, NamedTuple

from tests.faults.child import Ended
from tests.support.processes import ROOT
from zoo.commands.signals import STOP_LINE

# What can come of a fault. One fault may give several: two kills and an equal result.
KILL = "kills"
EQUAL = "equal"  # the result is that of an undisturbed run, bit for bit
LINE = "one-line errors"
ACCEPTED = "accepted"  # input that was tried as bad, and was taken
LOST = "lost"  # finished work is gone or done twice, or the same command does not go on
UNEQUAL = "unequal"
TRACEBACK = "tracebacks"
SKIPPED = "skipped"
OUTCOMES = (KILL, EQUAL, LINE, ACCEPTED, LOST, UNEQUAL, TRACEBACK, SKIPPED)
BAD = (LOST, UNEQUAL, TRACEBACK)  # what must not happen


class Fault(NamedTuple):
    """One thing to try: its part of the campaign, a name of its own there, and how to do it.

    Args:
        part: name of the part.
        name: what is done, in words; no two faults of a part have the same.
        how: what the part needs to know, as JSON can hold it.
    """

    part: str
    name: str
    how: dict[str, Any]


class Outcome(NamedTuple):
    """What came of a fault: words of `OUTCOMES`, and what was said or seen."""

    results: tuple[str, ...]
    said: str = ""


def skipped(why: str) -> Outcome:
    """The fault could not be tried here."""
    return Outcome((SKIPPED,), why)


def judged_line(ended: Ended) -> Outcome:
    """What a command that failed said: one line that names the fault, or something else.

    What it reports on other lines while it works is not looked at.
    """
    lines = [line for line in ended.err.splitlines() if line.startswith("zoo: ")]
    if ended.broke:
        return Outcome((TRACEBACK,), ended.err[-2000:])
    if ended.status in (1, 2) and len(lines) == 1 and not _lines_after(ended.err, lines[0]):
        return Outcome((LINE,), lines[0])
    return Outcome((LOST,), f"status {ended.status}, no single line: {ended.err[-1000:]}")


def judged_stop(ended: Ended, number: int) -> Outcome:
    """What a command said that a signal stopped: its status, and one line."""
    if ended.broke and str(ROOT) not in ended.err:
        return Outcome((), "it was Python that still began")
    if ended.broke:
        return Outcome((TRACEBACK,), ended.err[-2000:])
    if ended.status in (128 + number, -number):
        return Outcome((LINE,) if ended.err.endswith(STOP_LINE) else ())
    if ended.status == 0:
        return Outcome((), "it had ended before")
    return Outcome((LOST,), f"status {ended.status} after signal {number}: {ended.err[-1000:]}")


def joined(*outcomes: Outcome) -> Outcome:
    """What came of several steps of one fault."""
    said = "; ".join(filter(None, (outcome.said for outcome in outcomes)))
    return Outcome(tuple(word for outcome in outcomes for word in outcome.results), said)


def _lines_after(text: str, line: str) -> str:
    """What stands behind a line, without progress bars."""
    rest = text.partition(line)[2]
    return "".join(part for part in re.split(r"[\r\n]+", rest) if not re.search(r"\d+%\|", part))
