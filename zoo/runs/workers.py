"""Processes that share the runs of a command: they end with the process that started them.

A worker holds the reading end of a pipe whose writing end its parent alone has. The system closes
that end when the parent ends, SIGKILL included, and then the worker ends too.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

PARENT_PIPE = "ZOO_PARENT_PIPE"  # environment variable of a worker: its end of the pipe
SECONDS_TO_STOP = 5.0  # of workers that are told to, before they are killed


def run_workers(
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str] | None = None,
    own_sessions: bool = False,
) -> int:
    """Run commands of the zoo at the same time, each in a process of its own.

    Whatever ends the call, Ctrl-C and errors included, the workers have ended before it does, so
    the same command can be given again at once.

    Args:
        commands: the words of each behind ``python -m zoo``.
        environment: variables that the workers have besides this process's.
        own_sessions: whether each has a session of its own, which the terminal's Ctrl-C does not
            reach; they are told to stop by this process.

    Returns:
        1 if one failed, else 0.
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
        return int(any([_wait_for(worker) for worker in workers]))
    finally:
        _stop(workers)
        os.close(reading)
        os.close(writing)


def _wait_for(worker: subprocess.Popen[bytes]) -> int:
    """The exit status of a worker, once it has ended; says so if a signal ended it."""
    status = worker.wait()
    if status < 0 or status > 128:
        print(
            f"process {worker.pid} was stopped; its run goes on from its last checkpoint when the "
            "same command is given again",
            file=sys.stderr,
        )
    return status


def _stop(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Tell the workers that still run to stop, and kill those that do not; they have ended then."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + SECONDS_TO_STOP
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(max(0.0, deadline - time.monotonic()))
        worker.kill()
        worker.wait()


def end_with_parent() -> bool:
    """From now on end as soon as the parent has, if `run_workers` started this process.

    Returns:
        Whether it did.
    """
    pipe = os.environ.pop(PARENT_PIPE, None)
    if pipe is None:
        return False
    threading.Thread(target=_end_with, args=(int(pipe),), daemon=True).start()
    return True


def _end_with(pipe: int) -> None:
    """Wait for the other end of a pipe to close, then end at once: files are whole at any time."""
    os.read(pipe, 1)  # nothing is ever written into it
    os._exit(1)
