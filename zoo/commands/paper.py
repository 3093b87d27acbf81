"""The command ``zoo paper``: the table of a paper, its published cells and ours beside them.

What the tables are is declared in reports/papers/.
"""

import argparse
import itertools
import shlex
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from zoo.commands.campaign import parse_numbers, workspace_of
from zoo.commands.missing_cells import DEFAULT_RESULTS
from zoo.commands.paper_file import Paper, load_paper
from zoo.commands.write_table import write_table
from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of
from zoo.reports import published, records
from zoo.reports.published import counted
from zoo.reports.tables.paper import (
    BUDGETS,
    best_runs,
    fitting_runs,
    paper_csv_frame,
    paper_numbers,
    paper_table,
)
from zoo.runs.estimate import estimated_seconds
from zoo.runs.queue import execute
from zoo.runs.run import Run
from zoo.runs.workspace import Workspace

COMMANDS_SHOWN = 6  # commands, of cells that were not run


def paper_command(options: argparse.Namespace) -> int:
    """Print and write the table; with ``--run`` make first what is missing."""
    if options.budget == "none":
        raise UsageError("--budget none: these are trained; choose from smoke, quick, paper")
    declared, status = load_paper(options.paper), 0
    measured, problems = records.load(options.results)
    if options.run or options.dry_run:
        status = make_missing_runs(declared, measured, options)
        measured, problems = records.load(options.results)
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    runs = fitting_runs(declared.cells, measured)
    several = [run for chosen, _ in map(best_runs, runs) if len(chosen) > 1 for run in chosen]
    names = [run["run"] for run in several]
    values, broken = records.values(options.results, measured[measured["run"].isin(names)])
    for problem in broken:
        print(f"  {problem}", file=sys.stderr)
    found = paper_numbers(declared.cells, runs, values, published.published())
    text = paper_table(found, declared.title, declared.caption, declared.notes)
    words = ["paper", Path(options.paper).stem]
    write_table(options, words, [text], {"": paper_csv_frame(found)}, {})
    for line in missing_cells_text(declared, found, options):
        print(line)
    return status


def make_missing_runs(declared: Paper, measured: pd.DataFrame, options: argparse.Namespace) -> int:
    """Make the runs of this budget that are missing; returns 1 if one could not be, else 0."""
    place = workspace_of(options)
    enough = BUDGETS[: BUDGETS.index(options.budget) + 1]
    stores: dict[str, Any] = {}
    wanted, refused = {}, {}
    fits = fitting_runs(declared.cells, measured)
    cells = zip(declared.cells.to_dict("records"), fits, strict=True)
    for (cell, fit), seed in itertools.product(
        cells, parse_numbers(options.seeds or "0", "--seeds")
    ):
        there = [run for run in fit if run["budget"] in enough and run["seed"] == seed]
        if there or cell["variant"] is None or cell["benchmark"] is None:
            continue
        try:
            if cell["benchmark"] not in stores:
                stores[cell["benchmark"]] = open_stores_or_error(
                    place, find_benchmark(cell["benchmark"])
                )
            if isinstance(stores[cell["benchmark"]], UsageError):
                raise stores[cell["benchmark"]]
            run = Run(
                cell["variant"], cell["benchmark"], way=cell["way"], shot=cell["shot"], seed=seed,
                budget=options.budget, place=place, stores=stores[cell["benchmark"]],
            )  # fmt: skip
        except UsageError as error:
            refused[f"{cell['variant']} on {cell['benchmark']}: {str(error).splitlines()[0]}"] = 1
            continue
        wanted[run.name] = run
    for text in refused:
        print(f"  cannot be run: {text}", file=sys.stderr)
    if not wanted:
        print("Nothing is missing that can be run.")
        return int(bool(refused))
    return execute(list(wanted.values()), options) | bool(refused)


def open_stores_or_error(place: Workspace, benchmark: Benchmark) -> Any:
    """The stores, or why there are none."""
    try:
        return place.open(benchmark)
    except UsageError as error:
        return error


def missing_cells_text(
    declared: Paper, found: pd.DataFrame, options: argparse.Namespace
) -> list[str]:
    """Why cells of ours are empty, by reason, and the commands that fill them."""
    why: Counter[str] = Counter()
    commands: dict[str, float] = {}
    aside = ""

    @cache  # a folder of many files takes long to look through
    def lies_there(benchmark: str) -> bool:
        known = find_benchmark(benchmark)
        return not known.forms or next(known.found(options.data), None) is not None

    cells = zip(found.to_dict("records"), declared.cells.to_dict("records"), strict=True)
    for number, cell in cells:
        there = pd.notna(number["ours"]) or number["marks"]
        only = cell["variant"] is None and cell["published"] is None
        if there or only or cell["benchmark"] is None:
            continue
        benchmark = find_benchmark(cell["benchmark"])
        if cell["variant"] is None:
            why["published only"] += 1
        elif cell["why"]:
            why[cell["why"].partition(";")[0]] += 1
        elif not lies_there(cell["benchmark"]):
            why[
                f"no images of {benchmark.title} below {options.data}; name their folder with "
                f"--data, or fetch them: python -m zoo fetch {cell['benchmark']}"
            ] += 1
        else:
            job, settings = cell["resolved"][options.budget]
            if "pretrained_from" in settings:
                aside = ", and what is pre-trained before"
            words = [cell["variant"], cell["benchmark"], "--shot", str(cell["shot"])]
            words += ["--way", str(cell["way"])] if cell["way"] else []
            words += ["--budget", options.budget]
            words += ["--data", str(options.data)] if benchmark.forms else []
            words += (
                ["--results", str(options.results)] if options.results != DEFAULT_RESULTS else []
            )
            learner = learner_of(cell["variant"])[1]
            commands[shlex.join(words)] = estimated_seconds(benchmark, learner, job, settings) / 60
    lines = [f"  {counted(number, 'cell', 'cells')}: {reason}" for reason, number in why.items()]
    if commands:
        many, minutes = counted(len(commands), "cell", "cells"), sum(commands.values())
        time = f"about {minutes:.0f} min on 2 cores{aside}"
        lines.append(f"  {many}: not run; --run makes them in {time}")
    for command, minutes in [*commands.items()][:COMMANDS_SHOWN]:
        lines.append(f"    python -m zoo run {command}  # {max(minutes, 1):.0f} min")
    if len(commands) > COMMANDS_SHOWN:
        lines.append(f"    and {len(commands) - COMMANDS_SHOWN} more; --run --dry-run lists them")
    return ["What keeps cells of ours from being filled:", *lines] if lines else []
