"""Commands of the zoo as processes that can be disturbed.

Importing the zoo takes some seconds. `forked` saves them: the campaign has imported it, and the
child calls the command at once. What may come during the imports needs a Python of its own
(`started`).
"""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import ROOT
from zoo.commands import main

SECONDS = 300  # that a command may take before it counts as hanging


class Ended(NamedTuple):
    """How a process ended: its status, less than 0 for the signal that killed it, and its output.

    The status is None where it did not end in time, and was killed for that.
    """

    status: int | None
    out: str
    err: str

    @property
    def broke(self) -> bool:
        """Whether it ended, or reported, with a traceback."""
        return "Traceback (most recent call last)" in self.err + self.out


class Child:
    """A process with a session of its own, whose output goes to files."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self._log = pid, log
        self._status: int | None = None

    def running(self) -> bool:
        """Whether it has not ended yet."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is None

    def send(self, number: int) -> bool:
        """Send it a signal; whether it still ran."""
        if self.running():
            os.kill(self.pid, number)
            return True
        return False

    def wait(self, seconds: float = SECONDS) -> Ended:
        """Wait for its end; kill it, and all it has started, where that does not come."""
        deadline = time.monotonic() + seconds
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.005)
        hangs = self.running()
        if hangs:
            os.killpg(self.pid, signal.SIGKILL)
            while self.running():
                time.sleep(0.005)
        out, err = (_text(self._log.with_suffix(end)) for end in (".out", ".err"))
        return Ended(None if hangs else self._status, out, err)


def forked(words: Sequence[object], log: Path, prepare: Callable[[], None] | None = None) -> Child:
    """Run a command of the zoo in a copy of this process.

    Args:
        words: of the command.
        log: its output goes into files of this name that end in .out and .err.
        prepare: called in the child before the command.
    """
    files = [_opened(log.with_suffix(end)) for end in (".out", ".err")]
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        for file in files:
            os.close(file)
        return Child(pid, log)
    status = 1
    try:
        os.setsid()
        for number, file in enumerate(files, 1):
            os.dup2(file, number)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as `zoo.__main__` does
        if prepare is not None:
            prepare()
        status = main([str(word) for word in words])
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def started(words: Sequence[object], log: Path) -> Child:
    """Run ``python -m zoo`` with these words, in a Python of its own."""
    with log.with_suffix(".out").open("wb") as out, log.with_suffix(".err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", *map(str, words)],
            cwd=ROOT,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    process.returncode = 0  # it is waited for here, not by subprocess
    return Child(process.pid, log)


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
