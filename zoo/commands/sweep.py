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
from zoo.commands.write_table import Drawing
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of, usual_learners
from zoo.reports.figures.sweep import sweep_caption, sweep_figure
from zoo.reports.tables.sweep import sweep_csv_frame, sweep_numbers, sweep_table
from zoo.runs.checkpoints import CheckpointKeeper
from zoo.runs.make_runs import execute
from zoo.runs.request import RunRequest
from zoo.runs.resolved import check_count, check_way
from zoo.runs.run import Run
from zoo.runs.settings import learner_variant
from zoo.runs.tested_weights import as_trained
from zoo.variants import variants_in

SWEEP_FOLDER = "sweep"  # below the results; holds the tests of other runs' weights


class RunAtShape(Run):
    """Tests the weights of another run on episodes of another shape.

    Its record lies in a folder of its own, and names the other run as `weights_of`.
    """

    def __init__(self, run: Run, way: int, shot: int) -> None:
        """Take everything from the run, except the shape of the test episodes.

        Raises:
            UsageError: the learner or the data allows no such episodes; the message says why.
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
            raise UsageError(f"it has one output for each way: it can only be tested {run.way}-way")
        run.learner.check_episodes(way, shot, run["query"])
        self.data = run.data.of_shape(way, shot)

    def train(self, folder: Path, keeper: CheckpointKeeper, progress: bool) -> None:
        """Take the weights of the other run, which is made first if it has no record.

        Raises:
            UsageError: that run failed.
        """
        record = self.run.execute(progress)
        if record["status"] == "failed":
            raise UsageError(f"its training failed: {self.run.record_path}")
        self.run.trained(progress)
        self.staged = record["stages"]
        as_trained(keeper, record)
        keeper.unchecked = [*self.run.unchecked]


def sweep_command(options: argparse.Namespace) -> int:
    """Make the missing runs, then print the table and write it, its numbers and its figure."""
    benchmark = find_benchmark(options.benchmark)
    if benchmark.regression:
        raise UsageError(f"{benchmark.variant} is regression: it has no ways to sweep over")
    variants = list(dict.fromkeys(map(learner_variant, variants_in(options.learners))))
    titles = titles_of(variants or usual_learners(benchmark.tables))
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
    trainings = [run for run in run_set.runs.values() if not run.weights_of]
    status = run_set.make(trainings)
    if any(line["trained"] is None for line in lines):
        status = 1
    if run_set.makes_no_table:
        return status
    tests = [run for run in run_set.runs.values() if run.weights_of]
    status |= execute(tests, replace(run_set.how, jobs=1))  # the tests of a run share its weights
    if options.dry_run:
        return status
    measured, accuracies = read_points(options.results, run_set.runs)
    numbers = sweep_numbers(pd.DataFrame(lines), measured, accuracies)
    words = ["sweep", benchmark.variant, *variants, f"{way}w{shot}s", options.terms, options.budget]
    if options.seeds:
        words.append(f"seeds {options.seeds}")
    run_set.report(
        words,
        sweep_table(numbers, benchmark.title, way, shot),
        sweep_csv_frame(numbers),
        Drawing(
            sweep_figure(numbers, benchmark.title, way, shot),
            sweep_caption(numbers, benchmark.title, way, shot),
        ),
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
        common: way and shot of the training runs, and all else that they share.
        run_set: where the runs are added.

    Returns:
        One line for each learner, seed and shape, as `sweep_numbers` takes them. `trained` is None
        if the learner cannot be run, `run` is None if it cannot be tested at that shape; `note`
        says why.
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
            lines.append(
                {
                    "learner": title,
                    "seed": seed,
                    "way": way,
                    "shot": shot,
                    "note": note,
                    "trained": None if trained is None else trained.name,
                    "run": None if run is None else run.name,
                }
            )
    return lines


def run_at_shape(
    run_set: RunSet, trained: Run, way: int, shot: int
) -> tuple[Run | None, str | None]:
    """Add the test of a run's weights at another shape; or return None and why it is impossible."""
    try:
        return run_set.add(RunAtShape(trained, way, shot)), None
    except UsageError as error:
        return None, str(error).partition("; ")[0]  # the rest is advice for a single run


def read_points(
    results: Path, runs: Mapping[str, Run]
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """The records of these runs, and by each run's name its accuracy on every test episode."""
    frames: list[pd.DataFrame] = []
    accuracies: dict[str, pd.Series] = {}
    for folder in (results, results / SWEEP_FOLDER):
        if folder.is_dir():
            frame, values = read_records(folder, runs)
            frames.append(frame)
            for name, frame_of_run in values.items():
                if "accuracy" in frame_of_run:
                    accuracies[name] = frame_of_run["accuracy"]
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled or frames, ignore_index=True), accuracies


def titles_of(names: Sequence[str]) -> dict[str, str]:
    """The title of each learner or variant in the table; where two are the same, all are keys."""
    titles = {name: learner_title(name) for name in names}
    if len(set(titles.values())) < len(titles):  # a plug-in may have the title of one of ours
        titles = {name: name for name in names}
    return titles


def learner_title(name: str) -> str:
    """The title of a learner or variant in the table.

    Raises:
        UsageError: there is no such learner.
    """
    key, cls, overrides = learner_of(name)
    title = cls.title or key
    return f"{title} {name[len(key) :]}" if overrides else title
