"""Worker processes, which share the runs of a command and end when their parent ends.

A worker holds the reading end of a pipe, and only its parent has the writing end. The system closes
that end when the parent ends, even by SIGKILL, and then the worker ends too.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

FIRST = "ZOO_FIRST_PROCESS"  # environment variable: the id of the process that makes the run
PARENT_PIPE = "ZOO_PARENT_PIPE"  # environment variable of a worker: its end of the pipe
SECONDS_TO_STOP = 5.0  # workers that are told to stop are killed after this time


def run_workers(
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str] | None = None,
    own_sessions: bool = False,
) -> int:
    """Run commands of the zoo at the same time, each in its own process.

    The workers have always ended when this function ends, even by Ctrl-C or an error, so the same
    command can be given again at once.

    Args:
        commands: the words of each command, without ``python -m zoo``.
        environment: variables that the workers have in addition to those of this process.
        own_sessions: whether each worker has its own session. The terminal's Ctrl-C does not reach
            it then, but this process tells it to stop.

    Returns:
        1 if a worker failed, else 0.
    """
    reading, writing = os.pipe()
    variables = {**os.environ, **(environment or {}), PARENT_PIPE: str(reading)}
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for words in commands:
            worker = subprocess.Popen(
                [sys.executable, "-m", "zoo", *words],
                env=variables,
                pass_fds=(reading,),
                start_new_session=own_sessions,
            )
            workers.append(worker)
        statuses = [_wait_for(worker) for worker in workers]
        return int(any(statuses))
    finally:
        _stop(workers)
        os.close(reading)
        os.close(writing)


def _wait_for(worker: subprocess.Popen[bytes]) -> int:
    """Wait for a worker to end; returns its exit status, and prints a line if a signal ended it."""
    status = worker.wait()
    if status < 0 or status > 128:
        print(
            f"process {worker.pid} was stopped; its run goes on from its last checkpoint when the "
            "same command is given again",
            file=sys.stderr,
        )
    return status


def _stop(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Tell all workers to stop, and kill those that do not; returns when all have ended."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + SECONDS_TO_STOP
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(max(0.0, deadline - time.monotonic()))
        worker.kill()
        worker.wait()


def end_with_parent() -> bool:
    """Let this process end as soon as its parent ends, if `run_workers` started it.

    Returns:
        Whether `run_workers` started it.
    """
    pipe = os.environ.pop(PARENT_PIPE, None)
    if pipe is None:
        return False
    threading.Thread(target=_end_with, args=(int(pipe),), daemon=True).start()
    return True


def _end_with(pipe: int) -> None:
    """Wait until the other end of a pipe is closed, then exit; files are whole at any time."""
    os.read(pipe, 1)  # nothing is ever written into it
    os._exit(1)


def note_first_process() -> None:
    """Tell the processes that this one will start that they are its helpers."""
    os.environ.setdefault(FIRST, str(os.getpid()))


def started_to_help() -> bool:
    """Whether another process of ``zoo run`` started this one as a helper."""
    return os.environ.get(FIRST, str(os.getpid())) != str(os.getpid())
