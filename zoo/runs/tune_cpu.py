"""Settings of glibc's malloc and of OpenMP that make training on a CPU faster."""

import ctypes
import os

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
SPINS = "10000"  # about 30 microseconds


def tune_cpu() -> bool:
    """Let malloc keep its memory, and idle threads sleep soon; call it before torch is imported.

    Training frees and allocates the same large blocks at every step. By default glibc gives each
    back to the system, and the page faults take a third to half of a second-order MAML step. A
    waiting OpenMP thread spins for milliseconds by default; if another process needs the core, the
    thread that it waits for cannot run meanwhile.

    Returns:
        Whether malloc took the settings; only glibc's does.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
    all_taken = True
    for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28)):
        if mallopt(name, value) != 1:
            all_taken = False
    return all_taken
