"""The command ``zoo study``: compares pairs of learners on several tasks; a table and a figure.

The pairs and the tasks of each study are declared in reports/studies/.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from zoo.commands.definition_files import read_definition
from zoo.commands.rates import report_rates
from zoo.commands.run_set import RunSet, parse_numbers, run_set_of
from zoo.commands.write_table import Drawing, Output
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of
from zoo.reports.figures.study import study_caption, study_figure
from zoo.reports.tables.study import SIDES, study_csv_frame, study_numbers, study_table
from zoo.runs.make_runs import cores
from zoo.runs.named_weights import find_weights
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.settings import SHARED_SETTING_NAMES, learner_variant, parse_values
from zoo.values import MOST_PARALLEL
from zoo.variants import split_variants

STUDY_KEYS: dict[str, type] = {
    "title": str,
    "heads": list,
    "seeds": object,
    "quick": dict,
    "pairs": dict,
    "tasks": dict,
    "threads": int,
    "rates": int,
}
TASK_KEYS = {"benchmark", "way", "shot", "settings"}


class Study(NamedTuple):
    """What a study's file holds."""

    title: str
    heads: tuple[str, str]
    seeds: str
    threads: int  # of each run; 0 for all cores
    quick: dict[str, Any]  # settings of all runs with budget quick
    pairs: dict[str, tuple[str, str]]  # variants by label
    tasks: dict[str, dict[str, Any]]  # benchmark, way, shot and settings by label
    rates: int  # validation tasks on which the rates of inner steps are looked at; 0 for none


def study_command(options: argparse.Namespace) -> int:
    """Make the missing runs, then print the table and write it, its numbers and its figure."""
    definition = load_study(options.study)
    wanted = split_variants(options.pairs) or list(definition.pairs)
    if unknown := [label for label in wanted if label not in definition.pairs]:
        labels = ", ".join(definition.pairs)
        raise UsageError(f"--pairs: {unknown[0]!r} is not in this study; choose from {labels}")
    run_set = run_set_of(options)
    if definition.threads and options.threads is None:
        jobs = options.jobs or max(1, cores() // definition.threads)
        run_set.how = replace(run_set.how, jobs=jobs, threads=definition.threads)
        run_set.workspace = replace(run_set.workspace, threads=definition.threads)
    for task in definition.tasks.values():
        run_set.stores(task["benchmark"])
    seeds = parse_numbers(options.seeds or definition.seeds, "--seeds")
    common = RunRequest("", "", terms=options.terms, budget=options.budget)
    lines = study_runs(definition, wanted, seeds, common, run_set)
    if not run_set.runs:
        raise UsageError("nothing of this study can be run")
    run_set.say(f"{definition.title}: terms {options.terms}, budget {options.budget}")
    status = run_set.make()
    if any(line["note"] for line in lines):
        status = 1
    if options.dry_run or run_set.makes_no_table:
        return status
    measured, frames = run_set.read()
    values = {name: frame[run_set.runs[name].judged_by] for name, frame in frames.items()}
    numbers = study_numbers(pd.DataFrame(lines), measured, values)
    words = ["study", Path(options.study).stem, *split_variants(options.pairs)]
    words += [options.terms, options.budget]
    if options.seeds:
        words.append(f"seeds {options.seeds}")
    run_set.report(
        words,
        study_table(numbers, definition.title, definition.heads),
        study_csv_frame(numbers),
        Drawing(study_figure(numbers, definition.title), study_caption(numbers, definition.title)),
    )
    if definition.rates:
        report_study_rates(run_set, measured, definition.rates, ["rates", *words])
    return status


def report_study_rates(
    run_set: RunSet, measured: pd.DataFrame, episodes: int, name: Sequence[str]
) -> None:
    """Print and write the rates that explain the inner steps of the study's trained learners.

    Args:
        run_set: of the study.
        measured: its records; those without weights are left out, with a line.
        episodes: the number of validation tasks.
        name: words that make up the names of the files.
    """
    results = run_set.workspace.results
    trained = []
    for run in measured["run"]:
        try:
            trained.append(find_weights(run, results))
        except UsageError as error:
            run_set.complain(f"  {error}")
    if trained:
        output = Output(results, name, run_set.how.command)
        report_rates(trained, run_set.workspace, episodes, output)


def study_runs(
    definition: Study,
    pairs: Sequence[str],
    seeds: Sequence[int],
    common: RunRequest,
    run_set: RunSet,
) -> list[dict[str, Any]]:
    """Plan both runs of every pair on all tasks.

    Args:
        definition: the study.
        pairs: the labels of the pairs that are asked for.
        seeds: of each pair.
        common: terms and budget of all runs.
        run_set: where the runs are added.

    Returns:
        One line a run, as `study_numbers` takes them; `note` says why a run cannot be made.
    """
    lines: list[dict[str, Any]] = []
    for (label, task), pair, seed in itertools.product(definition.tasks.items(), pairs, seeds):
        line = {"tasks": label, "pair": pair, "seed": seed}
        try:
            first, second = (
                request_on(task, variant, definition, replace(common, seed=seed))
                for variant in definition.pairs[pair]
            )
            runs: Sequence[Run | None] = pair_of_runs(run_set, first, second)
            note = None
        except UsageError as error:
            runs, note = (None, None), f"cannot be run: {error}"
            run_set.complain(f"  {label}, {pair} {note}")
        for side, run in zip(SIDES, runs, strict=True):
            name = None if run is None else run_set.add(run).name
            lines.append({**line, "side": side, "run": name, "note": note})
    return lines


def request_on(
    task: Mapping[str, Any], variant: str, definition: Study, common: RunRequest
) -> RunRequest:
    """A request for a learner on a study's tasks, with the settings that the study declares."""
    settings = {**(task.get("settings") or {})}
    if common.budget == "quick":
        settings = {**definition.quick, **settings}
    flags = settings_of_variant(variant, settings)
    return replace(
        common,
        learner=variant,
        benchmark=task["benchmark"],
        way=task.get("way"),
        shot=task["shot"],
        flags=flags,
    )


def pair_of_runs(run_set: RunSet, first: RunRequest, second: RunRequest) -> tuple[Run, Run]:
    """Plan both runs of a pair; the first gets the training episodes of the second.

    Raises:
        UsageError: one of them cannot be run.
    """
    first_run, second_run = run_set.plan(first), run_set.plan(second)
    shared_names = SHARED_SETTING_NAMES & first_run.settings.keys()
    different = {
        name: setting.value
        for name, setting in second_run.settings.items()
        if name in shared_names and first_run[name] != setting.value
    }
    if different:
        first_run = run_set.plan(replace(first, flags={**first.flags, **different}))
    return first_run, second_run


def settings_of_variant(variant: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a variant does not give itself, with their values parsed."""
    _, cls, overrides = learner_of(variant)
    others = {name: value for name, value in settings.items() if name not in overrides}
    return parse_values(cls, others, variant)


def load_study(name: str) -> Study:
    """Read the study of that name, or one from the user's own file.

    Raises:
        UsageError: there is no such study, its file is malformed, or it names a learner or a
            benchmark that does not exist.
    """
    path, content = read_definition("studies", name, "study", STUDY_KEYS, threads=0, rates=0)
    if not is_pair(content["heads"]):
        raise UsageError(f"{path}: heads: expected two, not {content['heads']!r}")
    for label, pair in content["pairs"].items():
        if not is_pair(pair):
            raise UsageError(f"{path}: pairs: {label}: expected two learners, not {pair!r}")
    for label, task in content["tasks"].items():
        if not isinstance(task, dict) or not {"benchmark", "shot"} <= task.keys() <= TASK_KEYS:
            raise UsageError(f"{path}: tasks: {label}: expected benchmark, shot, way and settings")
        if not isinstance(task.get("settings") or {}, dict):
            raise UsageError(f"{path}: tasks: {label}: settings: expected names with values")
    if not 0 <= content["threads"] <= MOST_PARALLEL:
        raise UsageError(f"{path}: threads: expected a whole number from 0 to {MOST_PARALLEL}")
    try:
        tasks = {
            label: {**task, "benchmark": find_benchmark(task["benchmark"]).variant}
            for label, task in content["tasks"].items()
        }
        pairs = {label: [*map(learner_variant, pair)] for label, pair in content["pairs"].items()}
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    seeds = str(content["seeds"])
    return Study(**{**content, "seeds": seeds, "tasks": tasks, "pairs": pairs})


def is_pair(value: Any) -> bool:
    """Whether a value is a list of two strings."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)
