"""The command ``zoo campaign``: a list of long runs, carried out in the background of other work.

The list is declared in reports/campaigns/. Processes of one thread each make its runs in order, at
the lowest priority unless told otherwise. Runs under way lie below the results, where they can be
committed, so that another machine can go on with them.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from zoo.commands.definition_files import read_definition
from zoo.commands.run_set import RunSet, workspace_of
from zoo.errors import UsageError
from zoo.files import is_locked, make_folder
from zoo.registry import learner_of
from zoo.reports import records
from zoo.reports.published import counted
from zoo.reports.tables.levels import ends_of_validation, still_rises
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
from zoo.variants import format_variant, hint

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
    "longer": list,
}
STAGE_DEFAULTS = {"ways": [None], "budget": "hour", "terms": "paper", "seeds": [0], "longer": []}


@dataclass(frozen=True)
class CampaignStage:
    """Some runs of a campaign that together make a result, such as a table.

    Args:
        name: a short name, such as A.
        title: what a reader sees.
        requests: its runs, in the order in which they are made.
        longer: factors, the smallest first. A run whose accuracy on validation tasks still rose at
            its end is followed by one with so many times its updates, made anew.
    """

    name: str
    title: str
    requests: Sequence[RunRequest]
    longer: Sequence[int] = ()


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

    def make(run: Run) -> bool:
        print(f"{run_label(run)}: process {os.getpid()}", flush=True)
        succeeded = make_run(run)
        remove_if_finished(run)
        return succeeded

    status = 0
    for stage in stages:
        runs = dict(runs_of_stage(stage, run_set))
        made: set[str] = set()
        while new := [run for run in runs.values() if run is not None and run.name not in made]:
            made |= {run.name for run in new}
            for run in new:
                remove_if_finished(run)
            status |= work_through(new, make)
            runs |= longer_runs(stage, runs, run_set)
    return status


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
    return CampaignStage(name, values["title"], requests, _factors(where, values["longer"]))


def _factors(where: str, longer: Sequence[Any]) -> list[int]:
    """The factors of a stage's longer runs, the smallest first.

    Raises:
        UsageError: one is not a whole number above 1.
    """
    if not all(isinstance(factor, int) and factor > 1 for factor in longer):
        raise UsageError(f"{where}: longer: expected whole numbers above 1, not {longer!r}")
    return sorted(longer)


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


def runs_of_stage(stage: CampaignStage, run_set: RunSet) -> Iterator[tuple[RunRequest, Run | None]]:
    """The runs of a stage, in order; None for one that cannot be made, whose reason is printed."""
    for request in stage.requests:
        yield request, _planned(stage, request, run_set)


def longer_runs(
    stage: CampaignStage, runs: Mapping[RunRequest, Run | None], run_set: RunSet
) -> dict[RunRequest, Run | None]:
    """The longer runs that a stage asks for, as far as its records decide that they are needed.

    They are decided on validation alone, never by a test.

    Args:
        stage: says how much longer.
        runs: of the stage, from `runs_of_stage`; longer ones that are in it are used again.
        run_set: where they are planned.
    """
    found: dict[RunRequest, Run | None] = {}
    for request in stage.requests:
        updates, last = 0, runs[request]
        for factor in stage.longer:
            if last is None or not rose_to_its_end(last):
                break
            updates = updates or last["updates"]
            key, _, options = learner_of(request.learner)
            variant = format_variant(key, {**options, "updates": factor * updates})
            longer = replace(request, learner=variant)
            last = runs[longer] if longer in runs else _planned(stage, longer, run_set)
            found[longer] = last
    return found


def _planned(stage: CampaignStage, request: RunRequest, run_set: RunSet) -> Run | None:
    """Plan a run of a stage; if it cannot be made, print why and return None."""
    label = f"stage {stage.name}: {request.words} on {request.benchmark}"
    return run_set.try_to_add(partial(run_set.plan, request), label)[0]


def rose_to_its_end(run: Run) -> bool:
    """Whether a run has a record, by which its accuracy on validation tasks still rose."""
    try:
        record = run.record()
    except UsageError:
        return False
    if record is None or record["status"] != "done" or run.benchmark.regression:
        return False
    return still_rises(*ends_of_validation(record["validation"]))


def print_status(title: str, stages: Sequence[CampaignStage], run_set: RunSet, jobs: int) -> None:
    """Print what is done, what is under way and about how many hours are left, stage by stage.

    Args:
        title: of the campaign.
        stages: in their order.
        run_set: where the runs are planned.
        jobs: how many runs are made at the same time.
    """
    print(title, flush=True)
    estimator = Estimator.from_records_in(run_set.workspace.results)
    total = 0.0
    seen: set[str] = set()
    for stage in stages:
        pairs = dict(runs_of_stage(stage, run_set))
        pairs |= longer_runs(stage, pairs, run_set)
        runs = list(pairs.values())
        new = [run for run in runs if run and not done(run) and run.name not in seen]
        seen |= {run.name for run in new}
        seconds = estimator.pretrainings(new)
        lines = []
        for request, run in pairs.items():
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
    """Whether a run has its record, that of a failed run included."""
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
