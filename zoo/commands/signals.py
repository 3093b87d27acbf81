"""Signals that stop a command: Ctrl-C, a cluster scheduler's SIGTERM, a closed terminal."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):  # code that lets Ctrl-C through lets this through too
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

    Python drops an exception that is raised in a destructor; if that happens, the signal is sent
    again. A signal that is ignored, such as SIGHUP under ``nohup``, stays ignored.

    Args:
        worker: whether this is a worker, in which a second signal does nothing. Ctrl-C reaches a
            worker both from the terminal and from its parent, and the parent kills it if it takes
            too long.

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

    def send_again(dropped: "sys.UnraisableHookArgs") -> None:
        nonlocal stopping
        if not isinstance(dropped.exc_value, Stopped):
            hook(dropped)
            return
        stopping = False
        # A moment later, as now it would be raised in this function.
        thread_and_signal = (threading.main_thread().ident, dropped.exc_value.number)
        threading.Timer(0.01, signal.pthread_kill, thread_and_signal).start()

    if threading.current_thread() is not threading.main_thread():  # only that may set handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    hook = sys.unraisablehook
    try:
        sys.unraisablehook = send_again
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, stop)
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
