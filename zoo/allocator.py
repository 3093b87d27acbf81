"""Memory allocation on CPU: glibc's malloc told to keep what it has.

Training allocates and frees the same large blocks at every step. By default glibc maps and unmaps
each of them, and the page faults take a third to half of a second-order MAML step.
"""

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h


def tune_allocator() -> bool:
    """Never map single blocks, never give back the top, grow by 256 MB; before the first tensor.

    Returns:
        Whether this process has glibc's mallopt and took the settings; elsewhere nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28))
    return all([mallopt(name, value) == 1 for name, value in settings])
