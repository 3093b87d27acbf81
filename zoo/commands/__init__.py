"""The command line: python -m zoo list | run | table | check | new-learner | doctor | ...

What a command needs is imported when it is called, so that `list` and `--help` start at once.
Nothing else of the zoo imports this folder.
"""

import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from zoo.commands.parser import build_parser
from zoo.errors import UsageError
from zoo.runs.tune_cpu import tune_cpu


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 if a run failed, 2 for what cannot be run."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    tune_cpu()
    try:
        options, rest = build_parser().parse_known_args(words)
        options.flags, options.words = rest, words
        load_plugins(getattr(options, "plugin", None) or [])
        if rest and options.command not in ("run", "plot", "ablation"):
            raise UsageError(f"{rest[0]} is not known; see python -m zoo {options.command} --help")
        status = int(options.call(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # who read our output has gone, as in `zoo list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except UsageError as error:
        print(f"zoo: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        print(f"zoo: {error}; mend that, and the same command goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130


def load_plugins(paths: Sequence[Path]) -> None:
    """Run the files that `--plugin` names."""
    for path in paths:
        from zoo.plugin_files import load_plugin_file

        load_plugin_file(path)
