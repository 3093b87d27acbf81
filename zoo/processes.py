"""Processes that train one learner together, each on its own device."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

_alone = False


def process_count() -> int:
    """The number of processes that train together; 1 inside `alone`."""
    if _alone or not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


@contextmanager
def alone() -> Iterator[None]:
    """Inside this block, this process trains without the others, as it does a stage."""
    global _alone
    before = _alone
    _alone = True
    try:
        yield
    finally:
        _alone = before


def rank() -> int:
    """The number of this process among those that train together, from 0."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0
    return distributed.get_rank()
