"""Cells of a table that have no run: a row for each, the reason, and the command that fills it."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of
from zoo.reports.published import counted
from zoo.reports.records import FIELDS
from zoo.reports.tables.cells import MISSING
from zoo.runs.estimate import Estimator
from zoo.runs.request import RunRequest
from zoo.runs.resolved import resolve_request
from zoo.runs.run import Run

DEFAULT_RESULTS = Path("results")  # of `zoo run`
LONG_RUN_SECONDS = 10 * 3600  # on a CPU; longer runs are said to need a GPU


def missing_row(request: RunRequest, why: str) -> dict[str, Any]:
    """A row, as `zoo.reports.records.load` makes one from a record, for a run that has no record.

    It holds what can be known without the data, which suffices to find the published number.
    """
    key, cls, overrides = learner_of(request.learner)
    row: dict[str, Any] = dict.fromkeys(FIELDS)
    row.update(
        run="",
        status=MISSING,
        failure=why,
        learner=key,
        variant=overrides,
        title=cls.title or key,
        benchmark=find_benchmark(request.benchmark).variant,
        way=request.way,
        shot=request.shot,
        seed=request.seed,
        terms=request.terms,
        budget=request.budget,
        settings={},
        transductive=False,
        backbone_family=None,
    )
    try:
        resolved = resolve_request(request)
        backbone, learner = resolved.build()
    except UsageError:
        return row
    row.update(
        settings=resolved.values,
        variant=resolved.changed,
        remark=learner.remark or None,
        backbone_family=resolved.family_of(backbone),
        transductive=learner.traits()["transductive"],
        batch_norm=learner.batch_norm,
        episodes=resolved.values["test_episodes"],
    )
    return row


def reason_missing(run: Run, estimator: Estimator) -> str:
    """Why a run that could be planned has no record."""
    if run.error_path.exists():
        return f"broke: {run.error_path} says why"
    on_cpu = run.workspace.device_kind == "cpu"
    if on_cpu and estimator.run(run).seconds > LONG_RUN_SECONDS:
        return "not run: no GPU, and long on a CPU"
    return "not run"


def results_flag(results: Path) -> list[str]:
    """The flag that names the folder of the results; empty for the default folder."""
    return [] if results == DEFAULT_RESULTS else ["--results", str(results)]


def commands_for_missing(
    gaps: Mapping[RunRequest, str], runs: Mapping[RunRequest, Run], estimator: Estimator
) -> Iterable[str]:
    """Lines that say why runs are missing, and the commands that make them.

    Runs that no command can make share a line with those of the same reason.

    Args:
        gaps: why each run has no record.
        runs: the runs that could be planned.
        estimator: says how long they take.
    """
    by_reason: dict[str, list[str]] = {}
    for request, why in gaps.items():
        if request in runs and not why.startswith("broke"):
            run = runs[request]
            seconds = estimator.run(run).seconds + estimator.pretrainings([run])
            hours, minutes = divmod(round(seconds / run.workspace.threads / 60), 60)
            threads = counted(run.workspace.threads, "thread", "threads")
            time = f"{hours} h {minutes} min" if hours else f"{max(minutes, 1)} min"
            data = ["--data", str(run.workspace.data)] if run.benchmark.forms else []
            command = shlex.join([*request.command, *data, *results_flag(run.workspace.results)])
            yield f"– {request.words}: {why}; about {time} on {threads}: {command}"
        else:
            by_reason.setdefault(why, []).append(request.words)
    for why, cells in by_reason.items():
        yield f"– {', '.join(cells)}: {why}"
