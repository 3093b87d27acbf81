"""The command ``zoo paper``: the table of a paper, with our numbers beside the published ones.

The tables are declared in reports/papers/.
"""

import argparse
import itertools
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from zoo.commands.missing_cells import results_flag
from zoo.commands.paper_file import Paper, load_paper
from zoo.commands.run_set import (
    RunSet,
    load_records,
    measured_values,
    parse_numbers,
    run_set_of,
)
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.reports import published
from zoo.reports.published import counted
from zoo.reports.tables.paper import (
    TRAINED_BUDGETS,
    best_runs,
    fitting_runs,
    paper_csv_frame,
    paper_numbers,
    paper_table,
)
from zoo.runs.estimate import Estimator
from zoo.runs.request import RunRequest
from zoo.runs.workspace import Workspace

COMMANDS_SHOWN = 6  # of cells that were not run


def paper_command(options: argparse.Namespace) -> int:
    """Print and write the table; with ``--run``, make the missing runs before."""
    if options.budget == "none":
        raise UsageError("--budget none: these are trained; choose from smoke, quick, paper")
    definition = load_paper(options.paper)
    seeds = parse_numbers(options.seeds or "0", "--seeds")
    run_set = run_set_of(options)
    status = 0
    if options.run or options.dry_run:
        status = make_missing_runs(definition, options.budget, seeds, run_set)
    if run_set.makes_no_table:
        return status
    measured = load_records(options.results)
    runs = fitting_runs(definition.cells, measured)
    names: list[str] = []  # the runs of cells that are a mean of several
    for fitting in runs:
        chosen, _ = best_runs(fitting)
        if len(chosen) > 1:
            names += [run["run"] for run in chosen]
    values = measured_values(options.results, measured[measured["run"].isin(names)])
    numbers = paper_numbers(definition.cells, runs, values, published.published())
    run_set.report(
        ["paper", Path(options.paper).stem],
        paper_table(numbers, definition.title, definition.caption, definition.notes),
        paper_csv_frame(numbers),
    )
    for line in missing_cells_text(definition, numbers, options.budget, run_set.workspace):
        print(line)
    return status


def make_missing_runs(definition: Paper, budget: str, seeds: Sequence[int], run_set: RunSet) -> int:
    """Make the missing runs with this budget; returns 1 if one cannot be made or fails, else 0."""
    measured = load_records(run_set.workspace.results, announce=False)
    enough = TRAINED_BUDGETS[: TRAINED_BUDGETS.index(budget) + 1]
    refusals: list[str] = []
    runs_by_cell = fitting_runs(definition.cells, measured)
    cells = zip(definition.cells.to_dict("records"), runs_by_cell, strict=True)
    for (cell, runs), seed in itertools.product(cells, seeds):
        if cell["variant"] is None or cell["benchmark"] is None:
            continue
        if any(run["budget"] in enough and run["seed"] == seed for run in runs):
            continue
        request = RunRequest(
            cell["variant"], cell["benchmark"], cell["way"], cell["shot"], "paper", budget, seed
        )
        try:
            run_set.add(run_set.plan(request))
        except UsageError as error:
            reason = str(error).splitlines()[0]
            refusals.append(f"{request.learner} on {request.benchmark}: {reason}")
    for text in dict.fromkeys(refusals):
        run_set.complain(f"  cannot be run: {text}")
    status = int(bool(refusals))
    if not run_set.runs:
        run_set.say("Nothing is missing that can be run.")
        return status
    return run_set.make() | status


def missing_cells_text(
    definition: Paper, numbers: pd.DataFrame, budget: str, workspace: Workspace
) -> list[str]:
    """Why cells of ours are empty, by reason, and the commands that fill them.

    Args:
        definition: the table.
        numbers: what `paper_numbers` returned for it.
        budget: the budget that the commands name.
        workspace: the commands name its folders of data and results.
    """
    reasons: Counter[str] = Counter()
    seconds: dict[str, float] = {}  # by command
    estimator = Estimator.from_records_in(workspace.results)
    pretraining_note = ""

    @cache  # a folder of many files takes long to look through
    def has_images(name: str) -> bool:
        benchmark = find_benchmark(name)
        return not benchmark.forms or next(benchmark.found(workspace.data), None) is not None

    for cell in empty_cells(definition, numbers):
        if cell["variant"] is None:
            reasons["published only"] += 1
        elif cell["why"]:
            reasons[cell["why"].partition(";")[0]] += 1
        elif not has_images(cell["benchmark"]):
            reasons[
                f"no images of {find_benchmark(cell['benchmark']).title} below {workspace.data}; "
                f"name their folder with --data, or fetch them: "
                f"python -m zoo fetch {cell['benchmark']}"
            ] += 1
        else:
            resolved = cell["resolved"][budget]
            if "pretrained_from" in resolved.settings:
                pretraining_note = ", and what is pre-trained before"
            command = command_of_cell(cell, budget, workspace)
            seconds[command] = estimator.request(resolved).seconds / workspace.threads
    lines = [f"  {counted(count, 'cell', 'cells')}: {reason}" for reason, count in reasons.items()]
    if seconds:
        cells, minutes = counted(len(seconds), "cell", "cells"), sum(seconds.values()) / 60
        threads = counted(workspace.threads, "thread", "threads")
        time = f"about {minutes:.0f} min on {threads}{pretraining_note}"
        lines.append(f"  {cells}: not run; --run makes them in {time}")
    for command, needed in [*seconds.items()][:COMMANDS_SHOWN]:
        lines.append(f"    python -m zoo run {command}  # {max(needed / 60, 1):.0f} min")
    if len(seconds) > COMMANDS_SHOWN:
        lines.append(f"    and {len(seconds) - COMMANDS_SHOWN} more; --run --dry-run lists them")
    return ["What keeps cells of ours from being filled:", *lines] if lines else []


def empty_cells(definition: Paper, numbers: pd.DataFrame) -> Iterator[Mapping[Any, Any]]:
    """The cells of a table that could have a number of ours, and have none."""
    cells = zip(numbers.to_dict("records"), definition.cells.to_dict("records"), strict=True)
    for number, cell in cells:
        filled = pd.notna(number["ours"]) or number["marks"]
        blank = cell["variant"] is None and cell["published"] is None
        if not filled and not blank and cell["benchmark"] is not None:
            yield cell


def command_of_cell(cell: Mapping[Any, Any], budget: str, workspace: Workspace) -> str:
    """The words after ``python -m zoo run`` that make a cell's run."""
    words = [cell["variant"], cell["benchmark"], "--shot", str(cell["shot"])]
    if cell["way"]:
        words += ["--way", str(cell["way"])]
    words += ["--budget", budget]
    if find_benchmark(cell["benchmark"]).forms:
        words += ["--data", str(workspace.data)]
    return shlex.join([*words, *results_flag(workspace.results)])
