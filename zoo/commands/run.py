"""The command ``zoo run``: makes one run, or shows the settings that it would have."""

import argparse
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.commands.run_help import full_help, short_help
from zoo.commands.run_set import workspace_of
from zoo.errors import UsageError
from zoo.files import read_yaml
from zoo.registry import learner_of
from zoo.runs.make_runs import execute
from zoo.runs.request import RunRequest
from zoo.runs.resolved import resolve_request
from zoo.runs.run import Run
from zoo.runs.settings import learner_variant, parse_flags, parse_values
from zoo.runs.workers import started_to_help


def plan_run(options: argparse.Namespace) -> Run:
    """Plan the run that the command line asks for."""
    return Run(run_request(options), workspace_of(options))


def run_request(options: argparse.Namespace) -> RunRequest:
    """Parse the command line into a request.

    Raises:
        UsageError: a setting is unknown, or its value has the wrong type.
    """
    _, learner, _ = learner_of(options.learner)
    return RunRequest(
        learner_variant(options.learner),
        options.benchmark,
        options.way,
        options.shot,
        options.terms,
        options.budget,
        options.seed,
        config=parse_values(learner, read_config(options.config), str(options.config)),
        flags=parse_flags(learner, options.flags),
    )


def read_config(path: Path | None) -> Mapping[str, Any]:
    """Read settings from a YAML file of ``name: value`` lines; none if there is no file.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    if path is None:
        return {}
    content = read_yaml(path, f"--config {path}")
    if not isinstance(content, dict):
        raise UsageError(f"--config {path}: expected lines of the form `setting: value`")
    return content


def run_command(options: argparse.Namespace) -> int:
    """Train, test and record one run, and print its result."""
    if options.help or options.help_all:
        text = full_help if options.help_all else short_help
        print(text(options.parser, resolve_request(run_request(options))))
        return 0
    if started_to_help():  # only the first process of several devices prints
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            return execute([plan_run(options)])
    return execute([plan_run(options)])
