"""The command ``zoo study``: learners beside others, pair by pair, as a table and a figure.

What the pairs and the tasks are is declared in reports/studies/.
"""

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from zoo.commands.campaign import parse_numbers, workspace_of
from zoo.commands.declared_files import read_declared
from zoo.commands.write_table import write_table
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of
from zoo.reports import records
from zoo.reports.figures.study import study_figure
from zoo.reports.tables.study import SIDES, study_csv_frame, study_numbers, study_table
from zoo.runs.queue import execute
from zoo.runs.run import Run
from zoo.runs.settings import SHARED_SETTING_NAMES, parse_values
from zoo.variants import split_variants

STUDY_KEYS: dict[str, type] = {
    "title": str, "heads": list, "seeds": object, "quick": dict, "pairs": dict, "tasks": dict,
    "threads": int,
}  # fmt: skip
TASK_KEYS = {"benchmark", "way", "shot", "settings"}


class Study(NamedTuple):
    """What is declared of one."""

    title: str
    heads: tuple[str, str]
    seeds: str
    threads: int  # of a run; 0 for all cores
    quick: dict[str, Any]  # settings of all under that budget
    pairs: dict[str, tuple[str, str]]  # variants by label
    tasks: dict[str, dict[str, Any]]  # benchmark, way, shot and settings by label


def study_command(options: argparse.Namespace) -> int:
    """Make what is missing, then print the table, and write it, its numbers and its figure."""
    declared = load_study(options.study)
    wanted = split_variants(options.pairs) or list(declared.pairs)
    if unknown := [label for label in wanted if label not in declared.pairs]:
        known = ", ".join(declared.pairs)
        raise UsageError(f"--pairs: {unknown[0]!r} is not of this study; choose from {known}")
    if declared.threads and options.threads is None:
        options.threads = declared.threads
        options.jobs = max(options.jobs, (os.cpu_count() or 1) // declared.threads)
    place = workspace_of(options)
    opened = {task["benchmark"]: None for task in declared.tasks.values()}
    stores = {name: place.open(find_benchmark(name)) for name in opened}

    always = declared.quick if options.budget == "quick" else {}

    def plan(variant: str, task: Mapping[str, Any], seed: int, **flags: Any) -> Run:
        return Run(
            variant, task["benchmark"], way=task.get("way"), shot=task["shot"], seed=seed,
            terms=options.terms, budget=options.budget,
            flags={
                **settings_of_variant(variant, {**always, **(task.get("settings") or {})}), **flags
            },
            place=place, stores=stores[task["benchmark"]],
        )  # fmt: skip

    lines, runs = study_runs(declared, wanted, options.seeds or declared.seeds, plan)
    if not runs:
        raise UsageError("nothing of this study can be run")
    print(f"{declared.title}: terms {options.terms}, budget {options.budget}")
    status = execute(list(runs.values()), options) | any(line["note"] for line in lines)
    if options.dry_run or options.part:
        return status
    measured, problems = records.load(options.results)
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    measured = measured[measured["run"].isin(runs)]
    every, broken = records.values(options.results, measured)
    for problem in broken:
        print(f"  {problem}", file=sys.stderr)
    values = {name: frame[runs[name].judged_by] for name, frame in every.items()}
    found = study_numbers(pd.DataFrame(lines), measured, values)
    words = ["study", Path(options.study).stem, *split_variants(options.pairs)]
    words += [options.terms, options.budget, *([f"seeds {options.seeds}"] if options.seeds else [])]
    write_table(
        options,
        words,
        [study_table(found, declared.title, declared.heads)],
        {"": study_csv_frame(found)},
        {"": study_figure(found, declared.title)},
    )
    return status


def study_runs(
    declared: Study, pairs: Sequence[str], seeds: str, plan: Callable[..., Run]
) -> tuple[list[dict[str, Any]], dict[str, Run]]:
    """One line a run, as `studies.numbers` takes them; and the runs that can be made, by name."""
    lines: list[dict[str, Any]] = []
    runs: dict[str, Run] = {}
    each = itertools.product(declared.tasks.items(), pairs, parse_numbers(seeds, "--seeds"))
    for (label, task), pair, seed in each:
        line = {"tasks": label, "pair": pair, "seed": seed, "run": None, "note": None}
        try:
            both = pair_of_runs(plan, declared.pairs[pair], task, seed)
        except UsageError as error:
            note = f"cannot be run: {error}"
            print(f"  {label}, {pair} {note}", file=sys.stderr)
            lines += [{**line, "side": side, "note": note} for side in SIDES]
            continue
        for side, run in zip(SIDES, both, strict=True):
            runs[run.name] = run
            lines.append({**line, "side": side, "run": run.name})
    return lines, runs


def pair_of_runs(
    plan: Callable[..., Run], pair: Sequence[str], task: Mapping[str, Any], seed: int
) -> tuple[Run, Run]:
    """Both runs, the first on the training episodes of the second.

    Raises:
        UsageError: one of them cannot be run.
    """
    first, second = (plan(variant, task, seed) for variant in pair)
    shared = {
        name: setting.value
        for name, setting in second.settings.items()
        if name in SHARED_SETTING_NAMES & first.settings.keys() and first[name] != setting.value
    }
    return (plan(pair[0], task, seed, **shared) if shared else first), second


def settings_of_variant(variant: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a variant does not name itself."""
    _, cls, named = learner_of(variant)
    given = {name: value for name, value in settings.items() if name not in named}
    return parse_values(cls, given, variant)


def load_study(name: str) -> Study:
    """The study of that name, or of a file of one's own.

    Raises:
        UsageError: there is none; or the file is not as it should be, or names a learner or a
            benchmark that there is not.
    """
    path, content = read_declared("studies", name, "study", STUDY_KEYS, threads=0)
    if not is_pair(content["heads"]):
        raise UsageError(f"{path}: heads: expected two, not {content['heads']!r}")
    for label, pair in content["pairs"].items():
        if not is_pair(pair):
            raise UsageError(f"{path}: pairs: {label}: expected two learners, not {pair!r}")
    for label, task in content["tasks"].items():
        if not isinstance(task, dict) or not {"benchmark", "shot"} <= task.keys() <= TASK_KEYS:
            raise UsageError(f"{path}: tasks: {label}: expected benchmark, shot, way and settings")
    try:
        for task in content["tasks"].values():
            find_benchmark(task["benchmark"])
        for variant in [variant for pair in content["pairs"].values() for variant in pair]:
            _, cls, overrides = learner_of(variant)
            parse_values(cls, overrides, variant)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return Study(**{**content, "seeds": str(content["seeds"])})


def is_pair(value: Any) -> bool:
    """Whether this is a list of two texts."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)
