"""Errors that a user can fix."""


class UsageError(Exception):
    """Something the user gave cannot be used.

    The message is one line (or one screen) that names the file, key or flag, what was expected
    and what to do. The command line prints it alone, without a traceback, and exits with 2.
    """
