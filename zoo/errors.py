"""Errors that a user can fix."""

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # numbers of an OSError: there is no room


class UsageError(Exception):
    """Something the user gave cannot be used.

    The message is one line (or one screen) that names the file, key or flag, what was expected
    and what to do. The command line prints it alone, without a traceback, and exits with 2.
    """
