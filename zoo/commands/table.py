"""The command ``zoo table``: the runs of a comparison, made and shown as a table."""

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from zoo.commands.campaign import parse_numbers, workspace_of
from zoo.commands.missing_cells import Asked, commands_for_missing, missing_row, reason_missing
from zoo.commands.parser import TERMS
from zoo.commands.write_table import write_table
from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.errors import UsageError
from zoo.files import slug
from zoo.registry import learners
from zoo.reports import published, records
from zoo.reports.figures.comparison import accuracy_figure, cost_figure, curves_figure
from zoo.reports.figures.difference_matrix import difference_matrix
from zoo.reports.formats.table import Table
from zoo.reports.statistics import paired_difference
from zoo.reports.tables.comparison import compared_rows, comparison_numbers, comparison_table
from zoo.reports.tables.comparison_csv import comparison_csv_frame
from zoo.reports.tables.differences import best_rows, differences_table, row_differences
from zoo.reports.tables.two_terms import ranks
from zoo.runs.queue import execute
from zoo.runs.run import Run
from zoo.runs.settings import PRETRAIN
from zoo.variants import parse_variant, split_variants


def table_command(options: argparse.Namespace) -> int:
    """Make what is missing, then print and write the comparison."""
    benchmark = find_benchmark(options.benchmark)
    asks = list(table_requests(options, benchmark))
    place = workspace_of(options)
    gaps: dict[Asked, str] = {}
    runs: dict[Asked, Run] = {}
    untrained: dict[str, Run] = {}  # the same without an update, by the name of the trained run
    try:
        stores = place.open(benchmark)
    except UsageError as error:
        print(f"  {error}", file=sys.stderr)
        options.dry_run = True  # the published numbers alone are nothing to keep
        gaps = dict.fromkeys(asks, f"no data: {benchmark.title} is not in {options.data}")

    def plan(ask: Asked, **flags: Any) -> Run:
        return Run(
            ask.learner, ask.benchmark, way=ask.way, shot=ask.shot, seed=ask.seed, terms=ask.terms,
            budget=ask.budget, flags=flags, place=place, stores=stores,
        )  # fmt: skip

    for ask in asks if not gaps else ():
        try:
            run = plan(ask)
            if options.untrained and (run["updates"] or run.stages):
                untrained[run.name] = plan(ask, **untrained_settings(run))
            runs[ask] = run
        except UsageError as error:
            gaps[ask] = f"cannot be run: {error}"
            print(f"  {ask.words} {gaps[ask]}", file=sys.stderr)
    if not runs and not options.dry_run:
        raise UsageError("nothing of this table can be run")
    print(f"{benchmark.title}, terms {options.terms}, budget {options.budget}")
    status = 0 if not gaps else 2 if not runs else 1
    if runs:
        status |= execute([*runs.values(), *untrained.values()], options)
    if options.part:
        return status
    measured, problems = records.load(options.results)
    names = [run.name for run in [*runs.values(), *untrained.values()]]
    values, broken = records.values(options.results, measured[measured["run"].isin(names)])
    measured = measured[measured["run"].isin([run.name for run in runs.values()])]
    if runs:
        for problem in [*problems, *broken]:
            print(f"  {problem}", file=sys.stderr)
    there = set(measured["run"])
    gaps |= {
        ask: reason_missing(run, options) for ask, run in runs.items() if run.name not in there
    }
    write_comparison(options, benchmark, with_missing_rows(measured, gaps), values, untrained)
    if gaps:
        print("\n".join(["", *commands_for_missing(gaps, runs, options)]))
    return status


def table_requests(options: argparse.Namespace, benchmark: Benchmark) -> Iterator[Asked]:
    """Every run that a table asks for, whether it can be had or not.

    Raises:
        UsageError: an unknown learner, or shots, ways or seeds that are none.
    """
    names = split_variants(options.learners) or [
        key for key in learners.names() if not benchmark.regression or learners.get(key).regression
    ]
    for name in names:
        learners.check(parse_variant(name)[0])
    ways: list[int] | list[None] = [None]
    if options.ways or not benchmark.regression:
        ways = list(parse_numbers(options.ways or "5", "--ways"))
    shots = list(parse_numbers(options.shots or benchmark.shots, "--shots"))
    seeds = list(parse_numbers(options.seeds or "0", "--seeds"))
    said = TERMS if options.terms == "both" else (options.terms,)
    for each, name, way, shot, seed in itertools.product(said, names, ways, shots, seeds):
        yield Asked(name, options.benchmark, way, shot, seed, each, options.budget)


def with_missing_rows(measured: pd.DataFrame, gaps: Mapping[Asked, str]) -> pd.DataFrame:
    """The records, and a row for each run that has none."""
    if not gaps:
        return measured
    missing = pd.DataFrame([missing_row(ask, why) for ask, why in gaps.items()]).astype(
        {name: kind for name, kind in measured.dtypes.items() if kind == "Int64"}
    )
    return pd.concat([measured, missing], ignore_index=True) if len(measured) else missing


def write_comparison(
    options: argparse.Namespace,
    benchmark: Benchmark,
    measured: pd.DataFrame,
    values: Mapping[str, pd.DataFrame],
    untrained: Mapping[str, Run],
) -> None:
    """Print the table, and write it in every form."""
    numbers_published = published.published()
    order = [parse_variant(name)[0] for name in split_variants(options.learners)]
    parts = {name: measured[measured["terms"] == name] for name in TERMS}
    parts = {name: part for name, part in parts.items() if len(part)}
    found: dict[str, pd.DataFrame] = {}
    texts: list[Table] = []
    drawn: dict[str, Figure] = {}
    for name, part in parts.items():
        contenders = compared_rows(part, benchmark.variant, order)
        shown = comparison_numbers(part, numbers_published, benchmark.variant, order, values)
        found[name] = row_differences(contenders, part, values)
        texts.append(
            comparison_table(
                part,
                numbers_published,
                benchmark.variant,
                title=benchmark.title,
                order=order,
                gains=training_gains(values, untrained) if options.untrained else None,
                values=values,
                bold=best_rows(found[name], shown),
            )
        )
        if options.figures:
            end = f"-{name}" if len(parts) > 1 else ""
            drawn |= {
                f"{kind}{end}": figure
                for kind, figure in table_figures(part, contenders, shown, found[name]).items()
            }
    if len(parts) > 1:
        texts.append(ranks(parts, benchmark.variant, benchmark.title, order, values))
    pairs = [
        differences_table(part, f"{benchmark.title}, {name} terms, differences", options.power)
        for name, part in found.items()
        if len(part)
    ]
    words = ["table", benchmark.variant, *split_variants(options.learners)]
    if not benchmark.regression:
        words += [f"{way}w" for way in parse_numbers(options.ways or "5", "--ways")]
    words += [f"{options.shots or benchmark.shots}s", options.terms, options.budget]
    words += [f"seeds {options.seeds}"] if options.seeds else []
    words += ["untrained"] if options.untrained else []
    every = pd.concat([part.assign(terms=name) for name, part in found.items()])
    write_table(
        options,
        words,
        [*texts, *pairs],
        {"": comparison_csv_frame(measured, numbers_published)}
        | ({"-differences": every} if len(every) else {}),
        drawn,
        len(texts) + len(pairs) * (options.differences or options.power),
    )


def table_figures(
    measured: pd.DataFrame, contenders: pd.DataFrame, shown: pd.DataFrame, found: pd.DataFrame
) -> dict[str, Figure]:
    """The figures of a comparison by the end of their files' names."""
    if not len(shown):
        return {}
    metric = "mse" if shown["metric"].iloc[0] == "mse" else "accuracy"
    drawn = {f"-{metric}": accuracy_figure(shown, metric=metric)}
    for column in dict.fromkeys(found["column"]):
        drawn[f"-differences-{slug(column)}"] = difference_matrix(found, column, metric)
    for column in dict.fromkeys(map(str, contenders["column"])):
        own = contenders[contenders["column"] == column]
        labels = own.set_index("run")["label"]
        runs = measured[measured["run"].isin(labels.index)]
        runs = runs.assign(label=runs["run"].map(labels))
        drawn[f"-curves-{slug(column)}"] = curves_figure(runs, metric=metric, title=column)
        drawn[f"-seconds-{slug(column)}"] = cost_figure(
            runs, metric=own["metric"].iloc[0], title=column
        )
    return drawn


def untrained_settings(run: Run) -> dict[str, Any]:
    """The settings of a run without an update, neither in episodes nor in a stage before."""
    own = [name for name in run.settings if name.endswith("updates")]
    without: dict[str, Any] = {name: 0 for name in own if not name.startswith(PRETRAIN)}
    return without | ({"pretrained_from": None} if "pretrained_from" in run.settings else {})


def training_gains(
    values: Mapping[str, pd.DataFrame], untrained: Mapping[str, Run]
) -> dict[tuple[str, str], tuple[float, float]]:
    """What training gave each run over its own untrained network, paired over the test episodes.

    Args:
        values: as `records.values` returns them, of the untrained runs too.
        untrained: by the name of the trained run.

    Returns:
        Difference and half-width of its 95 % interval by the name of the run and the metric, of
        accuracies and of mean squared errors. A run that failed, or whose untrained one did, is
        left out.
    """
    return {
        (name, metric): paired_difference(values[name][metric], values[run.name][metric])
        for name, run in untrained.items()
        if name in values and run.name in values
        for metric in map(str, values[name])
        if metric.startswith(("accuracy", "mse"))
    }
