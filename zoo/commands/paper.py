"""The command ``zoo paper``: the table of a paper, its published cells and ours beside them.

What the tables are is declared in reports/papers/.
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

COMMANDS_SHOWN = 6  # commands, of cells that were not run


def paper_command(options: argparse.Namespace) -> int:
    """Print and write the table; with ``--run`` make first what is missing."""
    if options.budget == "none":
        raise UsageError("--budget none: these are trained; choose from smoke, quick, paper")
    definition, status = load_paper(options.paper), 0
    seeds = parse_numbers(options.seeds or "0", "--seeds")
    run_set = run_set_of(options)
    if options.run or options.dry_run:
        status = make_missing_runs(definition, options.budget, seeds, run_set)
    if run_set.makes_no_table:
        return status
    measured = load_records(options.results)
    runs = fitting_runs(definition.cells, measured)
    several = [run for chosen, _ in map(best_runs, runs) if len(chosen) > 1 for run in chosen]
    names = [run["run"] for run in several]
    values = measured_values(options.results, measured[measured["run"].isin(names)])
    found = paper_numbers(definition.cells, runs, values, published.published())
    run_set.report(
        ["paper", Path(options.paper).stem],
        paper_table(found, definition.title, definition.caption, definition.notes),
        paper_csv_frame(found),
    )
    for line in missing_cells_text(definition, found, options.budget, run_set.workspace):
        print(line)
    return status


def make_missing_runs(definition: Paper, budget: str, seeds: Sequence[int], run_set: RunSet) -> int:
    """Make the runs of this budget that are missing; returns 1 if one could not be, else 0."""
    measured = load_records(run_set.workspace.results, announce=False)
    enough = TRAINED_BUDGETS[: TRAINED_BUDGETS.index(budget) + 1]
    refused: dict[str, None] = {}  # in order, each once
    fits = fitting_runs(definition.cells, measured)
    cells = zip(definition.cells.to_dict("records"), fits, strict=True)
    for (cell, fit), seed in itertools.product(cells, seeds):
        there = [run for run in fit if run["budget"] in enough and run["seed"] == seed]
        if there or cell["variant"] is None or cell["benchmark"] is None:
            continue
        request = RunRequest(
            cell["variant"], cell["benchmark"], cell["way"], cell["shot"], "paper", budget, seed
        )
        try:
            run_set.add(run_set.plan(request))
        except UsageError as error:
            reason = str(error).splitlines()[0]
            refused[f"{request.learner} on {request.benchmark}: {reason}"] = None
    for text in refused:
        run_set.complain(f"  cannot be run: {text}")
    if not run_set.runs:
        run_set.say("Nothing is missing that can be run.")
        return int(bool(refused))
    return run_set.make() | int(bool(refused))


def missing_cells_text(
    definition: Paper, found: pd.DataFrame, budget: str, workspace: Workspace
) -> list[str]:
    """Why cells of ours are empty, by reason, and the commands that fill them.

    Args:
        definition: the table.
        found: its `paper_numbers`.
        budget: that the commands have.
        workspace: whose data and results the commands name.
    """
    why: Counter[str] = Counter()
    seconds: dict[str, float] = {}  # by command
    estimator = Estimator.beside(workspace.results)
    aside = ""

    @cache  # a folder of many files takes long to look through
    def lies_there(benchmark: str) -> bool:
        known = find_benchmark(benchmark)
        return not known.forms or next(known.found(workspace.data), None) is not None

    for cell in empty_cells(definition, found):
        if cell["variant"] is None:
            why["published only"] += 1
        elif cell["why"]:
            why[cell["why"].partition(";")[0]] += 1
        elif not lies_there(cell["benchmark"]):
            why[
                f"no images of {find_benchmark(cell['benchmark']).title} below {workspace.data}; "
                f"name their folder with --data, or fetch them: "
                f"python -m zoo fetch {cell['benchmark']}"
            ] += 1
        else:
            resolved = cell["resolved"][budget]
            if "pretrained_from" in resolved.settings:
                aside = ", and what is pre-trained before"
            command = command_of_cell(cell, budget, workspace)
            seconds[command] = estimator.request(resolved).seconds / workspace.threads
    lines = [f"  {counted(number, 'cell', 'cells')}: {reason}" for reason, number in why.items()]
    if seconds:
        many, minutes = counted(len(seconds), "cell", "cells"), sum(seconds.values()) / 60
        time = (
            f"about {minutes:.0f} min on {counted(workspace.threads, 'thread', 'threads')}{aside}"
        )
        lines.append(f"  {many}: not run; --run makes them in {time}")
    for command, each in [*seconds.items()][:COMMANDS_SHOWN]:
        lines.append(f"    python -m zoo run {command}  # {max(each / 60, 1):.0f} min")
    if len(seconds) > COMMANDS_SHOWN:
        lines.append(f"    and {len(seconds) - COMMANDS_SHOWN} more; --run --dry-run lists them")
    return ["What keeps cells of ours from being filled:", *lines] if lines else []


def empty_cells(definition: Paper, found: pd.DataFrame) -> Iterator[Mapping[Any, Any]]:
    """The cells of a table that could have a number of ours, and have none."""
    cells = zip(found.to_dict("records"), definition.cells.to_dict("records"), strict=True)
    for number, cell in cells:
        there = pd.notna(number["ours"]) or number["marks"]
        nobody = cell["variant"] is None and cell["published"] is None
        if not there and not nobody and cell["benchmark"] is not None:
            yield cell


def command_of_cell(cell: Mapping[Any, Any], budget: str, workspace: Workspace) -> str:
    """What makes a cell's run, behind ``python -m zoo run``."""
    words = [cell["variant"], cell["benchmark"], "--shot", str(cell["shot"])]
    words += ["--way", str(cell["way"])] if cell["way"] else []
    words += ["--budget", budget]
    if find_benchmark(cell["benchmark"]).forms:
        words += ["--data", str(workspace.data)]
    return shlex.join([*words, *results_flag(workspace.results)])
