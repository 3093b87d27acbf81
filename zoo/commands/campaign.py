"""The command ``zoo campaign``: a list of long runs, carried out in the background of other work.

The list is declared in reports/campaigns/. Runs are made in its order by processes of one thread
each, at the lowest priority unless told otherwise. What is under way lies below the results, where
it can be committed, so that another machine takes it up.
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
from zoo.runs.make_runs import HowToRun, make_run, run_label
from zoo.runs.request import BUDGETS, TERMS, RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import UNDER_WAY
from zoo.variants import hint

LOWEST_PRIORITY = 19  # as nice counts
CAMPAIGN_KEYS: dict[str, type] = {"title": str, "stages": dict}
STAGE_KEYS: dict[str, type] = {
    "title": str, "benchmark": str, "ways": list, "shots": list, "budget": str, "terms": str,
    "seeds": list, "learners": list,
}  # fmt: skip
STAGE_DEFAULTS = {"ways": [None], "budget": "hour", "terms": "paper", "seeds": [0]}


@dataclass(frozen=True)
class CampaignStage:
    """Some runs of a campaign that are a result together, such as the rows of a table.

    Args:
        name: short, such as A.
        title: for a reader.
        requests: its runs, in their order.
    """

    name: str
    title: str
    requests: Sequence[RunRequest]


def campaign_command(options: argparse.Namespace) -> int:
    """Make the runs of a list that have no record; or say how far they are."""
    path, content = read_definition("campaigns", options.campaign, "campaign", CAMPAIGN_KEYS)
    stages = [
        campaign_stage(path, name, stage, options.budget)
        for name, stage in content["stages"].items()
    ]
    options.dry_run = options.status  # which fetches no images
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
        done = make_run(run)
        remove_if_finished(run)
        return done

    for run in planned:
        remove_if_finished(run)
    return work_through(planned, make)


def campaign_stage(path: Path, name: str, content: Any, budget: str | None) -> CampaignStage:
    """One stage of a campaign's file.

    Args:
        path: of the file, for messages.
        name: of the stage.
        content: what stands there.
        budget: in place of the stage's own; None to keep that.

    Raises:
        UsageError: a key is missing, unknown or of another type.
    """
    where = f"{path}: stage {name}"
    if not isinstance(content, dict):
        raise UsageError(f"{where}: expected keys with values, such as {', '.join(STAGE_KEYS)}")
    for key in content:
        if key not in STAGE_KEYS:
            raise UsageError(f"{where}: no key {key!r}: {hint(str(key), STAGE_KEYS)}")
    for key in STAGE_KEYS:
        if key not in {**STAGE_DEFAULTS, **content}:
            raise UsageError(f"{where}: {key} is missing")
    values = {**STAGE_DEFAULTS, **content}
    for key, kind in STAGE_KEYS.items():
        if not isinstance(values.get(key), kind):
            expected = "a text" if kind is str else f"a list, such as {key}: [1]"
            raise UsageError(f"{where}: {key}: expected {expected}, not {values[key]!r}")
    for key, known in (("budget", BUDGETS), ("terms", TERMS)):
        if values[key] not in known:
            raise UsageError(f"{where}: {key} {values[key]}: choose from {', '.join(known)}")
    cells = itertools.product(values["shots"], values["seeds"], values["learners"], values["ways"])
    requests = [
        RunRequest(
            learner, values["benchmark"], way, shot, values["terms"], budget or values["budget"],
            seed,
        )
        for shot, seed, learner, way in cells
    ]  # fmt: skip
    return CampaignStage(name, values["title"], requests)


def campaign_runs(options: argparse.Namespace) -> RunSet:
    """An empty set of runs, in the folders of a campaign: by default under way below the results.

    Raises:
        UsageError: a folder or number that cannot be used.
    """
    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}: expected a number of at least 1")
    if not 0 <= options.nice <= LOWEST_PRIORITY:
        raise UsageError(f"--nice {options.nice}: expected a number from 0 to {LOWEST_PRIORITY}")
    options.runs = options.runs or options.results / UNDER_WAY
    options.threads = options.threads or 1
    return RunSet(workspace_of(options), HowToRun())


def jobs_of(options: argparse.Namespace) -> int:
    """How many runs are made at a time."""
    return options.jobs or os.cpu_count() or 1


def warn_if_uncommitted() -> None:
    """Say that records of uncommitted code are marked in every table."""
    if commit()[1]:
        print(
            "the files of this checkout are not those of its commit, and every table will mark "
            "these records: commit first, or run from a clean clone",
            file=sys.stderr,
        )


def runs_of_stage(stage: CampaignStage, run_set: RunSet) -> Iterator[Run | None]:
    """The runs of a stage, in order; None for one that cannot be run, after its reason was said."""
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
        jobs: runs at a time.
    """
    print(title, flush=True)
    estimator = Estimator.beside(run_set.workspace.results)
    total, seen = 0.0, set[str]()
    for stage in stages:
        runs = list(runs_of_stage(stage, run_set))
        new = [run for run in runs if run and not done(run) and run.name not in seen]
        seen |= {run.name for run in new}
        seconds = estimator.pretrainings(new)
        lines = []
        for request, run in zip(stage.requests, runs, strict=True):
            text, left = state_of(run, estimator)
            lines.append(f"    {text:<38} {request.words}")
            seconds += left if run in new else 0.0  # one that stands in two stages counts once
        number = sum(run is not None and done(run) for run in runs)
        said = [f"{number} of {len(runs)} done"]
        if refused := runs.count(None):
            said.append(f"{refused} cannot be run")
        said.append(f"about {seconds / 3600:.1f} CPU hours left" if seconds else "nothing left")
        print(f"  {stage.name}  {stage.title}: {', '.join(said)}", *lines, sep="\n", flush=True)
        total += seconds
    hours, many = total / 3600, counted(jobs, "job", "jobs")
    print(f"about {hours:.1f} CPU hours left, {hours / jobs:.1f} h with {many}")


def done(run: Run) -> bool:
    """Whether a run has its record."""
    return run.record_path.exists()


def state_of(run: Run | None, estimator: Estimator) -> tuple[str, float]:
    """How far a run is, in words; and about how many seconds are left."""
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
    begun = f"begun, update {updates} of {run['updates']}" if updates else "to do"
    return f"{begun}, {hours}", left


def record_in_words(record: dict[str, Any], judged_by: str) -> str:
    """What came out of a run."""
    if record["status"] == "failed":
        return f"failed at update {record['failure']['update']}"
    mean = record["metrics"][judged_by]["mean"]
    if judged_by == "mse":
        value = "∞" if mean is None else f"{mean:.3f}"
    else:
        value = f"{100 * mean:.2f} %"
    doubtful = records.checksum_state(record) != records.HOLDS
    return f"done, {value}" + (", its checksum does not hold" if doubtful else "")
