"""Errors that a user can fix."""

import errno

# Values of an OSError's `errno` which mean that the disk has no room for the file.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UsageError(Exception):
    """Something the user gave cannot be used.

    The message is one line (or one screen) that names the file, key or flag, what was expected
    and what to do. The command line prints it alone, without a traceback, and exits with 2.
    """
