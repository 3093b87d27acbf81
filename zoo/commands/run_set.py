"""Shared by the commands that make many runs: planning them, making them, reading them back."""

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from zoo.commands.write_jobs import write_jobs
from zoo.commands.write_table import Drawing, Output, write_table
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError
from zoo.files import check_folder_of
from zoo.learner import Learner
from zoo.registry import learner_of
from zoo.reports import records
from zoo.reports.formats.table import Table
from zoo.reports.published import counted
from zoo.reports.tables.cells import covers_episodes, runs_of
from zoo.runs.identity import later_settings
from zoo.runs.make_runs import HowToRun, execute
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.settings import constructor_defaults
from zoo.runs.workspace import Workspace
from zoo.values import DIGITS, parse_whole, shown
from zoo.variants import format_variant, parse_variant


class RunSet:
    """The runs of one command.

    `runs` holds the planned ones by name. The images of a benchmark are opened once, however many
    runs need them.
    """

    def __init__(self, workspace: Workspace, how: HowToRun) -> None:
        """Say where runs are made, and how."""
        self.workspace, self.how = workspace, how
        self.runs: dict[str, Run] = {}
        self._stores: dict[str, dict[str, Store] | UsageError] = {}
        self._screens: set[str] = set()  # reasons of more than a line, which were said

    def stores(self, benchmark: str) -> Mapping[str, Store]:
        """The stores of a benchmark, opened once.

        Raises:
            UsageError: its images are not there, or something is wrong with them.
        """
        asked = find_benchmark(benchmark)
        variant = asked.variant
        if variant not in self._stores:
            try:
                self._stores[variant] = self.workspace.open(asked)
            except UsageError as error:
                self._stores[variant] = error
        stores = self._stores[variant]
        if isinstance(stores, UsageError):
            raise stores
        return stores

    def plan(self, request: RunRequest) -> Run:
        """Plan a run without adding it to `runs`.

        Raises:
            UsageError: it cannot be run.
        """
        return Run(request, self.workspace, self.stores(request.benchmark))

    def try_to_add(self, plan: Callable[[], Run], label: str) -> tuple[Run | None, str | None]:
        """Plan a run and add it; if it cannot be run, say why on stderr.

        A reason of more than a line, such as images that were not found, is said once.

        Args:
            plan: makes the run, or raises a UsageError.
            label: names the run in the line on stderr.

        Returns:
            The run and None, or None and the reason.
        """
        try:
            return self.add(plan()), None
        except UsageError as error:
            note = f"cannot be run: {error}"
            known = note in self._screens
            self.complain(f"  {label} {'cannot be run: see above' if known else note}")
            if "\n" in note:
                self._screens.add(note)
            return None, note

    def add(self, run: Run) -> Run:
        """Add a run, unless one of that name is there already; returns the run that is there."""
        return self.runs.setdefault(run.name, run)

    def say(self, line: str) -> None:
        """Print a line, except in a worker: its parent prints the same."""
        if not self.how.worker:
            print(line, flush=True)

    def complain(self, line: str) -> None:
        """Print a line on stderr, except in a worker."""
        if not self.how.worker:
            print(line, file=sys.stderr, flush=True)

    def make(self, runs: Iterable[Run] | None = None) -> int:
        """Make the runs that have no record; with ``--write-jobs``, write down their commands.

        Args:
            runs: some runs of the set; None for all.

        Returns:
            1 if a run failed, else 0.
        """
        chosen = list(self.runs.values() if runs is None else runs)
        if self.how.write_jobs:
            return write_jobs(self.how.write_jobs, chosen, self.how.plugins)
        return execute(chosen, self.how)

    @property
    def makes_no_table(self) -> bool:
        """Whether another process or a later command makes the table."""
        return self.how.worker or self.how.write_jobs is not None

    def report(
        self,
        name: Sequence[str],
        table: Table,
        data: pd.DataFrame,
        drawing: Drawing | None = None,
    ) -> None:
        """Print the table of a command that has one, and write it with its numbers and its figure.

        Args:
            name: words that make up the names of the files.
            table: the table as text.
            data: its numbers, one a row.
            drawing: its figure, if it has one.
        """
        output = Output(self.workspace.results, name, self.how.command, self.how.dry_run)
        write_table(output, [table], {"": data}, {} if drawing is None else {"": drawing})

    def read(self) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        """The records of the runs and their measured values, as `read_records` returns them.

        Records that are damaged or belong to another run are left out; `make` has said so.
        """
        return read_records(self.workspace.results, self.recorded())

    def recorded(self) -> list[str]:
        """The names of the runs that have a valid record of their own."""
        return [name for name, run in self.runs.items() if has_record(run)]


def has_record(run: Run) -> bool:
    """Whether a run has a record that is undamaged and its own."""
    try:
        return run.record() is not None
    except UsageError:
        return False


def load_records(folder: Path, announce: bool = True) -> pd.DataFrame:
    """All records in a folder: the frame from `records.load`.

    Settings that are newer than a record are added to it, with the value that it was made with.

    Args:
        folder: of the results.
        announce: whether to say on stderr which records cannot be used.
    """
    measured, problems = records.load(folder)
    if announce:
        for problem in problems:
            print(f"  {problem}", file=sys.stderr)
    rows = [with_later_settings(row) for row in measured.to_dict("records")]
    columns = {
        name: pd.Series([row[name] for row in rows], dtype=object)
        for name in ("settings", "variant")
    }
    return measured.assign(**columns)


def with_later_settings(row: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """A record with the settings that were introduced after it was made.

    They have the value that the record was made with. Where that is no longer the default, they
    are part of its variant too.
    """
    try:
        _, cls, _ = learner_of(format_variant(row["learner"], row["variant"]))
    except UsageError:  # it belongs to a plug-in that is not loaded
        cls = Learner
    missing = {
        name: value for name, value in later_settings(cls).items() if name not in row["settings"]
    }
    defaults = {} if cls is Learner else constructor_defaults(cls)
    changed = {
        name: value
        for name, value in missing.items()
        if name in defaults and value != defaults[name].value
    }
    return {
        **row,
        "settings": {**missing, **row["settings"]},
        "variant": {**changed, **row["variant"]},
    }


def read_records(
    folder: Path, names: Collection[str]
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The records of some runs and their measured values; prints which files cannot be used.

    Args:
        folder: of the results.
        names: of the runs.

    Returns:
        The frame from `records.load`; and for each run's name a frame with a column for each metric
        and a row for each test episode.
    """
    measured = load_records(folder)
    measured = measured[measured["run"].isin(names)]
    return measured, measured_values(folder, measured)


def measured_values(folder: Path, measured: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What each run measured; prints which files cannot be used.

    Args:
        folder: of the results.
        measured: the frame from `load_records`.

    Returns:
        For each run's name a frame with a column for each metric and a row for each test episode.
    """
    values, problems = records.values(folder, measured)
    older = sum(not covers_episodes(run) for run in runs_of(measured))
    if older:
        records_are = counted(older, "record is", "records are")
        problems.append(f"{records_are} of earlier code: no checksum covers what each episode gave")
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    return values


def workspace_of(options: argparse.Namespace) -> Workspace:
    """The workspace that the command line asks for.

    Raises:
        UsageError: a folder, device, logger or callback cannot be used.
    """
    workspace = Workspace(
        options.data,
        options.results,
        options.runs or Path("runs"),
        options.device,
        options.threads or default_threads(options),
        getattr(options, "devices", 1),
        getattr(options, "logger", "csv"),
        tuple(format_variant(*parse_variant(text)) for text in getattr(options, "callback", ())),
        fetch=not getattr(options, "dry_run", False),
        yes=options.yes,
    )
    workspace.check()
    return workspace


def default_threads(options: argparse.Namespace) -> int:
    """CPU threads of each process by default: all cores, divided among the devices' processes."""
    return max(1, torch.get_num_threads() // max(1, getattr(options, "devices", 1)))


def how_to_run(options: argparse.Namespace) -> HowToRun:
    """How the command line asks to make its runs.

    Raises:
        UsageError: there is no folder for the file of commands.
    """
    if options.write_jobs is not None:
        check_folder_of(options.write_jobs, "--write-jobs")
    return HowToRun(
        options.dry_run,
        options.jobs,
        options.threads,
        options.worker,
        options.words,
        options.write_jobs,
        options.plugin or (),
        options.on == "ray",
    )


def run_set_of(options: argparse.Namespace) -> RunSet:
    """An empty set of runs with the workspace and flags of the command line."""
    return RunSet(workspace_of(options), how_to_run(options))


def parse_numbers(text: str, flag: str, least: int = 0) -> list[int]:
    """Parse ``"1 5"`` or ``"1,5"`` into [1, 5], each number once.

    Args:
        text: whole numbers.
        flag: where they are from, for the message.
        least: the smallest number allowed.

    Raises:
        UsageError: the text holds something else, or nothing.
    """
    try:
        numbers = [parse_whole(word, least) for word in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if not numbers:
        raise UsageError(
            f"{flag} {shown(text)}: expected whole numbers of at least {least} and at most "
            f'{DIGITS} digits, such as "2 5"'
        )
    return list(dict.fromkeys(numbers))
