"""Signals that stop a command: Ctrl-C, SIGTERM as of a cluster's scheduler, a closed terminal."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
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

    Python drops an exception that is raised in a destructor; then the signal is sent once more.
    Among imports it may come out as another error, of a module that is half there: after a signal
    every error is `Stopped`. A signal that is ignored, as SIGHUP under ``nohup``, stays ignored.

    Args:
        worker: whether a second signal changes nothing: Ctrl-C reaches a worker from the terminal
            and from its parent, which kills it if it takes too long.

    Raises:
        Stopped: a signal came.
    """
    stopping = 0  # the number of the signal

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = number
            raise Stopped(number)
        if not worker:
            os._exit(128 + number)

    def dropped(lost: "sys.UnraisableHookArgs") -> None:
        nonlocal stopping
        if not isinstance(lost.exc_value, Stopped):
            hook(lost)
            return
        stopping = 0
        # A moment later, else it would be raised in here.
        again = (threading.main_thread().ident, lost.exc_value.number)
        threading.Timer(0.01, signal.pthread_kill, again).start()

    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield
        return
    hook = sys.unraisablehook
    try:
        sys.unraisablehook = dropped
        with _handled_by(stop):
            yield
    except Exception:
        if stopping:
            raise Stopped(stopping) from None
        raise
    finally:
        sys.unraisablehook = hook


@contextlib.contextmanager
def _handled_by(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have the signals to stop, but for those that are ignored, call a function."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
