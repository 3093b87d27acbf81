"""The command ``zoo levels``: which learners reach the number of their paper, from the records."""

import argparse

import numpy as np
import pandas as pd

from zoo.commands.missing_cells import missing_row
from zoo.commands.run_set import load_records, measured_values, parse_numbers
from zoo.commands.write_table import Drawing, Output, write_table
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.registry import learner_of, learners
from zoo.reports.figures.comparison import curves_figure
from zoo.reports.published import published
from zoo.reports.tables.cells import runs_of
from zoo.reports.tables.levels import level_numbers, levels_table, options_of
from zoo.runs.request import RunRequest
from zoo.runs.settings import learner_variant
from zoo.variants import format_variant, variants_in


def levels_command(options: argparse.Namespace) -> int:
    """Print the table and write it, its numbers and its figure. Makes no run."""
    benchmark = find_benchmark(options.benchmark)
    if benchmark.regression:
        raise UsageError(f"{benchmark.variant} is regression: zoo levels compares accuracies")
    if not options.results.is_dir():
        raise UsageError(f"--results {options.results}: no such folder")
    asked = [without_length(name) for name in variants_in(options.learners)]
    asked = list(dict.fromkeys(asked))
    shots = parse_numbers(options.shots, "--shots", 1)
    measured = load_records(options.results)
    measured = measured[
        (measured["benchmark"] == benchmark.variant)
        & (measured["status"] == "done")
        & (measured["budget"] == options.budget)
        & (measured["terms"] == options.terms)
        & (measured["way"] == options.way)
        & measured["shot"].isin(shots)
        & measured["weights_of"].isna()
    ]
    names = [format_variant(run["learner"], options_of(run)) for run in runs_of(measured)]
    there = set(zip(names, measured["shot"], strict=True))
    if asked:
        measured = measured[np.isin(np.array(names, object), asked)]
    absent = [
        missing_row(
            RunRequest(name, benchmark.variant, options.way, shot, options.terms, options.budget),
            "not run",
        )
        for name in asked or learners.names()
        for shot in shots
        if (name, shot) not in there
    ]
    rows = pd.concat([measured, pd.DataFrame(absent)]) if absent else measured
    numbers = level_numbers(
        rows, published(), benchmark.variant, measured_values(options.results, measured)
    )
    title = f"Published levels on {benchmark.title}"
    table = levels_table(numbers, measured, title)
    curves = measured.merge(numbers[["run", "label"]].drop_duplicates("run"), on="run")
    figure = curves_figure(curves, against="tasks", title=benchmark.title)
    words = ["levels", benchmark.variant, *asked, f"{options.way}w"]
    words += [f"{shot}s" for shot in shots]
    words += [options.terms, options.budget]
    caption = f"{title}: accuracy on validation tasks over the training tasks seen"
    output = Output(options.results, words, options.words)
    write_table(output, [table], {"": numbers}, {"": Drawing(figure, caption)})
    return 0


def without_length(name: str) -> str:
    """A variant without the options that say how long it trains, as rows of the table have it."""
    key, _, options = learner_of(learner_variant(name))
    return format_variant(key, options_of({"variant": options}))
