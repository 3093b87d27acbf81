"""The command line: python -m zoo list | run | table | check | new-learner | doctor | ...

What a command needs is imported when it is called, so that `list` and `--help` start at once.
Nothing else of the zoo imports this folder.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from zoo.commands.parser import build_parser
from zoo.commands.signals import STOP_LINE, Stopped, stoppable
from zoo.errors import DISK_FULL, UsageError
from zoo.runs.tune_cpu import tune_cpu
from zoo.runs.workers import end_with_parent, started_to_help


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, 1 if a run failed, 2 for what cannot be run; 128 and the number of the
        signal that stopped it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    worker = end_with_parent() or started_to_help()
    tune_cpu()
    for stream in (sys.stdout, sys.stderr):  # a path that is not UTF-8 is printed with escapes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with stoppable(worker):
            return call_command(words)
    except BrokenPipeError:  # nobody reads our output any more, as in `zoo list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except UsageError as error:
        print(f"zoo: {_shown(error, words)}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None and error.errno not in (*DISK_FULL, errno.EIO):
            raise
        print(f"zoo: {error}; mend that, and the same command goes on", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"zoo: out of memory: {error}; take fewer tasks at once", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        if not worker:  # the parent of a worker prints this
            print(STOP_LINE, end="", file=sys.stderr)
        return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def _shown(error: UsageError, words: Sequence[str]) -> str:
    """What an error says: in one line where a word of the command has line breaks or the like."""
    if all(word.isprintable() for word in words):
        return str(error)
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(error))


def call_command(words: Sequence[str]) -> int:
    """Call the command that the words name; returns its exit status.

    Raises:
        UsageError: the words cannot be understood, or the command cannot be run.
    """
    options, rest = build_parser().parse_known_args(words)
    options.flags, options.words = rest, words
    load_plugins(getattr(options, "plugin", None) or [])
    if rest and options.command not in ("run", "plot", "ablation", "tune"):
        raise UsageError(f"{rest[0]} is not known; see python -m zoo {options.command} --help")
    status = int(options.call(options))
    sys.stdout.flush()
    return status


def load_plugins(paths: Sequence[Path]) -> None:
    """Run the files that `--plugin` names."""
    for path in paths:
        from zoo.plugin_files import load_plugin_file

        load_plugin_file(path)
