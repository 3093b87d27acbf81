"""The command ``zoo rates``: the learning rate that best explains each inner step of learners."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from zoo.commands.run_set import workspace_of
from zoo.commands.write_table import Drawing, Output, write_table
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.episodes.data_module import EpisodicDataModule
from zoo.errors import UsageError
from zoo.reports.figures.step_rates import step_rates_figure
from zoo.reports.tables.comparison import label_of
from zoo.reports.tables.step_rates import step_rates_table
from zoo.runs.named_weights import NamedWeights, find_weights
from zoo.runs.step_rates import step_rates
from zoo.runs.tested_weights import checked_record
from zoo.runs.workspace import Workspace


def rates_command(options: argparse.Namespace) -> int:
    """Print the table and write it, its numbers and its figure."""
    weights = [find_weights(name, options.results) for name in options.names]
    output = Output(options.results, ["rates", *(each.name for each in weights)], options.words)
    report_rates(weights, workspace_of(options), options.episodes, output)
    return 0


def report_rates(
    weights: Sequence[NamedWeights], workspace: Workspace, episodes: int, output: Output
) -> None:
    """Print the rates of trained learners as a table, and write it, its numbers and its figure.

    Args:
        weights: of the learners; those of several seeds share a row.
        workspace: where their images are.
        episodes: the number of validation tasks.
        output: where the table goes.

    Raises:
        UsageError: the weights or their images cannot be used, or a learner has no inner loop.
    """
    frames = []
    for each in weights:
        record = checked_record(each)
        rates = step_rates(each.learner(), validation_data(each, workspace), episodes)
        frames.append(rates.assign(run=each.name, label=row_label(record)))
    rates = pd.concat(frames, ignore_index=True)
    title = "Inner steps and the rates that explain them"
    table = step_rates_table(rates, title, episodes)
    caption = f"{title}: above the rates, below the share of the steps that they explain"
    write_table(output, [table], {"": rates}, {"": Drawing(step_rates_figure(rates), caption)})


def row_label(record: Mapping[str, Any]) -> str:
    """The label of a run: the learner's title, its options and the benchmark."""
    label = label_of({"title": record["title"], "variant": record["variant"]})
    return f"{label}, {record['benchmark']}"


def validation_data(weights: NamedWeights, workspace: Workspace) -> EpisodicDataModule:
    """The episodes of the run that trained some weights.

    Raises:
        UsageError: its images are not there, or they are others now.
    """
    record = checked_record(weights)
    benchmark = find_benchmark(record["benchmark"])
    if benchmark.regression:
        raise UsageError(f"{weights.name}: trained for regression; zoo rates looks at classifiers")
    about = weights.about
    data = EpisodicDataModule(
        workspace.open(benchmark),
        tuple(about["mean"]),
        tuple(about["std"]),
        about["settings"],
        way=about["way"],
        shot=record["shot"],
        seed=record["seed"],
        eval_batch=1,
        size=benchmark.image[1:],
    )
    if data.fingerprint() != record["data"]["fingerprint"]:
        raise UsageError(
            f"{weights.name} was trained on other images than those of {benchmark.key}"
        )
    return data
