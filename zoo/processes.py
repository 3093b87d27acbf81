"""Processes that train together, each on a device of its own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

FIRST = "ZOO_FIRST_PROCESS"  # environment: the process id of the one that makes the run
_alone = False


def together() -> int:
    """How many processes train together; 1 inside `alone`."""
    if _alone or not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


@contextmanager
def alone() -> Iterator[None]:
    """What is trained inside this block is trained by this process alone, as a stage is."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def rank() -> int:
    """The number of this process among those that train together, the first one's is 0."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0
    return distributed.get_rank()


def note_first_process() -> None:
    """Let the processes that this one starts know that they help it."""
    os.environ.setdefault(FIRST, str(os.getpid()))


def started_to_help() -> bool:
    """Whether this process was started to help another one of ``zoo run``."""
    return os.environ.get(FIRST, str(os.getpid())) != str(os.getpid())
