"""Making the most of a CPU: settings of glibc's malloc and of OpenMP, before torch is imported."""

import ctypes
import os

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
SPINS = "10000"  # about 30 microseconds


def tune_cpu() -> bool:
    """Let malloc keep its memory, and idle threads sleep soon.

    Training frees and allocates the same large blocks at every step; by default glibc gives each
    back to the system, and the page faults take a third to half of a second-order MAML step. And
    a waiting OpenMP thread by default spins for milliseconds: where another process needs the
    core, the thread that is waited for cannot run meanwhile.

    Returns:
        Whether glibc's malloc took the settings; elsewhere that part does nothing.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28))
    return all([mallopt(name, value) == 1 for name, value in settings])
