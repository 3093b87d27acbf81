"""Signals that stop a command: Ctrl-C, SIGTERM as of a cluster's scheduler, a closed terminal."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_LINE = "\nstopped; the same command goes on\n"  # what a command says then, on stderr


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

    Among imports an exception would come out as another error, of a module that is half there, or
    as an abort of PyTorch's: there the first signal ends the process at once, which harms no file.
    Python drops an exception that is raised in a destructor; then the signal is sent once more. An
    error that comes out of what was interrupted is `Stopped` too. A signal that is ignored, as
    SIGHUP under ``nohup``, stays ignored.

    Args:
        worker: whether this is a worker, in which a second signal does nothing. Ctrl-C reaches a
            worker both from the terminal and from its parent, and the parent kills it if it takes
            too long.

    Raises:
        Stopped: a signal came.
    """
    stopping = 0  # the number of the signal
    imports = _imports_under_way(sys._getframe())

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping and _imports_under_way(frame) > imports:
            os.write(2, b"" if worker else STOP_LINE.encode())
            os._exit(128 + number)
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


def _imports_under_way(frame: FrameType | None) -> int:
    """How many calls of Python's import there are among a frame and those that led to it."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        frame = frame.f_back
    return count


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
