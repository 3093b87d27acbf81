"""The comparison table: measured runs beside published numbers, formatted only on the way out."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np
import pandas as pd

import zoo.reports.published as paper
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
    phrases,
    protocol,
    runs_of,
    table_lines,
    tests_weights,
    usual,
    without_heading,
)

GAIN = "over untrained"
LEARNED = 10  # points of accuracy over the untrained network
NAME, MEASURED, PUBLISHED = "learner", "measured", "published"
SHARE = "share of the paper's tasks"
CPU = "CPU hours of updates"
INTERVALS = {
    False: "Intervals are of 95 % over test episodes: a claim about these trained weights, not "
    "about training again.",
    True: "Intervals are of 95 %: with several seeds for a new seed and new test episodes; with "
    "one seed over test episodes, a claim about these trained weights.",
}
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
EpisodeValues = Mapping[str, pd.DataFrame]  # by run, a column a metric, a row a test episode
Gains = Mapping[tuple[str, str], Estimate]  # by run and metric: what training changed
MEDIAN, ERRORS = "median", ("trimmed mean", "diverged", "mean")
HUGE = 1e5  # an error from where it is written with its power of ten


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

    Accuracy in per cent; the median squared error where the benchmark is regression.

    Runs that differ in nothing but the seed share a cell, others get lines of their own. What
    most cells share stands in the caption, what departs from it in footnotes. Beside a published
    accuracy stands ↓ where ours is worse and ↑ where it is better, if the interval of the
    difference does not hold 0. Transductive rows, and rows tested on other episodes, stand in
    blocks of their own.

    Args:
        measured: as `records.load` returns it.
        published: as `published.published` returns it.
        benchmark: a key, for all its options in one table, or one variant of it.
        title: what the caption calls the benchmark.
        order: learner keys, first to last; all others follow, by title.
        gains: by run and metric what training changed in it, as `compare` has it: a difference
            of accuracies, a ratio of squared errors. None for a table that does not tell.
        values: as `records.values` returns them; without them, several seeds have no interval.
        bold: which cells stand out: heading of the column and label of the line, as `compared_rows`
            has them.
    """
    table = named_lines(measured, benchmark, order)
    shapes = sorted({shape for line in table.values() for shape in line})
    firsts = [cell.runs[0] for line in table.values() for cell in line.values()]
    common, plain = usual(firsts), judged_by(firsts)
    blocks = blocks_of(table)
    headings = {label: block_of_row([*own.values()]) for label, own in blocks.items()}
    several = len({block for own in blocks.values() for block in own.values()}) > 1
    rows: list[list[Cell]] = []
    for label in blocks:
        line = table[label]
        said = {shape: departures(cell, common) for shape, cell in line.items()}
        if several:
            said = {
                at: without_heading(texts, blocks[label][at], headings[label])
                for at, texts in said.items()
            }
        first, *others = said.values()
        of_all = [text for text in first if all(text in other for other in others)]
        row = [Cell(label, of_all)]
        for shape in shapes:
            own = [text for text in said.get(shape, []) if text not in of_all]
            stands_out = (heading_of(shape), label) in bold
            metric, cell = metric_in(shape, plain), line.get(shape)
            row += _cells(cell, own, metric, published, values, stands_out)
            if gains is not None:
                row.append(_gain([] if cell is None else cell.runs, gains, metric))
        firsts_of_row = [line[at].runs[0] if at in line else None for at in shapes]
        row += [Cell(shares(firsts_of_row)), cpu_hours(firsts_of_row)]
        rows.append(row)
    columns = [Column(NAME)]
    for heading in map(heading_of, shapes):
        of_errors = ERRORS if is_error(plain) else ()
        first_head = MEDIAN if is_error(plain) else MEASURED
        columns += [Column(heading, heading, first_head)]
        columns += [Column(f"{heading} {name}", heading, name) for name in of_errors]
        columns += [Column(PUBLISHED, heading)]
        if gains is not None:
            columns.append(Column(GAIN, heading))
    arrows = {cell.sign for row in rows for cell in row}
    return Table(
        title=title or paper.benchmark_key(benchmark),
        caption=_caption(table, common, plain, rows) if rows else "no runs.",
        columns=[*columns, Column(SHARE), Column(CPU)],
        rows=rows,
        legend={arrow: text for arrow, text in paper.AGREEMENT.items() if arrow in arrows},
        blocks=list(headings.values()) if several else (),
    )


def _caption(
    table: Mapping[str, Line], common: dict[str, str], plain: str, rows: list[list[Cell]]
) -> str:
    """What the numbers are, what most share, what the intervals and bold mean, who is ranked."""
    cells = [cell for line in table.values() for cell in line.values()]
    done = [[run for run in cell.runs if run["status"] == "done"] for cell in cells]
    seeds = max((len(runs) for runs in done), default=0)
    mixed = any(protocol(cell.runs[0]).items() - common.items() for cell in cells)
    aside = "; departures are marked" if mixed else ""
    words = [f"{metric_of(plain).name}, {phrases(common)}{aside}.", INTERVALS[seeds > 1]]
    if is_error(plain):
        words.append(ERRORS_CLAIM)
    if not all(tests_weights(cell.runs[0]) for cell in cells):  # papers have none of those
        words.append("Published numbers are as printed.")
    words += cost_words([cell.runs[0] for cell in cells])
    return " ".join([*words, *ranking_words(rows, seeds)])


def ranking_words(rows: Sequence[Sequence[Cell]], seeds: int) -> list[str]:
    """What a caption says of bold: what it means, or why there is none.

    Args:
        rows: of the table.
        seeds: how many finished runs a number has at most.
    """
    if any(cell.bold for row in rows for cell in row):
        return [BOLD]
    return [NO_RANKS] if seeds else []


def blocks_of(table: Mapping[str, Line]) -> dict[str, dict[Shape, str]]:
    """The block of each number by label and shape; the labels in the order of the table's rows."""
    common = usual([cell.runs[0] for line in table.values() for cell in line.values()])
    found = {
        label: {shape: block_of(cell.runs[0], common) for shape, cell in line.items()}
        for label, line in table.items()
    }

    def place(label: str) -> int:
        return BLOCKS.index(block_of_row([*found[label].values()]))

    return {label: found[label] for label in sorted(found, key=place)}


def named_lines(
    measured: pd.DataFrame, benchmark: str, order: Sequence[str] = ()
) -> dict[str, Line]:
    """The lines of a comparison by their labels, no two alike."""
    key = paper.benchmark_key(benchmark)
    names = measured["benchmark"].map(paper.benchmark_key if key == benchmark else str)
    found: dict[str, Line] = {}
    alike: Counter[str] = Counter()
    for line in table_lines(runs_of(measured[names == benchmark]), order):
        label = label_of(next(iter(line.values())).runs[0])
        alike[label] += 1
        found[label if alike[label] == 1 else f"{label} ({alike[label]})"] = line
    return found


def compared_rows(
    measured: pd.DataFrame, benchmark: str, order: Sequence[str] = ()
) -> pd.DataFrame:
    """Which runs stand behind which cell of a `comparison_table`.

    Returns:
        One line a finished run and column: `column`, its heading; `block` that the number stands
        in; `label` of the line; `seed`; `run`; `metric`, that the column shows.
    """
    table = named_lines(measured, benchmark, order)
    blocks = blocks_of(table)
    plain = judged_by([cell.runs[0] for line in table.values() for cell in line.values()])
    found = [
        (heading_of(at), blocks[label][at], label, run["seed"], run["run"], metric_in(at, plain))
        for label in blocks
        for at, cell in table[label].items()
        for run in cell.runs
        if run["status"] == "done"
    ]
    return pd.DataFrame(found, columns=["column", "block", "label", "seed", "run", "metric"])


def comparison_numbers(
    measured: pd.DataFrame,
    published: pd.DataFrame,
    benchmark: str,
    order: Sequence[str] = (),
    values: EpisodeValues | None = None,
) -> pd.DataFrame:
    """What a `comparison_table` shows, as numbers: accuracies are fractions of 1.

    Returns:
        One line a cell that has a number: `label`, `column`, `block`, `metric`; `value` with the
        ends of its interval, `value_low` and `value_high`: a mean accuracy, or a median squared
        error; `published`, `published_ci95`; `runs`, the finished ones by seed.
    """
    table = named_lines(measured, benchmark, order)
    plain = judged_by([cell.runs[0] for line in table.values() for cell in line.values()])
    found = []
    for label, blocks in blocks_of(table).items():
        for shape, cell in table[label].items():
            metric = metric_in(shape, plain)
            ours = measured_cell(cell.runs, metric, values)
            if math.isnan(ours.estimate.value):
                continue
            theirs = paper.match(cell.runs[0], published, metric)
            if is_error(metric):  # a published error is a mean, and ours here is a median
                theirs = None
            printed = [math.nan] * 2 if theirs is None else [theirs["value"], theirs["ci95"]]
            printed = [number / metric_of(metric).unit for number in printed]
            about = (label, heading_of(shape), blocks[shape], metric)
            found.append((*about, *ours.estimate, *printed, list(ours.runs)))
    theirs_too = ["published", "published_ci95", "runs"]
    names = ["label", "column", "block", "metric", *columns_of("value"), *theirs_too]
    return pd.DataFrame(found, columns=names)


def judged_by(runs: list[RecordRow]) -> str:
    """The metric that these are compared by."""
    return next((m for m in METRICS if any(pd.notna(run.get(m)) for run in runs)), "accuracy")


def metric_in(shape: Shape, plain: str) -> str:
    """The metric that the column of a shape shows."""
    return f"accuracy@instance{shape.instance}" if shape.instance else plain


class Measured(NamedTuple):
    """What the finished runs of a cell gave."""

    text: str
    remarks: list[str]  # footnotes
    estimate: Estimate = Estimate(math.nan)
    runs: Sequence[RecordRow] = ()  # the finished ones


def measured_cell(runs: list[RecordRow], metric: str, values: EpisodeValues | None) -> Measured:
    """A cell's number as text, the footnotes it needs, and the number with its interval."""
    done, remarks = [run for run in runs if run["status"] == "done"], failures(runs)
    if not done:
        failed = any(run["status"] == "failed" for run in runs)
        return Measured("failed" if failed else NONE, remarks)
    _, unit, form, *_ = metric_of(metric)
    if any(pd.isna(run.get(metric, math.nan)) for run in done):
        return Measured(NONE, [f"measured without {metric}", *remarks])
    found = estimated(done, metric, values)
    if math.isnan(found.low) and (len(done) > 1 or is_error(metric)):
        remarks = ["no interval: what each episode gave is missing", *remarks]
    if len(done) > 1:
        remarks = [f"seeds {', '.join(str(run['seed']) for run in done)}", *remarks]
    return Measured(with_interval(found.times(unit), form), remarks, found, done)


def estimated(runs: Sequence[RecordRow], metric: str, values: EpisodeValues | None) -> Estimate:
    """The number of these finished runs, of the episodes that all of them have."""
    if values is not None and all(run["run"] in values for run in runs):
        return estimate(shared_episodes([values[run["run"]][metric] for run in runs]), metric)
    means = [run[metric] for run in runs]
    if len(runs) > 1:
        return Estimate(math.nan if is_error(metric) else sum(means) / len(means))
    return estimate_from_record(means[0], runs[0][f"{metric}_ci95"], metric, runs[0]["episodes"])


def _cells(
    cell: CellRuns | None,
    own: list[str],
    metric: str,
    published: pd.DataFrame,
    values: EpisodeValues | None,
    bold: bool,
) -> list[Cell]:
    """What was measured, with these footnotes of its own, and what is published of it.

    Of squared errors the trimmed mean, the share of diverged tasks and the mean stand between the
    median and the published number.
    """
    if cell is None:
        return [Cell()] * (5 if is_error(metric) else 2)
    run = cell.runs[0]
    measured = measured_cell(cell.runs, metric, values)
    ours = Cell(measured.text, own + measured.remarks, bold=bold)
    found = paper.match(run, published, metric)
    theirs = Cell()
    if found is not None:
        arrow = paper.agreement(
            measured.estimate.times(metric_of(metric).unit), found["value"], found["ci95"]
        )
        sign = "" if is_error(metric) else arrow
        theirs = Cell(found["printed"], paper.remarks(found, run), sign=sign)
    if not is_error(metric):
        return [ours, theirs]
    return [ours, *error_cells(measured.runs, metric, values), theirs]


def error_cells(runs: Sequence[RecordRow], metric: str, values: EpisodeValues | None) -> list[Cell]:
    """Trimmed mean, share of diverged tasks, and mean of a squared error, over all runs."""
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
    """Trimmed mean and share of diverged tasks of a squared error, over all runs; nan for none."""
    trimmed = diverged = math.nan
    if values is not None and all(run["run"] in values for run in runs):
        every = np.concatenate([values[run["run"]][metric].to_numpy(float) for run in runs])
        trimmed = trimmed_mean(every)
    shares = [run["diverged_test"] for run in runs]
    if not any(pd.isna(share) for share in shares):
        diverged = sum(shares) / len(shares)
    return trimmed, diverged


def error_text(value: float) -> str:
    """A squared error; from 100,000 on with its power of ten."""
    return format(value, ".3f" if abs(value) < HUGE else ".1e")


def _gain(runs: list[RecordRow], gains: Gains, metric: str) -> Cell:
    """What training gave the first of the runs, and whether that is less than learning."""
    if not runs or (runs[0]["run"], metric) not in gains:
        return Cell()
    run = runs[0]
    gain = gains[run["run"], metric]
    if is_error(metric):
        learned, least = gain.high < 1, "no"
        text = ratio_text(gain)
    else:
        learned, least = gain.value >= LEARNED / 100 and gain.low > 0, f"less than {LEARNED} points"
        text = with_interval(gain.times(100), sign="+")
    remarks = [] if learned else [f"not learned: {least} better than its own untrained network"]
    remarks += [f"over untrained: of seed {run['seed']} alone"] * (len(runs) > 1)
    return Cell(text, remarks)


def cpu_hours(runs: Sequence[RecordRow | None]) -> Cell:
    """``0.51`` hours on one core, of the updates and the stages before, one number a column.

    A stage whose record, an old one, does not know its hours is named in a footnote.
    """
    costs = [None if run is None else cpu_cost(run) for run in runs]
    known = [cost for cost in costs if cost is not None and not math.isnan(cost.own)]
    if not known:
        return Cell()
    texts = [f"{(cost.own + cost.stages) / 3600:.2f}" if cost in known else NONE for cost in costs]
    left_out = dict.fromkeys(name for cost in known for name in cost.unknown)
    footnotes = [f"CPU hours without {' and '.join(left_out)}: not recorded"] if left_out else []
    return Cell(" / ".join(texts), footnotes)


def cost_words(runs: Sequence[RecordRow]) -> list[str]:
    """What a caption says of stages in the CPU hours of these runs; empty without a stage."""
    if not any(cpu_cost(run).stages for run in runs if not math.isnan(cpu_cost(run).own)):
        return []
    shared = shared_stages(runs)
    once = (
        f"; {' and '.join(shared)}, trained once, in each number that needed it" if shared else ""
    )
    return [f"CPU hours include the stages before the updates{once}."]


def share(run: RecordRow) -> float:
    """Training tasks seen, of those the paper trained on; nan where either is not known."""
    seen, paper_tasks = run["tasks_seen"], run["tasks_paper"]
    return float("nan") if pd.isna(seen) or pd.isna(paper_tasks) else seen / paper_tasks


def shares(runs: list[RecordRow | None]) -> str:
    """``12 %`` where all columns agree, else one share a column: ``12 / 24 %``."""
    texts = [NONE if run is None else _per_cent(run) for run in runs]
    if len({text for text, run in zip(texts, runs, strict=True) if run is not None}) == 1:
        texts = [text for text, run in zip(texts, runs, strict=True) if run is not None][:1]
    return " / ".join(texts) + ("" if set(texts) == {NONE} else " %")


def _per_cent(run: RecordRow) -> str:
    """The share in whole per cent, rounded down: 99.9 is not yet all."""
    seen = share(run)
    if pd.isna(seen):
        return NONE
    return "<1" if 0 < seen < 0.01 else str(100 * int(run["tasks_seen"]) // int(run["tasks_paper"]))


def heading_of(at: Shape) -> str:
    """What stands above a column."""
    if at.instance:
        return f"{at.way}-way instance {at.instance}"
    return f"{at.way}-way {at.shot}-shot" if at.way else f"{at.shot}-shot"


def label_of(run: RecordRow) -> str:
    """How a line is called: by the learner and what it changes."""
    own = {name: value for name, value in run["variant"].items() if name != "host"}
    overrides = paper.format_overrides(own)  # a plug-in's title names its host
    return f"{run['title']} [{overrides}]" if overrides else run["title"]
