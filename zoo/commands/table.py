"""The command ``zoo table``: makes the runs of a comparison and shows them as a table."""

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
from zoo.registry import learners, usual_learners
from zoo.reports import published
from zoo.reports.estimates import Estimate, compare, shared_episodes
from zoo.reports.figures.comparison import (
    accuracy_figure,
    cost_figure,
    curves_figure,
    smallest_and_largest,
)
from zoo.reports.figures.difference_matrix import difference_matrix
from zoo.reports.formats.table import Table
from zoo.reports.metrics import is_error
from zoo.reports.tables.comparison import compared_rows, comparison_numbers, comparison_table
from zoo.reports.tables.comparison_csv import cells_csv_frame, comparison_csv_frame
from zoo.reports.tables.differences import (
    LEVEL,
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
        learners: keys or variants, in the order of the rows; empty for all learners that can be
            run on the benchmark.
        ways: N of the test episodes; empty in regression.
        shots: K of the test episodes.
        seeds: of each row.
        terms: paper, equal or both.
        budget: how long to train.
        untrained: whether every row is tested untrained too.
        differences: which pairs of rows are printed: "" for none, ``best`` for each row with the
            best one of its block, ``all`` for every row with every other.
        power: whether differences are printed with the number of episodes that half a point needs.
        figures: whether figures are drawn.
        trained_on: the key or variant of the benchmark that the weights were trained on; "" if the
            runs train on `benchmark` itself.
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
        """The benchmark in captions, and where the weights are from if they are not its own."""
        title = find_benchmark(self.benchmark).title
        if not self.trained_on:
            return title
        return f"{title}, with weights trained on {find_benchmark(self.trained_on).title}"

    @property
    def order(self) -> list[str]:
        """The learners' keys, in the order of the rows."""
        return [parse_variant(name)[0] for name in self.learners]

    def run_requests(self) -> Iterator[RunRequest]:
        """A request for every run of the table, including those that cannot be made."""
        names = self.learners
        if not names:
            benchmark = find_benchmark(self.benchmark)
            names = usual_learners(benchmark.tables)
            if benchmark.regression:
                names = [key for key in names if learners.get(key).regression]
        both_terms = TERMS if self.terms == "both" else (self.terms,)
        ways: Sequence[int | None] = self.ways or [None]
        cells = itertools.product(both_terms, names, ways, self.shots, self.seeds)
        for terms, learner, way, shot, seed in cells:
            yield RunRequest(learner, self.benchmark, way, shot, terms, self.budget, seed)

    def name(self) -> list[str]:
        """Words that make up the names of the table's files."""
        variant = find_benchmark(self.benchmark).variant
        words = ["table", variant, *self.learners, *(f"{way}w" for way in self.ways)]
        words += [f"{' '.join(map(str, self.shots))}s", self.terms, self.budget]
        if list(self.seeds) != [0]:
            words.append(f"seeds {' '.join(map(str, self.seeds))}")
        if self.trained_on:
            words += ["from", find_benchmark(self.trained_on).variant]
        if self.untrained:
            words.append("untrained")
        return words


def table_command(options: argparse.Namespace) -> int:
    """Make the missing runs, then print and write the comparison."""
    request = table_request(options)
    run_set = run_set_of(options)
    if find_benchmark(request.benchmark).own and not options.ways:
        request = with_way_that_fits(request, run_set)
    output = Output(options.results, request.name(), options.words, options.dry_run)
    make = make_cross_table if request.trained_on else make_table
    return make(request, run_set, output)


def with_way_that_fits(request: TableRequest, run_set: RunSet) -> TableRequest:
    """A table of the user's images with as many ways as every split has classes, at most 5."""
    try:
        way, why = way_that_fits(run_set.stores(request.benchmark))
    except UsageError:  # `make_table` reports it
        return request
    if why:
        run_set.say(f"fitted to the images: {why}")
    return replace(request, ways=[way])


def table_request(options: argparse.Namespace) -> TableRequest:
    """Parse the command line into a request for a table.

    Raises:
        UsageError: a learner is unknown, or shots, ways or seeds are not whole numbers.
    """
    benchmark = find_benchmark(options.benchmark)
    names = dict.fromkeys(map(learner_variant, variants_in(options.learners)))
    ways: list[int] = []
    if options.ways or not benchmark.regression:
        ways = parse_numbers(options.ways or "5", "--ways")
    return TableRequest(
        benchmark.variant,
        [*names],
        ways,
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


def make_table(request: TableRequest, run_set: RunSet, output: Output) -> int:
    """Make the runs that are missing, print and write the table.

    Returns:
        The exit status: 0; 1 if a run failed or cannot be made; 2 if none can be made, because the
        data are missing or in a dry run.

    Raises:
        UsageError: the data are there, but none of the runs can be made; not in a dry run.
    """
    benchmark = find_benchmark(request.benchmark)
    runs: dict[RunRequest, Run] = {}
    untrained: dict[str, Run] = {}  # the run without updates, by the name of the trained run
    reasons: dict[RunRequest, str] = {}  # why a run cannot be made, or is missing
    try:
        run_set.stores(request.benchmark)
    except UsageError as error:
        run_set.complain(f"  {error}")
        reason = f"no data: {benchmark.title} is not in {run_set.workspace.data}"
        reasons = dict.fromkeys(request.run_requests(), reason)
        # The table has only the published numbers: print it, but write no files.
        output = replace(output, dry_run=True)
    else:
        runs, untrained, reasons = plan_runs(request, run_set)
    if not runs and not output.dry_run:
        raise UsageError("nothing of this table can be run")
    run_set.say(f"{benchmark.title}, terms {request.terms}, budget {request.budget}")
    for run in [*runs.values(), *untrained.values()]:
        run_set.add(run)
    status = 2
    if runs:
        status = 1 if run_set.make() or reasons else 0
    if run_set.makes_no_table:
        return status
    measured, values = run_set.read()
    measured = measured[measured["run"].isin([run.name for run in runs.values()])]
    measured_names = set(measured["run"])
    estimator = Estimator.from_records_in(output.folder)
    for run_request, run in runs.items():
        if run.name not in measured_names:
            reasons[run_request] = reason_missing(run, estimator)
    write_comparison(request, output, with_missing_rows(measured, reasons), values, untrained)
    if reasons:
        print("\n".join(["", *commands_for_missing(reasons, runs, estimator)]))
    return status


def plan_runs(
    request: TableRequest, run_set: RunSet
) -> tuple[dict[RunRequest, Run], dict[str, Run], dict[RunRequest, str]]:
    """Plan every run of a table, without adding it to the run set.

    Returns:
        The runs; their untrained counterparts, if asked for, by the name of the trained run; and
        why the other runs cannot be made.
    """
    runs: dict[RunRequest, Run] = {}
    untrained: dict[str, Run] = {}
    reasons: dict[RunRequest, str] = {}
    for run_request in request.run_requests():
        try:
            run = run_set.plan(run_request)
            if request.untrained and (run["updates"] or run.stages):
                without_training = replace(run_request, flags=untrained_settings(run))
                untrained[run.name] = run_set.plan(without_training)
            runs[run_request] = run
        except UsageError as error:
            reasons[run_request] = f"cannot be run: {error}"
            run_set.complain(f"  {run_request.words} {reasons[run_request]}")
    return runs, untrained, reasons


def make_cross_table(request: TableRequest, run_set: RunSet, output: Output) -> int:
    """Test weights that were trained on another benchmark, and print and write the table.

    Returns:
        The exit status.

    Raises:
        UsageError: the benchmarks do not fit each other, or there are no weights.
    """
    target, other = find_benchmark(request.benchmark), find_benchmark(request.trained_on)
    if request.untrained:
        raise UsageError("--untrained: a table of weights from elsewhere has no untrained rows")
    check_same_images(target, other)
    rows = runs_on(other, request.budget, run_set)
    names = request.learners or learners_of(rows)
    if not names:
        raise UsageError(
            f"--from {other.variant}: no run on it with budget {request.budget} in "
            f"{run_set.workspace.results}; `python -m zoo run LEARNER {other.variant} --budget "
            f"{request.budget}` leaves weights there"
        )
    training = replace(request, benchmark=other.variant, learners=names)
    tests, gaps = plan_tests(training.run_requests(), rows, target, run_set)
    run_set.say(f"{request.title}, terms {request.terms}, budget {request.budget}")
    status = 1 if gaps else 0
    if run_set.runs and run_set.make():
        status = 1
    if run_set.makes_no_table:
        return status
    folder = run_set.workspace.results / TESTED_FOLDER
    measured = load_records(folder, announce=folder.is_dir())
    measured = measured[measured["run"].isin(run_set.recorded())]
    values = measured_values(folder, measured)
    measured_names = set(measured["run"])
    for name, run_request in tests.items():
        if name not in measured_names:
            gaps[run_request] = Gap("not tested")
    reasons = {run_request: gap.why for run_request, gap in gaps.items()}
    measured = with_missing_rows(measured, reasons)
    measured = measured.assign(benchmark=target.variant, trained_on=other.variant)
    write_comparison(request, output, measured, values, {})
    for run_request, gap in gaps.items():
        text = f"{gap.why}; {gap.remedy}" if gap.remedy else gap.why
        print(f"– {run_request.words}: {text}")
    return status


def with_missing_rows(measured: pd.DataFrame, reasons: Mapping[RunRequest, str]) -> pd.DataFrame:
    """Add a row for each run without a record to the records.

    Args:
        measured: the frame from `records.load`.
        reasons: why a run has no record, by its request.
    """
    if not reasons:
        return measured
    integers = {name: dtype for name, dtype in measured.dtypes.items() if dtype == "Int64"}
    missing = pd.DataFrame([missing_row(request, why) for request, why in reasons.items()])
    missing = missing.astype(integers)
    return pd.concat([measured, missing], ignore_index=True) if len(measured) else missing


def write_comparison(
    request: TableRequest,
    output: Output,
    measured: pd.DataFrame,
    values: Mapping[str, pd.DataFrame],
    untrained: Mapping[str, Run],
) -> None:
    """Print the table, and write it in every form.

    Args:
        request: which cells the table has.
        output: where it goes.
        measured: a row for each run, as in the frame from `records.load`, also for runs without a
            record.
        values: for each run's name a frame with a column for each metric and a row for each test
            episode.
        untrained: the runs without updates, by the name of the trained run.
    """
    benchmark = find_benchmark(request.benchmark)
    title = request.title
    printed_numbers = published.published()
    order = request.order
    parts = {terms: measured[measured["terms"] == terms] for terms in TERMS}
    parts = {terms: part for terms, part in parts.items() if len(part)}
    differences: dict[str, pd.DataFrame] = {}  # by terms
    tables: list[Table] = []
    difference_tables: list[Table] = []
    cells: list[pd.DataFrame] = []
    drawings: dict[str, Drawing] = {}
    compared = {
        terms: compared_rows(part, benchmark.variant, order) for terms, part in parts.items()
    }
    labels = list(dict.fromkeys(label for rows in compared.values() for label in rows["label"]))
    for terms, part in parts.items():
        numbers = comparison_numbers(part, printed_numbers, benchmark.variant, order, values)
        differences[terms] = row_differences(compared[terms], part, values)
        bold = best_rows(differences[terms], numbers)
        cells.append(cells_csv_frame(numbers, values, bold).assign(terms=terms))
        tables.append(
            comparison_table(
                part,
                printed_numbers,
                benchmark.variant,
                title=title,
                order=order,
                gains=training_gains(values, untrained) if request.untrained else None,
                values=values,
                bold=bold,
            )
        )
        if len(differences[terms]):
            if request.differences == "all":
                pairs, which = differences[terms], "differences"
            else:
                pairs = pairs_with_best(differences[terms], numbers)
                which = "differences to the best row"
            heading = f"{title}, {terms} terms, {which}"
            difference_tables.append(differences_table(pairs, heading, request.power))
        if request.figures:
            ending = f"-{terms}" if len(parts) > 1 else ""
            figures = table_figures(
                part,
                compared[terms],
                numbers,
                differences[terms],
                f"{title}, {terms} terms",
                labels,
            )
            for name, drawing in figures.items():
                drawings[f"{name}{ending}"] = drawing
    if len(parts) > 1:
        tables.append(ranks(parts, benchmark.variant, title, order, values))
    data = {
        "": comparison_csv_frame(measured, printed_numbers, values),
        "-cells": pd.concat(cells),
    }
    all_differences = pd.concat([part.assign(terms=name) for name, part in differences.items()])
    if len(all_differences):
        seeds = all_differences["seeds"].map(seeds_text)
        data["-differences"] = all_differences.assign(seeds=seeds)
    printed = len(tables)
    if request.differences or request.power:
        printed += len(difference_tables)
    write_table(output, [*tables, *difference_tables], data, drawings, printed)


def table_figures(
    measured: pd.DataFrame,
    contenders: pd.DataFrame,
    numbers: pd.DataFrame,
    differences: pd.DataFrame,
    title: str,
    labels: Sequence[str],
) -> dict[str, Drawing]:
    """The figures of a comparison, by the ends of their files' names.

    Args:
        measured: the frame from `records.load`.
        contenders: as `compared_rows` returns it.
        numbers: as `comparison_numbers` returns it.
        differences: as `row_differences` returns it.
        title: what captions begin with.
        labels: of all rows on the page; a row has the same colour and marker in all its figures.
    """
    if not len(numbers):
        return {}
    metric = "mse" if is_error(numbers["metric"].iloc[0]) else "accuracy"
    what = "median squared error" if is_error(metric) else "accuracy"
    first_column = numbers[numbers["column"] == numbers["column"].iloc[0]]
    drawings = {
        f"-{metric}": Drawing(
            accuracy_figure(numbers, metric=metric),
            f"{title}: {what} of each row with its 95 % interval, published numbers hollow; "
            f"{smallest_and_largest(first_column)}",
        )
    }
    for column, pairs in differences.groupby("column", sort=False):
        different = int((pairs["p_holm"] < LEVEL).sum())
        drawings[f"-differences-{slug(str(column))}"] = Drawing(
            difference_matrix(differences, str(column), metric),
            f"{title}, {column}: every row of a block compared with every other; "
            f"{different} of {len(pairs)} pairs are told apart",
        )
    # Columns that show the same runs share one figure of curves.
    columns_of_runs: dict[tuple[str, ...], list[str]] = {}
    for column in dict.fromkeys(map(str, contenders["column"])):
        contenders_of_column = contenders[contenders["column"] == column]
        runs = labelled(measured, contenders_of_column)
        columns_of_runs.setdefault(tuple(runs["run"]), []).append(column)
        metric_of_column = contenders_of_column["metric"].iloc[0]
        drawings[f"-seconds-{slug(column)}"] = Drawing(
            cost_figure(runs, metric=metric_of_column, title=column, labels=labels),
            f"{title}, {column}: the test's result against the seconds of training",
        )
    for names, columns in columns_of_runs.items():
        runs = labelled(measured[measured["run"].isin(names)], contenders)
        heading = " to ".join(dict.fromkeys([columns[0], columns[-1]]))
        drawings[f"-curves-{slug(heading)}"] = Drawing(
            curves_figure(runs, metric=metric, title=heading, labels=labels),
            f"{title}, {heading}: validation results while each row trained",
        )
    return drawings


def labelled(measured: pd.DataFrame, contenders: pd.DataFrame) -> pd.DataFrame:
    """The records of some contenders, each with the label of its row."""
    labels = dict(zip(contenders["run"], contenders["label"], strict=True))
    runs = measured[measured["run"].isin(list(labels))]
    return runs.assign(label=runs["run"].map(labels))


def seeds_text(seeds: list[int]) -> str:
    """Seeds as every file writes them: ``0 1 2``."""
    return " ".join(map(str, seeds))


def untrained_settings(run: Run) -> dict[str, Any]:
    """The settings that make a run without updates, neither in episodes nor in a stage before."""
    settings: dict[str, Any] = {}
    for name in run.settings:
        if name.endswith("updates") and not name.startswith(PRETRAIN):
            settings[name] = 0
    if "pretrained_from" in run.settings:
        settings["pretrained_from"] = None
    return settings


def training_gains(
    values: Mapping[str, pd.DataFrame], untrained: Mapping[str, Run]
) -> dict[tuple[str, str], Estimate]:
    """How much better each run is than its untrained network, paired over the test episodes.

    Args:
        values: the frames from `records.values`, with the untrained runs among them.
        untrained: the runs without updates, by the name of the trained run.

    Returns:
        By a run's name and a metric, the difference of accuracies or the ratio of squared errors,
        over the episodes that both runs have. A run is left out if it or its untrained run failed,
        and a metric of a run if one of its values is not finite.
    """
    gains = {}
    for name, run in untrained.items():
        if name not in values or run.name not in values:
            continue
        for metric in map(str, values[name]):
            if metric.startswith(("accuracy", "mse")):
                pair = shared_episodes([values[name][metric], values[run.name][metric]])
                with contextlib.suppress(ValueError):
                    gains[name, metric] = compare(pair[:1], pair[1:], metric).estimate
    return gains
