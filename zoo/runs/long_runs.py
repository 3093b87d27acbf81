"""A list of runs, carried out in its order by several processes and taken up again."""

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

CLAIMS = "ZOO_CLAIMS"  # environment variable of a worker: folder with a file a run that was taken


def next_run(runs: Sequence[Run], tried: set[str]) -> Run | None:
    """The first run of the list that nobody works on; None where there is none.

    A run that waits for a pre-training in another process comes last.

    Args:
        runs: in their order.
        tried: names of those that are not to be tried again.
    """
    waiting = None
    for run in runs:
        busy = is_locked(run.folder / "lock")
        if run.name in tried or run.record_path.exists() or busy:
            continue
        if not waits(run):
            return run
        waiting = waiting or run
    return waiting


def waits(run: Run) -> bool:
    """Whether a stage of a run is being made by another process."""
    return any(
        is_locked(staging.folder / "lock") and read_stage(staging.folder) is None
        for staging in run.stages
    )


def work_through(runs: Sequence[Run], make: Callable[[Run], bool]) -> int:
    """Make every run of a list that has no record and that no other process makes.

    One that fails is not tried again, neither here nor by the other processes of `in_workers`.

    Args:
        runs: in their order.
        make: makes a run; whether it did not fail.

    Returns:
        1 if one failed, else 0.
    """
    tried: set[str] = set()
    failed = False
    while (run := next_run(runs, tried)) is not None:
        tried.add(run.name)
        if claim(run.name):
            with contextlib.suppress(InUseError):  # a process of another command was faster
                failed |= not make(run)
    return int(failed)


def claim(name: str) -> bool:
    """Take a run for this process; False where another one of `in_workers` has taken it."""
    if (folder := os.environ.get(CLAIMS)) is None:
        return True
    try:
        (Path(folder) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def remove_if_finished(run: Run) -> None:
    """Remove what a run with a record kept for being resumed."""
    if run.record_path.exists() and not is_locked(run.folder / "lock"):
        shutil.rmtree(run.folder, ignore_errors=True)


def progress_of(run: Run) -> int:
    """Updates that a run has made as far as its last checkpoint knows."""
    try:
        return updates_in(run.folder / "last.ckpt")
    except (FileNotFoundError, DamagedError):  # not begun, finished a moment ago, or made anew
        return 0


def lower_priority(nice: int) -> None:
    """Leave the processor to whatever else wants it, where the system knows how.

    Linux shares it between sessions before it looks at nice values, so the session has one too.

    Args:
        nice: 19 for the lowest priority, 0 for the usual one.
    """
    with contextlib.suppress(OSError):
        os.nice(nice)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(nice))


def in_workers(jobs: int, threads: int, words: Sequence[str]) -> int:
    """Run a command of the zoo in several processes, which share its runs; 1 if one failed, else 0.

    Each has a session of its own, so that its priority is its own. At this priority they may take
    long to stop by themselves: `run_workers` kills them then, and a kill loses no more than half a
    minute of training.

    Args:
        jobs: how many.
        threads: of each.
        words: behind ``python -m zoo``.
    """
    with tempfile.TemporaryDirectory() as claims:
        variables = {"OMP_NUM_THREADS": str(threads), CLAIMS: claims}
        return run_workers([words] * jobs, variables, own_sessions=True)
