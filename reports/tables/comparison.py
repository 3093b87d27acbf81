"""The comparison table: measured runs beside published numbers, formatted only on the way out."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set

import numpy as np
import pandas as pd

import zoo.reports.published as paper
from zoo.reports.formats.numbers import with_interval
from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.metrics import METRICS, metric_of
from zoo.reports.statistics import crossed_interval
from zoo.reports.tables.cells import (
    CellRuns,
    Line,
    RecordRow,
    Shape,
    departures,
    failures,
    phrases,
    protocol,
    runs_of,
    table_lines,
    usual,
)

GAIN = "over untrained"
LEARNED = 10  # points of accuracy over the untrained network
NAME, MEASURED, PUBLISHED = "learner", "measured", "published"
SHARE = "share of the paper's tasks"
CLAIM = (
    "± is the 95 % interval over test episodes: a claim about these trained weights. "
    "Published numbers are as printed."
)
SEEDS_CLAIM = (
    "± is the 95 % interval over test episodes, a claim about these trained weights; of several "
    "seeds it is that for a new seed and new episodes. Published numbers are as printed."
)
BOLD = (
    "In bold: the best, and what cannot be told from it by paired tests "
    "(5 %, Holm's correction over the table)."
)
EpisodeValues = Mapping[str, pd.DataFrame]  # by run, a column a metric, a row a test episode


def comparison_table(
    measured: pd.DataFrame,
    published: pd.DataFrame,
    benchmark: str,
    *,
    title: str | None = None,
    order: Sequence[str] = (),
    gains: Mapping[tuple[str, str], tuple[float, float]] | None = None,
    values: EpisodeValues | None = None,
    bold: Set[tuple[str, str]] = frozenset(),
) -> Table:
    """Each learner variant's number on a benchmark, beside the published one.

    Accuracy in per cent; the mean squared error where the benchmark is regression.

    Runs that differ in nothing but the seed share a cell, others get lines of their own. What
    most cells share stands in the caption, what departs from it in footnotes. Beside a published
    number stands ↓ where ours is worse and neither lies in the other's interval, ↑ where it is
    better.

    Args:
        measured: as `records.load` returns it.
        published: as `published.published` returns it.
        benchmark: a key, for all its options in one table, or one variant of it.
        title: what the caption calls the benchmark.
        order: learner keys, first to last; all others follow, by title.
        gains: by run and metric what training changed in it, and half the width of the 95 %
            interval; None for a table that does not tell.
        values: as `records.values` returns them; without them, several seeds have no interval.
        bold: which cells stand out: heading of the column and label of the line, as `compared_rows`
            has them.
    """
    table = named_lines(measured, benchmark, order)
    shapes = sorted({shape for line in table.values() for shape in line})
    firsts = [cell.runs[0] for line in table.values() for cell in line.values()]
    common, plain = usual(firsts), judged_by(firsts)
    rows: list[list[Cell]] = []
    for label, line in table.items():
        said = {shape: departures(cell, common) for shape, cell in line.items()}
        first, *others = said.values()
        of_all = [text for text in first if all(text in other for other in others)]
        row = [Cell(label, of_all)]
        for shape in shapes:
            own = [text for text in said.get(shape, []) if text not in of_all]
            stands_out = (heading_of(shape), label) in bold
            metric, cell = metric_in(shape, plain), line.get(shape)
            row += _pair(cell, own, metric, published, values, stands_out)
            if gains is not None:
                row.append(_gain([] if cell is None else cell.runs, gains, metric))
        row.append(Cell(shares([line[at].runs[0] if at in line else None for at in shapes])))
        rows.append(row)
    columns = [Column(NAME)]
    for heading in map(heading_of, shapes):
        columns += [Column(heading, heading, MEASURED), Column(PUBLISHED, heading)]
        if gains is not None:
            columns.append(Column(GAIN, heading))
    mixed = any(protocol(run).items() - common.items() for run in firsts)
    aside = "; departures are marked" if mixed else ""
    several = any(len(cell.runs) > 1 for line in table.values() for cell in line.values())
    claim = SEEDS_CLAIM if several else CLAIM
    if any(cell.bold for row in rows for cell in row):
        claim += f" {BOLD}"
    arrows = {cell.sign for row in rows for cell in row}
    return Table(
        title=title or paper.benchmark_key(benchmark),
        caption=f"{METRICS[plain].name}, {phrases(common)}{aside}. {claim}" if rows else "no runs.",
        columns=[*columns, Column(SHARE)],
        rows=rows,
        legend={arrow: text for arrow, text in paper.AGREEMENT.items() if arrow in arrows},
    )


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
        One line a finished run and column: `column`, its heading; `label` of the line; `seed`;
        `run`; `metric`, that the column shows.
    """
    table = named_lines(measured, benchmark, order)
    plain = judged_by([cell.runs[0] for line in table.values() for cell in line.values()])
    found = [
        (heading_of(shape), label, run["seed"], run["run"], metric_in(shape, plain))
        for label, line in table.items()
        for shape, cell in line.items()
        for run in cell.runs
        if run["status"] == "done"
    ]
    return pd.DataFrame(found, columns=["column", "label", "seed", "run", "metric"])


def comparison_numbers(
    measured: pd.DataFrame,
    published: pd.DataFrame,
    benchmark: str,
    order: Sequence[str] = (),
    values: EpisodeValues | None = None,
) -> pd.DataFrame:
    """What a `comparison_table` shows, as numbers: accuracies are fractions of 1.

    Returns:
        One line a cell that has a number: `label`, `column`, `metric`, `mean`, `ci95`, `published`,
        `published_ci95`.
    """
    table = named_lines(measured, benchmark, order)
    plain = judged_by([cell.runs[0] for line in table.values() for cell in line.values()])
    found = []
    for label, line in table.items():
        for shape, cell in line.items():
            metric = metric_in(shape, plain)
            unit = metric_of(metric).unit
            _, _, (mean, ci95) = measured_cell(cell.runs, metric, values)
            theirs = paper.match(cell.runs[0], published, metric)
            bounds = (math.nan,) * 2 if theirs is None else (theirs["value"], theirs["ci95"])
            ours = [number / unit for number in (mean, ci95, *bounds)]
            if not math.isnan(mean):
                found.append((label, heading_of(shape), metric, *ours))
    names = ["label", "column", "metric", "mean", "ci95", "published", "published_ci95"]
    return pd.DataFrame(found, columns=names)


def judged_by(runs: list[RecordRow]) -> str:
    """The metric that these are compared by."""
    return next((m for m in METRICS if any(pd.notna(run.get(m)) for run in runs)), "accuracy")


def metric_in(shape: Shape, plain: str) -> str:
    """The metric that the column of a shape shows."""
    return f"accuracy@instance{shape.instance}" if shape.instance else plain


def measured_cell(
    runs: list[RecordRow], metric: str, values: EpisodeValues | None
) -> tuple[str, list[str], tuple[float, float]]:
    """A cell's number, the footnotes it needs, and the number with its interval, unrounded."""
    done, remarks = [run for run in runs if run["status"] == "done"], failures(runs)
    if not done:
        failed = any(run["status"] == "failed" for run in runs)
        return ("failed" if failed else NONE), remarks, (math.nan, math.nan)
    _, unit, form = metric_of(metric)
    means = [unit * run.get(metric, math.nan) for run in done]
    if any(pd.isna(mean) for mean in means):
        return NONE, [f"measured without {metric}", *remarks], (math.nan, math.nan)
    mean, ci95 = sum(means) / len(means), unit * done[0][f"{metric}_ci95"]
    if len(done) > 1:
        ci95 = math.nan
        if values is not None and all(run["run"] in values for run in done):
            every = np.stack([values[run["run"]][metric].to_numpy(float) for run in done])
            ci95 = unit * crossed_interval(every)[1]
        seeds = ", ".join(str(run["seed"]) for run in done)
        without = ", no interval" if math.isnan(ci95) else ""
        remarks = [f"mean of {len(done)} runs (seeds {seeds}){without}", *remarks]
    return with_interval(mean, ci95, form), remarks, (mean, ci95)


def _pair(
    cell: CellRuns | None,
    own: list[str],
    metric: str,
    published: pd.DataFrame,
    values: EpisodeValues | None,
    bold: bool,
) -> tuple[Cell, Cell]:
    """What was measured, with these footnotes of its own, and what is published of it."""
    if cell is None:
        return Cell(bold=bold), Cell()
    run = cell.runs[0]
    text, remarks, (mean, ci95) = measured_cell(cell.runs, metric, values)
    ours = Cell(text, own + remarks, bold=bold)
    found = paper.match(run, published, metric)
    if found is None:
        return ours, Cell()
    less = metric_of(metric) is METRICS["mse"]
    arrow = paper.agreement(mean, ci95, found["value"], found["ci95"], less)
    return ours, Cell(found["printed"], paper.remarks(found, run), sign=arrow)


def _gain(
    runs: list[RecordRow], gains: Mapping[tuple[str, str], tuple[float, float]], metric: str
) -> Cell:
    """What training gave the first of the runs, and whether that is less than learning."""
    if not runs or (runs[0]["run"], metric) not in gains:
        return Cell()
    run = runs[0]
    _, unit, form = metric_of(metric)
    gain, ci95 = (unit * value for value in gains[run["run"], metric])
    learned = gain + ci95 < 0 if metric == "mse" else gain >= LEARNED and gain - ci95 > 0
    least = "no" if metric == "mse" else f"less than {LEARNED} points"
    remarks = [] if learned else [f"not learned: {least} better than its own untrained network"]
    remarks += [f"over untrained: of seed {run['seed']} alone"] * (len(runs) > 1)
    return Cell(f"{gain:+{form}} ± {ci95:{form}}", remarks)


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
