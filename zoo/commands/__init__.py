"""The command line: python -m zoo list | run | table | check | new-learner | doctor | ...

What a command needs is imported when it is called, so that `list` and `--help` start at once.
Nothing else of the zoo imports this folder.
"""

import argparse
import errno
import sys
from collections.abc import Sequence
from pathlib import Path

from zoo.__main__ import register_ours
from zoo.commands.parser import build_parser, imported_command
from zoo.commands.run import run_command
from zoo.errors import UsageError
from zoo.registry import Registry, backbones, benchmarks, learners
from zoo.runs.tune_cpu import tune_cpu


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 if a run failed, 2 for what cannot be run."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    tune_cpu()
    try:
        options, rest = build_parser(list_command, run_command).parse_known_args(words)
        options.flags, options.words = rest, words
        load_plugins(getattr(options, "plugin", None) or [])
        if rest and options.command not in ("run", "plot", "ablation"):
            raise UsageError(f"{rest[0]} is not known; see python -m zoo {options.command} --help")
        return int(options.call(options, rest))
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
    """Run the plug-ins, after everything of ours is known."""
    for path in paths:
        register_ours()
        from zoo.plugin_files import load_plugin_file

        load_plugin_file(path)


def list_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Print keys, one a line, each with what it is; imports none of them."""
    if options.table or options.into:
        return imported_command("learner_commands", "table")(options, rest)
    register_ours()
    register: Registry = {"learners": learners, "benchmarks": benchmarks, "backbones": backbones}[
        options.kind
    ]
    width = max(map(len, register.names()), default=0)
    for key in register.names():
        entry = register.entries[key]
        print(f"{key:<{width}}  {entry.summary}")
    return 0
