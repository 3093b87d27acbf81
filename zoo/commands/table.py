"""The command ``zoo table``: the runs of a comparison, made and shown as a table."""

import argparse
import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from zoo.commands.cross_domain import Gap, check_same_images, learners_of, plan_tests, runs_on
from zoo.commands.missing_cells import commands_for_missing, missing_row, reason_missing
from zoo.commands.run_set import (
    RunSet,
    load_records,
    measured_values,
    parse_numbers,
    run_set_of,
)
from zoo.commands.write_table import Drawing, Output, write_table
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.files import slug
from zoo.registry import learners
from zoo.reports import published
from zoo.reports.estimates import Estimate, compare, shared_episodes
from zoo.reports.figures.comparison import accuracy_figure, cost_figure, curves_figure
from zoo.reports.figures.difference_matrix import difference_matrix
from zoo.reports.formats.table import Table
from zoo.reports.metrics import is_error
from zoo.reports.tables.comparison import compared_rows, comparison_numbers, comparison_table
from zoo.reports.tables.comparison_csv import cells_csv_frame, comparison_csv_frame
from zoo.reports.tables.differences import (
    best_rows,
    differences_table,
    pairs_with_best,
    row_differences,
)
from zoo.reports.tables.two_terms import ranks
from zoo.runs.estimate import Estimator
from zoo.runs.fitted import way_that_fits
from zoo.runs.request import TERMS, RunRequest
from zoo.runs.run import Run
from zoo.runs.settings import PRETRAIN, learner_variant
from zoo.runs.tested_weights import TESTED_FOLDER
from zoo.variants import parse_variant, variants_in


@dataclass(frozen=True)
class TableRequest:
    """Which cells a comparison has, and what is shown of them.

    Args:
        benchmark: a key or variant.
        learners: keys or variants, in the order of the rows; none for all that can do its tasks.
        ways: N of the test episodes; none in regression.
        shots: K of the test episodes.
        seeds: of each row.
        terms: paper, equal or both.
        budget: how long to train.
        untrained: whether every row is tested untrained too.
        differences: which pairs of rows are printed: none, ``best``, those with the best row of
            each block, or ``all``.
        power: and how many episodes half a point needs.
        figures: whether figures are drawn.
        trained_on: the benchmark whose weights are tested, a key or variant; "" for runs that are
            trained on `benchmark` itself.
    """

    benchmark: str
    learners: Sequence[str]
    ways: Sequence[int]
    shots: Sequence[int]
    seeds: Sequence[int]
    terms: str
    budget: str
    untrained: bool = False
    differences: str = ""
    power: bool = False
    figures: bool = False
    trained_on: str = ""

    @property
    def title(self) -> str:
        """How captions call the benchmark, and that which the weights are from."""
        title = find_benchmark(self.benchmark).title
        if not self.trained_on:
            return title
        return f"{title}, with weights trained on {find_benchmark(self.trained_on).title}"

    @property
    def order(self) -> list[str]:
        """The learners' keys, in the order of the rows."""
        return [parse_variant(name)[0] for name in self.learners]

    def runs(self) -> Iterator[RunRequest]:
        """Every run that the table asks for, whether it can be had or not."""
        regression = find_benchmark(self.benchmark).regression
        able = [key for key in learners.names() if not regression or learners.get(key).regression]
        terms = TERMS if self.terms == "both" else (self.terms,)
        ways: Sequence[int | None] = self.ways or [None]
        cells = itertools.product(terms, self.learners or able, ways, self.shots, self.seeds)
        for each, learner, way, shot, seed in cells:
            yield RunRequest(learner, self.benchmark, way, shot, each, self.budget, seed)

    def name(self) -> list[str]:
        """Words that the table's files are named by."""
        variant = find_benchmark(self.benchmark).variant
        words = ["table", variant, *self.learners, *(f"{way}w" for way in self.ways)]
        words += [f"{' '.join(map(str, self.shots))}s", self.terms, self.budget]
        if list(self.seeds) != [0]:
            words.append(f"seeds {' '.join(map(str, self.seeds))}")
        words += ["from", find_benchmark(self.trained_on).variant] if self.trained_on else []
        return words + ["untrained"] * self.untrained


def table_command(options: argparse.Namespace) -> int:
    """Make what is missing, then print and write the comparison."""
    asked = table_request(options)
    run_set = run_set_of(options)
    if find_benchmark(asked.benchmark).own and not options.ways:
        asked = with_way_that_fits(asked, run_set)
    output = Output(options.results, asked.name(), options.words, options.dry_run)
    make = make_cross_table if asked.trained_on else make_table
    return make(asked, run_set, output)


def with_way_that_fits(asked: TableRequest, run_set: RunSet) -> TableRequest:
    """The table of own images with as many ways as each split has classes, at most 5."""
    try:
        way, why = way_that_fits(run_set.stores(asked.benchmark))
    except UsageError:  # making the table says so
        return asked
    if why:
        run_set.say(f"fitted to the images: {why}")
    return replace(asked, ways=[way])


def table_request(options: argparse.Namespace) -> TableRequest:
    """What the command line asks for.

    Raises:
        UsageError: an unknown learner, or shots, ways or seeds that are none.
    """
    benchmark = find_benchmark(options.benchmark)
    names = dict.fromkeys(map(learner_variant, variants_in(options.learners)))
    ways = [] if benchmark.regression and not options.ways else [options.ways or "5"]
    return TableRequest(
        benchmark.variant,
        [*names],
        [way for text in ways for way in parse_numbers(text, "--ways")],
        parse_numbers(options.shots or benchmark.shots, "--shots"),
        parse_numbers(options.seeds or "0", "--seeds"),
        options.terms,
        options.budget,
        options.untrained,
        options.differences,
        options.power,
        options.figures,
        options.trained_on,
    )


def make_table(asked: TableRequest, run_set: RunSet, output: Output) -> int:
    """Make the runs that are missing, print and write the table; returns the exit status."""
    benchmark = find_benchmark(asked.benchmark)
    requests = list(asked.runs())
    gaps: dict[RunRequest, str] = {}
    runs: dict[RunRequest, Run] = {}
    untrained: dict[str, Run] = {}  # the same without an update, by the name of the trained run
    try:
        run_set.stores(asked.benchmark)
    except UsageError as error:
        run_set.complain(f"  {error}")
        where = run_set.workspace.data
        gaps = dict.fromkeys(requests, f"no data: {benchmark.title} is not in {where}")
        # The published numbers alone are nothing to keep.
        output = replace(output, dry_run=True)
    for request in requests if not gaps else ():
        try:
            run = run_set.plan(request)
            if asked.untrained and (run["updates"] or run.stages):
                without = replace(request, flags=untrained_settings(run))
                untrained[run.name] = run_set.plan(without)
            runs[request] = run
        except UsageError as error:
            gaps[request] = f"cannot be run: {error}"
            run_set.complain(f"  {request.words} {gaps[request]}")
    if not runs and not output.dry_run:
        raise UsageError("nothing of this table can be run")
    run_set.say(f"{benchmark.title}, terms {asked.terms}, budget {asked.budget}")
    status = 0 if not gaps else 2 if not runs else 1
    for run in [*runs.values(), *untrained.values()]:
        run_set.add(run)
    if runs:
        status |= run_set.make()
    if run_set.makes_no_table:
        return status
    measured, values = run_set.read()
    measured = measured[measured["run"].isin([run.name for run in runs.values()])]
    there = set(measured["run"])
    estimator = Estimator.beside(output.folder)
    not_made = {request: run for request, run in runs.items() if run.name not in there}
    gaps |= {request: reason_missing(run, estimator) for request, run in not_made.items()}
    write_comparison(asked, output, with_missing_rows(measured, gaps), values, untrained)
    if gaps:
        print("\n".join(["", *commands_for_missing(gaps, runs, estimator)]))
    return status


def make_cross_table(asked: TableRequest, run_set: RunSet, output: Output) -> int:
    """The same of weights that another benchmark trained: they are tested, nothing is trained.

    Raises:
        UsageError: the benchmarks do not fit each other, or there are no weights.
    """
    target, other = find_benchmark(asked.benchmark), find_benchmark(asked.trained_on)
    if asked.untrained:
        raise UsageError("--untrained: a table of weights from elsewhere has no untrained rows")
    check_same_images(target, other)
    rows = runs_on(other, asked.budget, run_set)
    training = replace(asked, benchmark=other.variant, learners=asked.learners or learners_of(rows))
    if not training.learners:
        raise UsageError(
            f"--from {other.variant}: no run on it with budget {asked.budget} in "
            f"{run_set.workspace.results}; `python -m zoo run LEARNER {other.variant} --budget "
            f"{asked.budget}` leaves weights there"
        )
    tests, gaps = plan_tests(training.runs(), rows, target, run_set)
    run_set.say(f"{asked.title}, terms {asked.terms}, budget {asked.budget}")
    status = int(bool(gaps)) | (run_set.make() if run_set.runs else 0)
    if run_set.makes_no_table:
        return status
    folder = run_set.workspace.results / TESTED_FOLDER
    measured = load_records(folder, announce=folder.is_dir())
    measured = measured[measured["run"].isin(run_set.recorded())]
    values = measured_values(folder, measured)
    there = set(measured["run"])
    gaps |= {request: Gap("not tested") for name, request in tests.items() if name not in there}
    measured = with_missing_rows(measured, {request: gap.why for request, gap in gaps.items()})
    measured = measured.assign(benchmark=target.variant, trained_on=other.variant)
    write_comparison(asked, output, measured, values, {})
    for request, gap in gaps.items():
        print(f"– {request.words}: {gap.why}{f'; {gap.remedy}' if gap.remedy else ''}")
    return status


def with_missing_rows(measured: pd.DataFrame, gaps: Mapping[RunRequest, str]) -> pd.DataFrame:
    """The records, and a row for each run that has none."""
    if not gaps:
        return measured
    missing = pd.DataFrame([missing_row(request, why) for request, why in gaps.items()]).astype(
        {name: kind for name, kind in measured.dtypes.items() if kind == "Int64"}
    )
    return pd.concat([measured, missing], ignore_index=True) if len(measured) else missing


def write_comparison(
    asked: TableRequest,
    output: Output,
    measured: pd.DataFrame,
    values: Mapping[str, pd.DataFrame],
    untrained: Mapping[str, Run],
) -> None:
    """Print the table, and write it in every form.

    Args:
        asked: the table.
        output: where it goes.
        measured: a row a run, as `records.load` has them; also of runs without a record.
        values: by run a column a metric, a row a test episode.
        untrained: by the name of the trained run.
    """
    benchmark = find_benchmark(asked.benchmark)
    title = asked.title
    printed_numbers = published.published()
    order = asked.order
    parts = {name: measured[measured["terms"] == name] for name in TERMS}
    parts = {name: part for name, part in parts.items() if len(part)}
    found: dict[str, pd.DataFrame] = {}
    pairs: list[Table] = []
    texts: list[Table] = []
    cells: list[pd.DataFrame] = []
    drawn: dict[str, Drawing] = {}
    compared = {name: compared_rows(part, benchmark.variant, order) for name, part in parts.items()}
    labels = list(dict.fromkeys(label for rows in compared.values() for label in rows["label"]))
    for name, part in parts.items():
        contenders = compared[name]
        shown = comparison_numbers(part, printed_numbers, benchmark.variant, order, values)
        found[name] = row_differences(contenders, part, values)
        bold = best_rows(found[name], shown)
        cells.append(cells_csv_frame(shown, values, bold).assign(terms=name))
        texts.append(
            comparison_table(
                part,
                printed_numbers,
                benchmark.variant,
                title=title,
                order=order,
                gains=training_gains(values, untrained) if asked.untrained else None,
                values=values,
                bold=bold,
            )
        )
        if len(found[name]):
            whole = asked.differences == "all"
            chosen = found[name] if whole else pairs_with_best(found[name], shown)
            which = "differences" if whole else "differences to the best row"
            heading = f"{title}, {name} terms, {which}"
            pairs.append(differences_table(chosen, heading, asked.power))
        if asked.figures:
            end = f"-{name}" if len(parts) > 1 else ""
            said = f"{title}, {name} terms"
            figures = table_figures(part, contenders, shown, found[name], said, labels)
            drawn |= {f"{kind}{end}": drawing for kind, drawing in figures.items()}
    if len(parts) > 1:
        texts.append(ranks(parts, benchmark.variant, title, order, values))
    data = {"": comparison_csv_frame(measured, printed_numbers, values)}
    data["-cells"] = pd.concat(cells)
    every = pd.concat([part.assign(terms=name) for name, part in found.items()])
    if len(every):
        data["-differences"] = every.assign(seeds=every["seeds"].map(seeds_text))
    printed = len(texts) + (len(pairs) if asked.differences or asked.power else 0)
    write_table(output, [*texts, *pairs], data, drawn, printed)


def table_figures(
    measured: pd.DataFrame,
    contenders: pd.DataFrame,
    shown: pd.DataFrame,
    found: pd.DataFrame,
    title: str,
    labels: Sequence[str],
) -> dict[str, Drawing]:
    """The figures of a comparison by the end of their files' names.

    Args:
        measured: as `records.load` returns it.
        contenders: as `compared_rows` returns it.
        shown: as `comparison_numbers` returns it.
        found: as `row_differences` returns it.
        title: what captions begin with.
        labels: all rows of the page, which look alike in all its figures.
    """
    if not len(shown):
        return {}
    metric = "mse" if is_error(shown["metric"].iloc[0]) else "accuracy"
    what = "median squared error" if is_error(metric) else "accuracy"
    drawn = {
        f"-{metric}": Drawing(
            accuracy_figure(shown, metric=metric),
            f"{title}: {what} of each row with its 95 % interval, and the published number, hollow",
        )
    }
    for column in dict.fromkeys(found["column"]):
        drawn[f"-differences-{slug(column)}"] = Drawing(
            difference_matrix(found, column, metric),
            f"{title}, {column}: every row of a block compared with every other",
        )
    curves: dict[tuple[str, ...], list[str]] = {}  # columns by the runs that they are of
    for column in dict.fromkeys(map(str, contenders["column"])):
        own = contenders[contenders["column"] == column]
        runs = labelled(measured, own)
        curves.setdefault(tuple(runs["run"]), []).append(column)
        drawn[f"-seconds-{slug(column)}"] = Drawing(
            cost_figure(runs, metric=own["metric"].iloc[0], title=column, labels=labels),
            f"{title}, {column}: the test's result against the seconds of training",
        )
    for names, columns in curves.items():
        runs = labelled(measured[measured["run"].isin(names)], contenders)
        heading = " to ".join(dict.fromkeys([columns[0], columns[-1]]))
        drawn[f"-curves-{slug(heading)}"] = Drawing(
            curves_figure(runs, metric=metric, title=heading, labels=labels),
            f"{title}, {heading}: what validation gave while each row trained",
        )
    return drawn


def labelled(measured: pd.DataFrame, contenders: pd.DataFrame) -> pd.DataFrame:
    """The records of these contenders, each with the label of its row."""
    labels = dict(zip(contenders["run"], contenders["label"], strict=True))
    runs = measured[measured["run"].isin(list(labels))]
    return runs.assign(label=runs["run"].map(labels))


def seeds_text(seeds: list[int]) -> str:
    """``0 1 2``, as every file writes seeds."""
    return " ".join(map(str, seeds))


def untrained_settings(run: Run) -> dict[str, Any]:
    """The settings of a run without an update, neither in episodes nor in a stage before."""
    own = [name for name in run.settings if name.endswith("updates")]
    without: dict[str, Any] = {name: 0 for name in own if not name.startswith(PRETRAIN)}
    return without | ({"pretrained_from": None} if "pretrained_from" in run.settings else {})


def training_gains(
    values: Mapping[str, pd.DataFrame], untrained: Mapping[str, Run]
) -> dict[tuple[str, str], Estimate]:
    """What training gave each run over its own untrained network, paired over the test episodes.

    Args:
        values: as `records.values` returns them, of the untrained runs too.
        untrained: by the name of the trained run.

    Returns:
        By the name of the run and the metric the difference of accuracies, or the ratio of squared
        errors, on the episodes that both have. A run that failed, or whose untrained one did, is
        left out, and so is an infinite error.
    """
    gains = {}
    for name, run in untrained.items():
        if name not in values or run.name not in values:
            continue
        for metric in map(str, values[name]):
            if metric.startswith(("accuracy", "mse")):
                both = shared_episodes([values[each][metric] for each in (name, run.name)])
                with contextlib.suppress(ValueError):
                    gains[name, metric] = compare(both[:1], both[1:], metric).estimate
    return gains
