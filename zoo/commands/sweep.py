"""The command ``zoo sweep``: each learner trained once, and tested over shots and over ways."""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from zoo.commands.run_set import RunSet, parse_numbers, read_records, run_set_of
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of, learners
from zoo.reports.figures.sweep import sweep_figure
from zoo.reports.tables.sweep import sweep_csv_frame, sweep_numbers, sweep_table
from zoo.runs.checkpoints import CheckpointKeeper
from zoo.runs.make_runs import execute
from zoo.runs.request import RunRequest
from zoo.runs.resolved import check_count, check_way
from zoo.runs.run import Run
from zoo.runs.settings import learner_variant
from zoo.runs.tested_weights import as_trained
from zoo.variants import variants_in

SWEEP_FOLDER = "sweep"  # below the results: tests of other runs' weights, apart from the runs


class RunAtShape(Run):
    """The weights of a run, tested on episodes of another shape; nothing is trained for it.

    Its record lies in a folder of its own, and names the run as `weights_of`.
    """

    def __init__(self, run: Run, way: int, shot: int) -> None:
        """Everything but the test episodes is the run's.

        Raises:
            UsageError: the learner or the data cannot do it; says why.
        """
        vars(self).update(vars(run))
        self.run, self.weights_of = run, run.name
        self.name = f"{run.name}-at-{way}w{shot}s"
        self.identity = {**run.identity, "way": way, "shot": shot, "weights_of": run.name}
        self.request = replace(run.request, way=way, shot=shot)
        self.way = way
        self.stages = []
        results = run.workspace.results / SWEEP_FOLDER
        self.workspace = replace(run.workspace, results=results)
        if run.learner.fixed_way and way != run.way:
            raise UsageError(f"one output a way, so tested at {run.way} ways alone")
        run.learner.check_episodes(way, shot, run["query"])
        self.data = run.data.of_shape(way, shot)

    def train(self, folder: Path, keeper: CheckpointKeeper, progress: bool) -> None:
        """Take the weights of the run, which is made if it is not there.

        Raises:
            UsageError: the run failed.
        """
        record = self.run.execute(progress)
        if record["status"] == "failed":
            raise UsageError(f"its training failed: {self.run.record_path}")
        self.run.trained(progress)
        self.staged = record["stages"]
        as_trained(keeper, record)
        keeper.unchecked = [*self.run.unchecked]


def sweep_command(options: argparse.Namespace) -> int:
    """Make what is missing, then print the table, and write it, its numbers and its figure."""
    benchmark = find_benchmark(options.benchmark)
    if benchmark.regression:
        raise UsageError(f"{benchmark.variant} is regression, without ways: nothing to sweep over")
    variants = list(dict.fromkeys(map(learner_variant, variants_in(options.learners))))
    titles = titles_of(variants or learners.names())
    way = check_way(benchmark, options.way)
    shot = check_count("shot", options.shot, 1)
    shapes = [(way, k) for k in sorted(parse_numbers(options.shots, "--shots", 1))]
    ways = sorted(parse_numbers(options.ways, "--ways", 2))
    shapes += [(n, shot) for n in ways if (n, shot) not in shapes]
    seeds = sorted(parse_numbers(options.seeds or "0", "--seeds"))
    run_set = run_set_of(options)
    run_set.stores(benchmark.variant)
    common = RunRequest("", benchmark.variant, way, shot, options.terms, options.budget)
    lines = sweep_runs(titles, seeds, shapes, common, run_set)
    if not run_set.runs:
        raise UsageError("nothing of this sweep can be run")
    run_set.say(f"{benchmark.title}, terms {options.terms}, budget {options.budget}")
    refused = any(line["trained"] is None for line in lines)
    trained = [run for run in run_set.runs.values() if not run.weights_of]
    status = run_set.make(trained) | int(refused)
    if run_set.makes_no_table:
        return status
    points = [run for run in run_set.runs.values() if run.weights_of]
    status |= execute(points, replace(run_set.how, jobs=1))  # points of a run share its weights
    if options.dry_run:
        return status
    measured, accuracies = read_points(options.results, run_set.runs)
    found = sweep_numbers(pd.DataFrame(lines), measured, accuracies)
    name = ["sweep", benchmark.variant, *variants, f"{way}w{shot}s", options.terms, options.budget]
    name += [f"seeds {options.seeds}"] if options.seeds else []
    run_set.report(
        name,
        sweep_table(found, benchmark.title, way, shot),
        sweep_csv_frame(found),
        sweep_figure(found, benchmark.title, way, shot),
    )
    return status


def sweep_runs(
    titles: Mapping[str, str],
    seeds: Sequence[int],
    shapes: Sequence[tuple[int, int]],
    common: RunRequest,
    run_set: RunSet,
) -> list[dict[str, Any]]:
    """Plan one training of each learner and seed, and a test at every shape.

    Args:
        titles: of the learners, by key or variant.
        seeds: of each learner.
        shapes: way and shot of each test.
        common: way and shot of the training runs, and what else all share.
        run_set: takes the runs.

    Returns:
        One line a learner, seed and shape, as `sweep_numbers` takes them. `trained` is None where
        the learner cannot be run, `run` where it cannot be tested at that shape; `note` says why.
    """
    lines: list[dict[str, Any]] = []
    for (learner, title), seed in itertools.product(titles.items(), seeds):
        request = replace(common, learner=learner, seed=seed)
        trained, refusal = run_set.try_to_add(partial(run_set.plan, request), learner)
        for way, shot in shapes:
            if trained is None:
                run, note = None, refusal
            elif (way, shot) == (common.way, common.shot):
                run, note = trained, None
            else:
                run, note = run_at_shape(run_set, trained, way, shot)
            line = {"learner": title, "seed": seed, "way": way, "shot": shot, "note": note}
            lines.append({**line, "trained": trained and trained.name, "run": run and run.name})
    return lines


def run_at_shape(
    run_set: RunSet, trained: Run, way: int, shot: int
) -> tuple[Run | None, str | None]:
    """The test of a run's weights at another shape, added; or None, and why it cannot be."""
    try:
        return run_set.add(RunAtShape(trained, way, shot)), None
    except UsageError as error:
        return None, str(error).partition("; ")[0]  # the rest is advice for runs


def read_points(
    results: Path, runs: Mapping[str, Run]
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """The records of these runs, and the accuracies of each test episode, by run."""
    frames: list[pd.DataFrame] = []
    accuracies: dict[str, pd.Series] = {}
    for folder in (results, results / SWEEP_FOLDER):
        if folder.is_dir():
            frame, values = read_records(folder, runs)
            frames.append(frame)
            accuracies |= {name: v["accuracy"] for name, v in values.items() if "accuracy" in v}
    return pd.concat([f for f in frames if len(f)] or frames, ignore_index=True), accuracies


def titles_of(names: Sequence[str]) -> dict[str, str]:
    """How the table calls each learner or variant; two of one title go by their keys."""
    titles = {name: learner_title(name) for name in names}
    if len(set(titles.values())) < len(titles):  # a plug-in may be called like one of ours
        titles = {name: name for name in names}
    return titles


def learner_title(name: str) -> str:
    """How the table calls a learner or variant.

    Raises:
        UsageError: there is no such learner.
    """
    key, cls, overrides = learner_of(name)
    return f"{cls.title or key}{' ' + name[len(key) :] if overrides else ''}"
