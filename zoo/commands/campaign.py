"""The command ``zoo campaign``: a list of long runs, carried out in the background of other work.

The list is declared in reports/campaigns/. Processes of one thread each make its runs in order, at
the lowest priority unless told otherwise. Runs under way lie below the results, where they can be
committed, so that another machine can go on with them.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from zoo.commands.definition_files import read_definition
from zoo.commands.run_set import RunSet, workspace_of
from zoo.errors import UsageError
from zoo.files import is_locked, make_folder
from zoo.reports import records
from zoo.reports.published import counted
from zoo.runs.environment import commit
from zoo.runs.estimate import Estimator
from zoo.runs.long_runs import (
    in_workers,
    lower_priority,
    progress_of,
    remove_if_finished,
    work_through,
)
from zoo.runs.make_runs import HowToRun, cores, make_run, run_label
from zoo.runs.request import BUDGETS, TERMS, RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import UNDER_WAY
from zoo.variants import hint

LOWEST_PRIORITY = 19  # as nice counts
CAMPAIGN_KEYS: dict[str, type] = {"title": str, "stages": dict}
STAGE_KEYS: dict[str, type] = {
    "title": str,
    "benchmark": str,
    "ways": list,
    "shots": list,
    "budget": str,
    "terms": str,
    "seeds": list,
    "learners": list,
}
STAGE_DEFAULTS = {"ways": [None], "budget": "hour", "terms": "paper", "seeds": [0]}


@dataclass(frozen=True)
class CampaignStage:
    """Some runs of a campaign that together make a result, such as a table.

    Args:
        name: a short name, such as A.
        title: what a reader sees.
        requests: its runs, in the order in which they are made.
    """

    name: str
    title: str
    requests: Sequence[RunRequest]


def campaign_command(options: argparse.Namespace) -> int:
    """Make the runs of a list that have no record; with ``--status``, say how far they are."""
    path, content = read_definition("campaigns", options.campaign, "campaign", CAMPAIGN_KEYS)
    stages = [
        campaign_stage(path, name, stage, options.budget)
        for name, stage in content["stages"].items()
    ]
    options.dry_run = options.status  # a dry run fetches no images
    run_set = campaign_runs(options)
    if options.status:
        print_status(content["title"], stages, run_set, jobs_of(options))
        return 0
    for folder, flag in ((run_set.workspace.results, "--results"), (options.runs, "--runs")):
        make_folder(folder, flag)
    if not options.worker:
        warn_if_uncommitted()
        try:
            return in_workers(jobs_of(options), options.threads, [*options.words, "--worker"])
        finally:
            print_status(content["title"], stages, run_set, jobs_of(options))
    lower_priority(options.nice)
    planned = [run for stage in stages for run in runs_of_stage(stage, run_set) if run is not None]

    def make(run: Run) -> bool:
        print(f"{run_label(run)}: process {os.getpid()}", flush=True)
        succeeded = make_run(run)
        remove_if_finished(run)
        return succeeded

    for run in planned:
        remove_if_finished(run)
    return work_through(planned, make)


def campaign_stage(path: Path, name: str, content: Any, budget: str | None) -> CampaignStage:
    """Read one stage of a campaign's file.

    Args:
        path: the file, for messages.
        name: the stage's name.
        content: what the file holds under that name.
        budget: takes the place of the stage's own budget unless it is None.

    Raises:
        UsageError: a key is missing, unknown or of another type.
    """
    where = f"{path}: stage {name}"
    if not isinstance(content, dict):
        raise UsageError(f"{where}: expected keys with values, such as {', '.join(STAGE_KEYS)}")
    for key in content:
        if key not in STAGE_KEYS:
            raise UsageError(f"{where}: no key {key!r}: {hint(str(key), STAGE_KEYS)}")
    values = {**STAGE_DEFAULTS, **content}
    for key in STAGE_KEYS:
        if key not in values:
            raise UsageError(f"{where}: {key} is missing")
    for key, expected_type in STAGE_KEYS.items():
        if not isinstance(values[key], expected_type):
            expected = "a text" if expected_type is str else f"a list, such as {key}: [1]"
            raise UsageError(f"{where}: {key}: expected {expected}, not {values[key]!r}")
    for key, choices in (("budget", BUDGETS), ("terms", TERMS)):
        if values[key] not in choices:
            raise UsageError(f"{where}: {key} {values[key]}: choose from {', '.join(choices)}")
    cells = itertools.product(values["shots"], values["seeds"], values["learners"], values["ways"])
    requests = [
        RunRequest(
            learner,
            values["benchmark"],
            way,
            shot,
            values["terms"],
            budget or values["budget"],
            seed,
        )
        for shot, seed, learner, way in cells
    ]
    return CampaignStage(name, values["title"], requests)


def campaign_runs(options: argparse.Namespace) -> RunSet:
    """An empty set of runs that works in the campaign's folders.

    By default the folder of runs under way lies below the results.

    Raises:
        UsageError: a folder or a number cannot be used.
    """
    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}: expected a number of at least 1")
    if not 0 <= options.nice <= LOWEST_PRIORITY:
        raise UsageError(f"--nice {options.nice}: expected a number from 0 to {LOWEST_PRIORITY}")
    options.runs = options.runs or options.results / UNDER_WAY
    options.threads = options.threads or 1
    return RunSet(workspace_of(options), HowToRun())


def jobs_of(options: argparse.Namespace) -> int:
    """How many runs are made at the same time."""
    return options.jobs or cores()


def warn_if_uncommitted() -> None:
    """Warn that tables mark the records of uncommitted code."""
    if commit()[1]:
        print(
            "the files of this checkout are not those of its commit, and every table will mark "
            "these records: commit first, or run from a clean clone",
            file=sys.stderr,
        )


def runs_of_stage(stage: CampaignStage, run_set: RunSet) -> Iterator[Run | None]:
    """The runs of a stage, in order; None for one that cannot be made, whose reason is printed."""
    for request in stage.requests:
        label = f"stage {stage.name}: {request.words} on {request.benchmark}"
        run, _ = run_set.try_to_add(partial(run_set.plan, request), label)
        yield run


def print_status(title: str, stages: Sequence[CampaignStage], run_set: RunSet, jobs: int) -> None:
    """Print what is done, what is under way and about how many hours are left, stage by stage.

    Args:
        title: of the campaign.
        stages: in their order.
        run_set: where the runs are planned.
        jobs: how many runs are made at the same time.
    """
    print(title, flush=True)
    estimator = Estimator.beside(run_set.workspace.results)
    total = 0.0
    seen: set[str] = set()
    for stage in stages:
        runs = list(runs_of_stage(stage, run_set))
        new = [run for run in runs if run and not done(run) and run.name not in seen]
        seen |= {run.name for run in new}
        seconds = estimator.pretrainings(new)
        lines = []
        for request, run in zip(stage.requests, runs, strict=True):
            text, left = state_of(run, estimator)
            lines.append(f"    {text:<38} {request.words}")
            if run in new:  # a run that stands in two stages counts once
                seconds += left
        number = sum(run is not None and done(run) for run in runs)
        summary = [f"{number} of {len(runs)} done"]
        if refused := runs.count(None):
            summary.append(f"{refused} cannot be run")
        summary.append(f"about {seconds / 3600:.1f} CPU hours left" if seconds else "nothing left")
        print(f"  {stage.name}  {stage.title}: {', '.join(summary)}", *lines, sep="\n", flush=True)
        total += seconds
    hours, many = total / 3600, counted(jobs, "job", "jobs")
    print(f"about {hours:.1f} CPU hours left, {hours / jobs:.1f} h with {many}")


def done(run: Run) -> bool:
    """Whether a run has its record."""
    return run.record_path.exists()


def state_of(run: Run | None, estimator: Estimator) -> tuple[str, float]:
    """How far a run is, in words, and about how many seconds it still needs."""
    if run is None:
        return "cannot be run", 0.0
    try:
        record = run.record()
    except UsageError as error:
        return f"cannot be read: {error}", 0.0
    if record is not None:
        return record_in_words(record, run.judged_by), 0.0
    seconds = estimator.run(run).seconds
    updates = progress_of(run)
    left = seconds * (1 - updates / run["updates"]) if run["updates"] else seconds
    hours = f"about {left / 3600:.1f} h"
    if is_locked(run.folder / "lock"):
        return f"running, update {updates} of {run['updates']}, {hours}", left
    progress = f"begun, update {updates} of {run['updates']}" if updates else "to do"
    return f"{progress}, {hours}", left


def record_in_words(record: dict[str, Any], judged_by: str) -> str:
    """The result of a run, and whether its record was damaged."""
    if record["status"] == "failed":
        return f"failed at update {record['failure']['update']}"
    mean = record["metrics"][judged_by]["mean"]
    if judged_by == "mse":
        value = "∞" if mean is None else f"{mean:.3f}"
    else:
        value = f"{100 * mean:.2f} %"
    if records.checksum_state(record) != records.HOLDS:
        return f"done, {value}, its checksum does not match"
    return f"done, {value}"
