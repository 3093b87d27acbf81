"""The command ``zoo sweep``: each learner trained once, and tested over shots and over ways."""

import argparse
import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from zoo.commands.campaign import parse_numbers, workspace_of
from zoo.commands.write_table import write_table
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of, learners
from zoo.reports import records
from zoo.reports.figures.sweep import sweep_figure
from zoo.reports.tables.sweep import sweep_csv_frame, sweep_numbers, sweep_table
from zoo.runs.checkpoints import CheckpointKeeper
from zoo.runs.queue import execute
from zoo.runs.run import Run
from zoo.runs.settings import parse_values
from zoo.variants import split_variants

SWEEP_FOLDER = (
    "sweep"  # of the results: where tests of other runs' weights lie, apart from the runs
)


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
        self.job = run.job._replace(way=way, shot=shot)
        self.stages = []
        self.place = dataclasses.replace(run.place, results=run.place.results / SWEEP_FOLDER)
        if run.learner.fixed_way and way != run.job.way:
            raise UsageError(f"one output a way, so tested at {run.job.way} ways alone")
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
        keeper.curve, self.staged = record["validation"], record["stages"]
        keeper.best = (record["tested_update"], math.nan)


def sweep_command(options: argparse.Namespace) -> int:
    """Make what is missing, then print the table, and write it, its numbers and its figure."""
    benchmark = find_benchmark(options.benchmark)
    if benchmark.regression:
        raise UsageError(f"{benchmark.variant} is regression, without ways: nothing to sweep over")
    variants = list(dict.fromkeys(split_variants(options.learners)))
    names = variants or learners.names()
    titles = {name: learner_title(name) for name in names}
    if len(set(titles.values())) < len(titles):  # a plug-in may be called like one of ours
        titles = {name: name for name in names}
    (way,) = at_least(2, options.way, "--way")
    (shot,) = at_least(1, options.shot, "--shot")
    shapes = [(way, k) for k in at_least(1, options.shots, "--shots")]
    shapes += [(n, shot) for n in at_least(2, options.ways, "--ways") if (n, shot) not in shapes]
    seeds = at_least(0, options.seeds or "0", "--seeds")
    place = workspace_of(options)
    stores = place.open(benchmark)
    lines: list[dict[str, Any]] = []
    runs: dict[str, Run] = {}
    refused = 0
    for name in names:
        for seed in seeds:
            line = {"learner": titles[name], "seed": seed, "run": None, "trained": None}
            try:
                run = Run(
                    name, options.benchmark, way=way, shot=shot, seed=seed, terms=options.terms,
                    budget=options.budget, place=place, stores=stores,
                )  # fmt: skip
            except UsageError as error:
                refused += 1
                print(f"  {name} cannot be run: {error}", file=sys.stderr)
                note = f"cannot be run: {error}"
                lines += [{**line, "way": n, "shot": k, "note": note} for n, k in shapes]
                continue
            runs[run.name] = run
            for n, k in shapes:
                line |= {"way": n, "shot": k, "trained": run.name, "run": None, "note": None}
                try:
                    point = run if (n, k) == (way, shot) else RunAtShape(run, n, k)
                    runs[point.name] = point
                    line["run"] = point.name
                except UsageError as error:
                    line["note"] = str(error).partition("; ")[0]  # the rest is advice for runs
                lines.append(dict(line))
    if not runs:
        raise UsageError("nothing of this sweep can be run")
    print(f"{benchmark.title}, terms {options.terms}, budget {options.budget}")
    trained = [run for run in runs.values() if not run.weights_of]
    status = execute(trained, options) | (refused > 0)
    if options.part:
        return status
    alone = argparse.Namespace(**{**vars(options), "jobs": 1})  # points of a run share its weights
    status |= execute([run for run in runs.values() if run.weights_of], alone)
    if options.dry_run:
        return status
    measured, accuracies = read_points(options.results, runs)
    found = sweep_numbers(pd.DataFrame(lines), measured, accuracies)
    words = ["sweep", benchmark.variant, *variants, f"{way}w{shot}s", options.terms, options.budget]
    words += [f"seeds {options.seeds}"] * bool(options.seeds)
    write_table(
        options, words, [sweep_table(found, benchmark.title, way, shot)],
        {"": sweep_csv_frame(found)},
        {"": sweep_figure(found, benchmark.title, way, shot)},
    )  # fmt: skip
    return status


def read_points(results: Path, runs: dict[str, Run]) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """The records of these runs, and the accuracies of each test episode, by run."""
    frames: list[pd.DataFrame] = []
    accuracies: dict[str, pd.Series] = {}
    for folder in filter(Path.is_dir, (results, results / SWEEP_FOLDER)):
        frame, problems = records.load(folder)
        frame = frame[frame["run"].isin(runs)]
        values, left_out = records.values(folder, frame)
        for problem in problems + left_out:
            print(f"  {problem}", file=sys.stderr)
        frames.append(frame)
        accuracies |= {name: v["accuracy"] for name, v in values.items() if "accuracy" in v}
    return pd.concat([f for f in frames if len(f)] or frames, ignore_index=True), accuracies


def learner_title(name: str) -> str:
    """How the table calls a learner or variant.

    Raises:
        UsageError: there is no such learner, or it has no such setting.
    """
    key, cls, overrides = learner_of(name)
    parse_values(cls, overrides, name)
    return f"{cls.title or key}{' ' + name[len(key) :] if overrides else ''}"


def at_least(least: int, given: int | str, flag: str) -> list[int]:
    """The numbers of a flag, each once, ascending.

    Raises:
        UsageError: one is smaller, or none is a number.
    """
    found = sorted(set(parse_numbers(str(given), flag)))
    if found[0] < least:
        raise UsageError(f"{flag} {given}: expected numbers of at least {least}")
    return found
