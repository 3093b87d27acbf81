"""Signals that stop a command: Ctrl-C, SIGTERM as of a cluster's scheduler, a closed terminal."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):  # so that whatever lets Ctrl-C through lets this through
    """A signal told this process to stop.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def stoppable(worker: bool = False) -> Iterator[None]:
    """Raise `Stopped` where the program is when a signal to stop comes; a second one exits at once.

    A signal that is ignored, as SIGHUP under ``nohup``, stays ignored.

    Args:
        worker: whether a second signal changes nothing: Ctrl-C reaches a worker from the terminal
            and from its parent, which kills it if it takes too long.

    Raises:
        Stopped: a signal came.
    """
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            raise Stopped(number)
        if not worker:
            os._exit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
