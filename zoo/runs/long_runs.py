"""Several processes carry out a list of runs in its order, and go on with what was begun."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from zoo.files import DamagedError, InUseError, is_locked
from zoo.runs.checkpoints import updates_in
from zoo.runs.run import Run
from zoo.runs.stages import read_stage
from zoo.runs.workers import run_workers

CLAIMS = "ZOO_CLAIMS"  # environment variable: a folder in which workers make a file for each run


def next_run(runs: Sequence[Run], tried: set[str]) -> Run | None:
    """The first run that has no record and that nobody works on; None if there is none.

    Runs that must wait for a stage in another process come last.

    Args:
        runs: in their order.
        tried: names of runs that are not to be tried again.
    """
    first_waiting = None
    for run in runs:
        if run.name in tried or run.record_path.exists() or is_locked(run.folder / "lock"):
            continue
        if not waits(run):
            return run
        if first_waiting is None:
            first_waiting = run
    return first_waiting


def waits(run: Run) -> bool:
    """Whether another process is training a stage of a run."""
    return any(
        is_locked(staging.folder / "lock") and read_stage(staging.folder) is None
        for staging in run.stages
    )


def work_through(runs: Sequence[Run], make: Callable[[Run], bool]) -> int:
    """Make every run of a list that has no record and that no other process makes.

    A run that fails is not tried again, neither here nor in the other processes of `in_workers`.

    Args:
        runs: in their order.
        make: makes a run, and returns whether it succeeded.

    Returns:
        1 if a run failed, else 0.
    """
    tried: set[str] = set()
    failed = False
    while (run := next_run(runs, tried)) is not None:
        tried.add(run.name)
        if claim(run.name):
            with contextlib.suppress(InUseError):  # a process of another command was faster
                if not make(run):
                    failed = True
    return int(failed)


def claim(name: str) -> bool:
    """Take a run for this process; returns False if another worker has taken it."""
    if (folder := os.environ.get(CLAIMS)) is None:
        return True
    try:
        (Path(folder) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def remove_if_finished(run: Run) -> None:
    """Remove the checkpoints and logs of a run that has its record."""
    if run.record_path.exists() and not is_locked(run.folder / "lock"):
        shutil.rmtree(run.folder, ignore_errors=True)


def progress_of(run: Run) -> int:
    """How many updates a run has made, according to its last checkpoint."""
    try:
        return updates_in(run.folder / "last.ckpt")
    except (FileNotFoundError, DamagedError):  # not begun, just finished, or to be made anew
        return 0


def lower_priority(nice: int) -> None:
    """Leave the processor to other work, if the system can do that.

    Linux shares the processor between sessions before it looks at the nice values of processes,
    so the session gets the value too.

    Args:
        nice: 19 for the lowest priority, 0 for the usual one.
    """
    with contextlib.suppress(OSError):
        os.nice(nice)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(nice))


def in_workers(jobs: int, threads: int, words: Sequence[str]) -> int:
    """Run a command of the zoo in several processes, which share its runs.

    Each process has its own session, and thus its own priority. At a low priority it may take long
    to stop; then `run_workers` kills it, which loses at most half a minute of training.

    Args:
        jobs: the number of processes.
        threads: of each.
        words: the command, without ``python -m zoo``.

    Returns:
        1 if a process failed, else 0.
    """
    with tempfile.TemporaryDirectory() as claims:
        variables = {"OMP_NUM_THREADS": str(threads), CLAIMS: claims}
        return run_workers([words] * jobs, variables, own_sessions=True)
