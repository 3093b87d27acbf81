"""The command ``zoo table``: the runs of a comparison, made and shown as a table.

A composition root, like plan.py.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

import baselines  # noqa: F401  (fills the register)
from datasets.benchmarks import Benchmark, find_benchmark
from reports import differences, figures, published, raw, records, tables, terms
from reports.matrix import matrix
from reports.statistics import paired_difference
from zoo.errors import UsageError
from zoo.experiment import Run
from zoo.front import TERMS
from zoo.gaps import Asked, listing, row, why_not
from zoo.jobs import execute, place_of
from zoo.plan import slug
from zoo.printing import write_table
from zoo.protocol import STAGE
from zoo.registry import learners, parse_variant, split_variants


def comparison(options: argparse.Namespace) -> int:
    """Make what is missing, then print and write the comparison."""
    benchmark = find_benchmark(options.benchmark)
    asks = list(cells(options, benchmark))
    place = place_of(options)
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
                untrained[run.name] = plan(ask, **nothing_learned(run))
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
    gaps |= {ask: why_not(run, options) for ask, run in runs.items() if run.name not in there}
    show(options, benchmark, complete(measured, gaps), values, untrained)
    if gaps:
        print("\n".join(["", *listing(gaps, runs, options)]))
    return status


def cells(options: argparse.Namespace, benchmark: Benchmark) -> Iterator[Asked]:
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
        ways = list(numbers(options.ways or "5", "--ways"))
    shots = list(numbers(options.shots or benchmark.shots, "--shots"))
    seeds = list(numbers(options.seeds or "0", "--seeds"))
    said = TERMS if options.terms == "both" else (options.terms,)
    for each, name, way, shot, seed in itertools.product(said, names, ways, shots, seeds):
        yield Asked(name, options.benchmark, way, shot, seed, each, options.budget)


def complete(measured: pd.DataFrame, gaps: Mapping[Asked, str]) -> pd.DataFrame:
    """The records, and a row for each run that has none."""
    if not gaps:
        return measured
    missing = pd.DataFrame([row(ask, why) for ask, why in gaps.items()]).astype(
        {name: kind for name, kind in measured.dtypes.items() if kind == "Int64"}
    )
    return pd.concat([measured, missing], ignore_index=True) if len(measured) else missing


def show(
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
    texts: list[pd.DataFrame] = []
    drawn: dict[str, Figure] = {}
    for name, part in parts.items():
        contenders = tables.contenders(part, benchmark.variant, order)
        shown = tables.numbers(part, numbers_published, benchmark.variant, order, values)
        found[name] = differences.differences(contenders, part, values)
        texts.append(
            tables.comparison(
                part,
                numbers_published,
                benchmark.variant,
                title=benchmark.title,
                order=order,
                gains=gains(values, untrained) if options.untrained else None,
                values=values,
                bold=differences.best(found[name], shown),
            )
        )
        if options.figures:
            end = f"-{name}" if len(parts) > 1 else ""
            drawn |= {
                f"{kind}{end}": figure
                for kind, figure in drawings(part, contenders, shown, found[name]).items()
            }
    if len(parts) > 1:
        texts.append(terms.ranks(parts, benchmark.variant, benchmark.title, order, values))
    pairs = [
        differences.to_text(part, f"{benchmark.title}, {name} terms, differences", options.power)
        for name, part in found.items()
        if len(part)
    ]
    words = ["table", benchmark.variant, *split_variants(options.learners)]
    if not benchmark.regression:
        words += [f"{way}w" for way in numbers(options.ways or "5", "--ways")]
    words += [f"{options.shots or benchmark.shots}s", options.terms, options.budget]
    words += [f"seeds {options.seeds}"] if options.seeds else []
    words += ["untrained"] if options.untrained else []
    every = pd.concat([part.assign(terms=name) for name, part in found.items()])
    write_table(
        options,
        words,
        [*texts, *pairs],
        {"": raw.to_csv_frame(measured, numbers_published)}
        | ({"-differences": every} if len(every) else {}),
        drawn,
        len(texts) + len(pairs) * (options.differences or options.power),
    )


def drawings(
    measured: pd.DataFrame, contenders: pd.DataFrame, shown: pd.DataFrame, found: pd.DataFrame
) -> dict[str, Figure]:
    """The figures of a comparison by the end of their files' names."""
    if not len(shown):
        return {}
    metric = "mse" if shown["metric"].iloc[0] == "mse" else "accuracy"
    drawn = {f"-{metric}": figures.accuracies(shown, metric=metric)}
    for column in dict.fromkeys(found["column"]):
        drawn[f"-differences-{slug(column)}"] = matrix(found, column, metric)
    for column in dict.fromkeys(map(str, contenders["column"])):
        own = contenders[contenders["column"] == column]
        labels = own.set_index("run")["label"]
        runs = measured[measured["run"].isin(labels.index)]
        runs = runs.assign(label=runs["run"].map(labels))
        drawn[f"-curves-{slug(column)}"] = figures.learning_curves(
            runs, metric=metric, title=column
        )
        drawn[f"-seconds-{slug(column)}"] = figures.accuracy_against_seconds(
            runs, metric=own["metric"].iloc[0], title=column
        )
    return drawn


def nothing_learned(run: Run) -> dict[str, Any]:
    """The settings of a run without an update, neither in episodes nor in a stage before."""
    own = [name for name in run.settings if name.endswith("updates")]
    without: dict[str, Any] = {name: 0 for name in own if not name.startswith(STAGE)}
    return without | ({"pretrained_from": None} if "pretrained_from" in run.settings else {})


def gains(
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


def numbers(text: str, flag: str) -> Iterator[int]:
    """``"1 5"`` or ``"1,5"`` -> 1, 5.

    Raises:
        UsageError: something else.
    """
    words = text.replace(",", " ").split()
    if not words or not all(word.isdigit() for word in words):
        raise UsageError(f'{flag} {text!r}: expected whole numbers, such as "1 5"')
    return map(int, words)
