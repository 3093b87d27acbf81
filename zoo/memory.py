"""How much memory this machine has. What needs more is refused before it starts."""

import contextlib
import os
from functools import cache
from pathlib import Path

from zoo.errors import UsageError

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of the container that this process is in


@cache
def memory_bytes() -> int:
    """Bytes of memory that this process may use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # the file has "max" if there is no limit
        memory = min(memory, int(CGROUP_LIMIT.read_text()))
    return memory


def check_memory(need: float, subject: str, advice: str) -> None:
    """Refuse what does not fit into the memory of this machine.

    Args:
        need: bytes that are needed at least.
        subject: what needs them, such as ``--meta_batch 4096``.
        advice: what to do.

    Raises:
        UsageError: says how much is needed, and how much there is.
    """
    if need > memory_bytes():
        raise UsageError(
            f"{subject}: needs at least {need / 1e9:,.0f} GB of memory, and this machine has "
            f"{memory_bytes() / 1e9:,.0f} GB; {advice}"
        )
