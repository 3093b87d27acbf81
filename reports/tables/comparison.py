"""The comparison table: measured runs beside published numbers."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np
import pandas as pd

import zoo.reports.published as published_numbers
from zoo.reports.costs import cpu_cost, shared_stages
from zoo.reports.estimates import (
    Estimate,
    columns_of,
    estimate,
    estimate_from_record,
    shared_episodes,
    trimmed_mean,
)
from zoo.reports.formats.numbers import ratio_text, with_interval
from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.metrics import METRICS, is_error, metric_of
from zoo.reports.tables.cells import (
    BLOCKS,
    CellRuns,
    Line,
    RecordRow,
    Shape,
    block_of,
    block_of_row,
    departures,
    failures,
    runs_of,
    shared_protocol,
    table_lines,
    tests_weights,
    usual,
    without_heading,
)

GAIN = "over untrained"
LEARNED = 10  # points of accuracy over the untrained network from which a learner has learned
NAME, MEASURED, PUBLISHED = "learner", "measured", "published"
SHARE = "share of the paper's tasks"
CPU = "CPU hours of updates"
ONE_SEED_INTERVALS = (
    "Intervals are of 95 % over test episodes: a claim about these trained weights, not about "
    "training again."
)
SEVERAL_SEEDS_INTERVALS = (
    "Intervals are of 95 %: with several seeds for a new seed and new test episodes; with one seed "
    "over test episodes, a claim about these trained weights."
)
ERRORS_CLAIM = (
    "Medians are over the tasks, with bootstrap intervals; the trimmed mean leaves out the lowest "
    "and highest tenth of the tasks; diverged are tasks with more than ten times the error of "
    "predicting zero. The mean, which papers print, has no interval: a few tasks decide it."
)
BOLD = (
    "In bold, of each block whose rows have three seeds: the best, and what cannot be told from it "
    "by paired tests (5 %, Holm's correction over the block)."
)
NO_RANKS = "Nothing is bold: that takes three seeds of all rows of a block, so no method is ranked."
EpisodeValues = Mapping[str, pd.DataFrame]  # by run: a column per metric, a row per test episode
Gains = Mapping[tuple[str, str], Estimate]  # by run and metric: how much training changed it
MEDIAN = "median"
ERRORS = ("trimmed mean", "diverged", "mean")  # further columns of a squared error
HUGE = 1e5  # errors from here on are written with a power of ten


def comparison_table(
    measured: pd.DataFrame,
    published: pd.DataFrame,
    benchmark: str,
    *,
    title: str | None = None,
    order: Sequence[str] = (),
    gains: Gains | None = None,
    values: EpisodeValues | None = None,
    bold: Set[tuple[str, str]] = frozenset(),
) -> Table:
    """Each learner variant's number on a benchmark, beside the published one.

    Accuracies are in per cent; for regression the number is the median squared error.

    A row is a learner variant; columns are grouped by way and shot. Runs that differ only in their
    seed share a cell, runs that differ otherwise have separate rows. The caption states the
    protocol of most cells, footnotes state what departs from it. A published accuracy is marked ↓
    where ours is significantly worse and ↑ where it is significantly better. Rows that are
    transductive, or tested on other episodes, are in blocks of their own.

    Args:
        measured: the frame from `records.load`.
        published: as `published.published` returns it.
        benchmark: a key, for all its options in one table, or one variant of it.
        title: what the caption calls the benchmark.
        order: learner keys, first to last; all others follow, by title.
        gains: by run and metric how much training changed it, from `compare`: a difference of
            accuracies, or a ratio of squared errors. None leaves the column out.
        values: the frames from `records.values`; without them, several seeds have no interval.
        bold: the cells to print bold, each as heading of the column and label of the row (see
            `compared_rows`).
    """
    table = named_lines(measured, benchmark, order)
    shapes = sorted({shape for line in table.values() for shape in line})
    first_runs = _first_runs(table)
    common = usual(first_runs)
    main_metric = main_metric_of(first_runs)
    blocks = blocks_of(table)  # by label and shape
    headings = {label: block_of_row([*by_shape.values()]) for label, by_shape in blocks.items()}
    several_blocks = len({block for by_shape in blocks.values() for block in by_shape.values()}) > 1
    rows: list[list[Cell]] = []
    for label in blocks:
        line = table[label]
        footnotes = {
            shape: departures(cell, common) + lost_episodes(cell, values)
            for shape, cell in line.items()
        }
        if several_blocks:
            footnotes = {
                shape: without_heading(texts, blocks[label][shape], headings[label])
                for shape, texts in footnotes.items()
            }
        first, *others = footnotes.values()
        row_footnotes = [text for text in first if all(text in other for other in others)]
        row = [Cell(label, row_footnotes)]
        for shape in shapes:
            cell_footnotes = [t for t in footnotes.get(shape, []) if t not in row_footnotes]
            is_bold = (heading_of(shape), label) in bold
            metric, cell = metric_in(shape, main_metric), line.get(shape)
            row += _cells(cell, cell_footnotes, metric, published, values, is_bold)
            if gains is not None:
                row.append(_gain([] if cell is None else cell.runs, gains, metric))
        first_runs_of_row = [line[shape].runs[0] if shape in line else None for shape in shapes]
        row += [Cell(shares(first_runs_of_row)), cpu_hours(first_runs_of_row)]
        rows.append(row)
    columns = [Column(NAME)]
    for shape in shapes:
        columns += _columns(heading_of(shape), is_error(main_metric), gains is not None)
    arrows = {cell.sign for row in rows for cell in row}
    return Table(
        title=title or published_numbers.benchmark_key(benchmark),
        caption=_caption(table, common, main_metric, rows) if rows else "no runs.",
        columns=[*columns, Column(SHARE), Column(CPU)],
        rows=rows,
        legend={
            arrow: text for arrow, text in published_numbers.AGREEMENT.items() if arrow in arrows
        },
        blocks=list(headings.values()) if several_blocks else (),
    )


def _first_runs(table: Mapping[str, Line]) -> list[RecordRow]:
    """The first run of each cell."""
    return [cell.runs[0] for line in table.values() for cell in line.values()]


def _columns(heading: str, of_errors: bool, with_gain: bool) -> list[Column]:
    """The columns of one shape, below its heading."""
    columns = [Column(heading, heading, MEDIAN if of_errors else MEASURED)]
    if of_errors:
        columns += [Column(f"{heading} {name}", heading, name) for name in ERRORS]
    columns.append(Column(PUBLISHED, heading))
    if with_gain:
        columns.append(Column(GAIN, heading))
    return columns


def lost_episodes(cell: CellRuns, values: EpisodeValues | None) -> list[str]:
    """A footnote of a cell where the values of a run's episodes are missing or damaged.

    Args:
        cell: the runs behind a number.
        values: as for `comparison_table`.
    """
    done = [run["run"] for run in cell.runs if run["status"] == "done"]
    if values is None or all(run in values for run in done):
        return []
    return ["per-episode results are missing or damaged: not compared with other rows"]


def _caption(
    table: Mapping[str, Line], common: dict[str, str], main_metric: str, rows: list[list[Cell]]
) -> str:
    """What the numbers are, the shared protocol, and what intervals and bold mean."""
    cells = [cell for line in table.values() for cell in line.values()]
    done = [[run for run in cell.runs if run["status"] == "done"] for cell in cells]
    seeds = max((len(runs) for runs in done), default=0)
    first_runs = [cell.runs[0] for cell in cells]
    words = [
        f"{metric_of(main_metric).name}, {shared_protocol(common, first_runs)}.",
        interval_words(seeds),
    ]
    if is_error(main_metric):
        words.append(ERRORS_CLAIM)
    if not all(map(tests_weights, first_runs)):  # beside tests of weights nothing is published
        words.append("Published numbers are as printed.")
    words += cost_words(first_runs)
    return " ".join([*words, *ranking_words(rows, seeds)])


def interval_words(seeds: int) -> str:
    """The sentence of a caption on what the intervals claim.

    Args:
        seeds: the largest number of finished runs behind a number of the table.
    """
    return SEVERAL_SEEDS_INTERVALS if seeds > 1 else ONE_SEED_INTERVALS


def ranking_words(rows: Sequence[Sequence[Cell]], seeds: int) -> list[str]:
    """Sentences of a caption on what bold means, or why nothing is bold.

    Args:
        rows: of the table.
        seeds: the largest number of finished runs behind one of its numbers.
    """
    if any(cell.bold for row in rows for cell in row):
        return [BOLD]
    return [NO_RANKS] if seeds else []


def blocks_of(table: Mapping[str, Line]) -> dict[str, dict[Shape, str]]:
    """The block of each number by label and shape; the labels in the order of the table's rows."""
    common = usual(_first_runs(table))
    blocks = {
        label: {shape: block_of(cell.runs[0], common) for shape, cell in line.items()}
        for label, line in table.items()
    }

    def place(label: str) -> int:
        return BLOCKS.index(block_of_row([*blocks[label].values()]))

    return {label: blocks[label] for label in sorted(blocks, key=place)}


def named_lines(
    measured: pd.DataFrame, benchmark: str, order: Sequence[str] = ()
) -> dict[str, Line]:
    """The lines of a comparison by their labels; a label that occurs again gets a number."""
    key = published_numbers.benchmark_key(benchmark)
    names = measured["benchmark"].map(published_numbers.benchmark_key if key == benchmark else str)
    lines: dict[str, Line] = {}
    occurrences: Counter[str] = Counter()
    for line in table_lines(runs_of(measured[names == benchmark]), order):
        label = label_of(next(iter(line.values())).runs[0])
        occurrences[label] += 1
        if occurrences[label] > 1:
            label = f"{label} ({occurrences[label]})"
        lines[label] = line
    return lines


def compared_rows(
    measured: pd.DataFrame, benchmark: str, order: Sequence[str] = ()
) -> pd.DataFrame:
    """Which runs are behind which cell of a `comparison_table`.

    Returns:
        One line for each finished run and column: `column`, its heading; `block` of the number;
        `label` of the row; `seed`; `run`; `metric` of the column.
    """
    table = named_lines(measured, benchmark, order)
    blocks = blocks_of(table)
    main_metric = main_metric_of(_first_runs(table))
    lines = []
    for label, by_shape in blocks.items():
        for shape, block in by_shape.items():
            about = (heading_of(shape), block, label)
            metric = metric_in(shape, main_metric)
            for run in table[label][shape].runs:
                if run["status"] == "done":
                    lines.append((*about, run["seed"], run["run"], metric))
    return pd.DataFrame(lines, columns=["column", "block", "label", "seed", "run", "metric"])


def comparison_numbers(
    measured: pd.DataFrame,
    published: pd.DataFrame,
    benchmark: str,
    order: Sequence[str] = (),
    values: EpisodeValues | None = None,
) -> pd.DataFrame:
    """The numbers of a `comparison_table`, with accuracies as fractions of 1.

    Returns:
        One line for each cell that has a number: `label`, `column`, `block`, `metric`; `value`, a
        mean accuracy or a median squared error, with the ends of its interval, `value_low` and
        `value_high`; `published`, `published_ci95`; `runs`, the finished ones by seed.
    """
    table = named_lines(measured, benchmark, order)
    main_metric = main_metric_of(_first_runs(table))
    lines = []
    for label, blocks in blocks_of(table).items():
        for shape, cell in table[label].items():
            metric = metric_in(shape, main_metric)
            ours = measured_cell(cell.runs, metric, values)
            if math.isnan(ours.estimate.value):
                continue
            theirs = published_numbers.match(cell.runs[0], published, metric)
            if is_error(metric):  # a published error is a mean, and ours here is a median
                theirs = None
            printed = [math.nan] * 2 if theirs is None else [theirs["value"], theirs["ci95"]]
            printed = [number / metric_of(metric).unit for number in printed]
            about = (label, heading_of(shape), blocks[shape], metric)
            lines.append((*about, *ours.estimate, *printed, list(ours.runs)))
    names = ["label", "column", "block", "metric", *columns_of("value")]
    return pd.DataFrame(lines, columns=[*names, "published", "published_ci95", "runs"])


def main_metric_of(runs: list[RecordRow]) -> str:
    """The first of `METRICS` that any of these runs has, to compare them by; else accuracy."""
    for metric in METRICS:
        if any(pd.notna(run.get(metric)) for run in runs):
            return metric
    return "accuracy"


def metric_in(shape: Shape, main_metric: str) -> str:
    """The metric in the column of a shape."""
    return f"accuracy@instance{shape.instance}" if shape.instance else main_metric


class Measured(NamedTuple):
    """The result of a cell's finished runs."""

    text: str
    remarks: list[str]  # footnotes
    estimate: Estimate = Estimate(math.nan)
    runs: Sequence[RecordRow] = ()  # the finished ones


def measured_cell(runs: list[RecordRow], metric: str, values: EpisodeValues | None) -> Measured:
    """A cell's number as text, the footnotes it needs, and the number with its interval."""
    done = [run for run in runs if run["status"] == "done"]
    remarks = failures(runs)
    if not done:
        failed = any(run["status"] == "failed" for run in runs)
        return Measured("failed" if failed else NONE, remarks)
    if any(pd.isna(run.get(metric, math.nan)) for run in done):
        return Measured(NONE, [f"measured without {metric}", *remarks])
    result = estimated(done, metric, values)
    if math.isnan(result.low) and (len(done) > 1 or is_error(metric)):
        remarks = ["no interval: per-episode results are missing", *remarks]
    if len(done) > 1:
        remarks = [f"seeds {', '.join(str(run['seed']) for run in done)}", *remarks]
    shown = metric_of(metric)
    return Measured(with_interval(result.times(shown.unit), shown.form), remarks, result, done)


def estimated(runs: Sequence[RecordRow], metric: str, values: EpisodeValues | None) -> Estimate:
    """The estimate from these finished runs, on the episodes that all of them have.

    Without the values of the episodes it is what the records alone give.
    """
    if values is not None and all(run["run"] in values for run in runs):
        return estimate(shared_episodes([values[run["run"]][metric] for run in runs]), metric)
    means = [run[metric] for run in runs]
    if len(runs) > 1:
        return Estimate(math.nan if is_error(metric) else sum(means) / len(means))
    return estimate_from_record(means[0], runs[0][f"{metric}_ci95"], metric, runs[0]["episodes"])


def _cells(
    cell: CellRuns | None,
    footnotes: list[str],
    metric: str,
    published: pd.DataFrame,
    values: EpisodeValues | None,
    bold: bool,
) -> list[Cell]:
    """The measured number, with these footnotes and those it needs itself, and the published one.

    For squared errors, the trimmed mean, the share of diverged tasks and the mean are between them.
    """
    if cell is None:
        return [Cell()] * (5 if is_error(metric) else 2)
    run = cell.runs[0]
    measured = measured_cell(cell.runs, metric, values)
    ours = Cell(measured.text, footnotes + measured.remarks, bold=bold)
    row = published_numbers.match(run, published, metric)
    theirs = Cell()
    if row is not None:
        sign = ""
        if not is_error(metric):
            in_unit = measured.estimate.times(metric_of(metric).unit)
            sign = published_numbers.agreement(in_unit, row["value"], row["ci95"])
        theirs = Cell(row["printed"], published_numbers.remarks(row, run), sign=sign)
    if not is_error(metric):
        return [ours, theirs]
    return [ours, *error_cells(measured.runs, metric, values), theirs]


def error_cells(runs: Sequence[RecordRow], metric: str, values: EpisodeValues | None) -> list[Cell]:
    """Cells of a squared error over all runs: trimmed mean, share of diverged tasks, mean."""
    if not runs:
        return [Cell()] * 3
    trimmed, diverged = error_numbers(runs, metric, values)
    return [
        Cell() if math.isnan(trimmed) else Cell(error_text(trimmed)),
        Cell() if math.isnan(diverged) else Cell(f"{100 * diverged:.1f} %"),
        Cell(error_text(sum(run[metric] for run in runs) / len(runs))),
    ]


def error_numbers(
    runs: Sequence[RecordRow], metric: str, values: EpisodeValues | None
) -> tuple[float, float]:
    """Trimmed mean and share of diverged tasks of a squared error over all runs; nan if unknown."""
    trimmed = diverged = math.nan
    if values is not None and all(run["run"] in values for run in runs):
        errors = np.concatenate([values[run["run"]][metric].to_numpy(float) for run in runs])
        trimmed = trimmed_mean(errors)
    diverged_shares = [run["diverged_test"] for run in runs]
    if not any(map(pd.isna, diverged_shares)):
        diverged = sum(diverged_shares) / len(diverged_shares)
    return trimmed, diverged


def error_text(value: float) -> str:
    """A squared error as text, from 100,000 on with a power of ten."""
    if math.isinf(value):
        return "∞"
    return format(value, ".3f" if abs(value) < HUGE else ".1e")


def _gain(runs: list[RecordRow], gains: Gains, metric: str) -> Cell:
    """How much better training made the first run, with a footnote where that is too little."""
    if not runs or (runs[0]["run"], metric) not in gains:
        return Cell()
    run = runs[0]
    gain = gains[run["run"], metric]
    remarks = []
    if is_error(metric):
        text = ratio_text(gain)
        if not gain.high < 1:
            remarks.append(
                "not learned: error not significantly below that of its own untrained network"
            )
    else:
        text = with_interval(gain.times(100), sign="+")
        if not gain.value >= LEARNED / 100:
            better = f"less than {LEARNED} points better"
            remarks.append(f"not learned: {better} than its own untrained network")
        elif not gain.low > 0:
            remarks.append("not learned: not significantly better than its own untrained network")
    if len(runs) > 1:
        remarks.append(f"over untrained: of seed {run['seed']} alone")
    return Cell(text, remarks)


def cpu_hours(runs: Sequence[RecordRow | None]) -> Cell:
    """CPU hours of updates and of the stages before them, one number per column: ``0.51 / 0.73``.

    A footnote names the stages whose hours an old record does not know.
    """
    costs = [None if run is None else cpu_cost(run) for run in runs]
    texts = []
    unknown_stages: dict[str, None] = {}  # names, each once, in order
    for cost in costs:
        if cost is None or math.isnan(cost.updates):
            texts.append(NONE)
        else:
            texts.append(f"{(cost.updates + cost.stages) / 3600:.2f}")
            unknown_stages |= dict.fromkeys(cost.unknown)
    if all(text == NONE for text in texts):
        return Cell()
    if not unknown_stages:
        return Cell(" / ".join(texts))
    footnote = f"CPU hours without {' and '.join(unknown_stages)}: not recorded"
    return Cell(" / ".join(texts), [footnote])


def cost_words(runs: Sequence[RecordRow]) -> list[str]:
    """A sentence of a caption on the stages in the CPU hours of these runs; none without stages."""
    costs = [cpu_cost(run) for run in runs]
    if not any(cost.stages for cost in costs if not math.isnan(cost.updates)):
        return []
    once = ""
    if shared := shared_stages(runs):
        once = f"; {' and '.join(shared)}, trained once, in each number that needed it"
    return [f"CPU hours include the stages before the updates{once}."]


def share(run: RecordRow) -> float:
    """The training tasks that a run saw as a share of the paper's; nan where unknown."""
    seen, paper_tasks = run["tasks_seen"], run["tasks_paper"]
    return float("nan") if pd.isna(seen) or pd.isna(paper_tasks) else seen / paper_tasks


def shares(runs: list[RecordRow | None]) -> str:
    """``12 %`` where all columns have the same share, else one for each: ``12 / 24 %``."""
    of_runs = [_per_cent(run) for run in runs if run is not None]
    if len(set(of_runs)) == 1:
        texts = of_runs[:1]
    else:
        texts = [NONE if run is None else _per_cent(run) for run in runs]
    return " / ".join(texts) + ("" if set(texts) == {NONE} else " %")


def _per_cent(run: RecordRow) -> str:
    """The share in whole per cent, rounded down, so that 99.9 % does not look complete."""
    seen = share(run)
    if pd.isna(seen):
        return NONE
    return "<1" if 0 < seen < 0.01 else str(100 * int(run["tasks_seen"]) // int(run["tasks_paper"]))


def heading_of(shape: Shape) -> str:
    """The heading of the column of a shape."""
    if shape.instance:
        return f"{shape.way}-way instance {shape.instance}"
    return f"{shape.way}-way {shape.shot}-shot" if shape.way else f"{shape.shot}-shot"


def label_of(run: RecordRow) -> str:
    """The label of a row: the learner's title and its overrides."""
    # The override `host` is left out, because the title of a plug-in names its host.
    shown = {name: value for name, value in run["variant"].items() if name != "host"}
    overrides = published_numbers.format_overrides(shown)
    return f"{run['title']} [{overrides}]" if overrides else run["title"]
