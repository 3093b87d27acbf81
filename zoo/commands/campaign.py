"""What the commands that make many runs share."""

import argparse
import os
from collections.abc import Iterator

import torch

from zoo.errors import UsageError
from zoo.runs.plan import Workspace


def workspace_of(options: argparse.Namespace) -> Workspace:
    """Where the command line says to work.

    Raises:
        UsageError: a folder or device that cannot be used.
    """
    most = max(os.cpu_count() or 1, 64)
    if options.threads is not None and not 1 <= options.threads <= most:
        raise UsageError(f"--threads {options.threads}: expected a number from 1 to {most}")
    place = Workspace(
        options.data,
        options.results,
        options.runs,
        options.device,
        options.threads or torch.get_num_threads(),
        fetch=not getattr(options, "dry_run", False),
        yes=options.yes,
    )
    place.kind  # noqa: B018  (raises for a device that is not there)
    return place


def parse_numbers(text: str, flag: str) -> Iterator[int]:
    """``"1 5"`` or ``"1,5"`` -> 1, 5.

    Raises:
        UsageError: something else.
    """
    words = text.replace(",", " ").split()
    if not words or not all(word.isdigit() for word in words):
        raise UsageError(f'{flag} {text!r}: expected whole numbers, such as "1 5"')
    return map(int, words)
