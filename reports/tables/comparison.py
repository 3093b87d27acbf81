"""The comparison table: measured runs beside published numbers, formatted only on the way out."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set

import numpy as np
import pandas as pd

import zoo.reports.published as paper
from zoo.reports.formats.table import NONE, marked
from zoo.reports.metrics import METRICS, metric_of
from zoo.reports.statistics import crossed_interval
from zoo.reports.tables.cells import (
    Column,
    Line,
    RecordRow,
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
NAME, PUBLISHED, SHARE = "learner", "published", "share of the paper's tasks"
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
) -> pd.DataFrame:
    """Each learner variant's number on a benchmark, beside the published one.

    Accuracy in per cent; the mean squared error where the benchmark is regression.

    Runs that differ in nothing but the seed share a cell, others get lines of their own. What
    most cells share stands in the caption, what departs from it in footnotes.

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

    Returns:
        A frame of text for `zoo.reports.formats`. Beside a published number stands ↓ where ours is
        worse and neither lies in the other's interval, ↑ where it is better.
    """
    table = named_lines(measured, benchmark, order)
    columns = sorted({column for line in table.values() for column in line})
    firsts = [cell.runs[0] for line in table.values() for cell in line.values()]
    common, plain = usual(firsts), judged_by(firsts)
    arrows: set[str] = set()
    marks: dict[str, str] = {}  # text of a footnote -> its letter, in order of appearance
    rows: list[dict[str, str]] = []
    standing_out = set()
    for label, line in table.items():
        said = {column: departures(cell, common) for column, cell in line.items()}
        first, *others = said.values()
        of_all = [text for text in first if all(text in other for other in others)]
        row = {NAME: label + marked(of_all, marks)}
        for column in columns:
            ours, theirs = NONE, NONE
            metric, heading = metric_in(column, plain), heading_of(column)
            if (heading, label) in bold:
                standing_out.add((len(rows), heading))
            if column in line:
                runs = line[column].runs
                ours, remarks, (mean, ci95) = measured_cell(runs, metric, values)
                own = [text for text in said[column] if text not in of_all]
                ours += marked(own + remarks, marks)
                if (found := paper.match(runs[0], published, metric)) is not None:
                    less = metric_of(metric) is METRICS["mse"]
                    arrow = paper.agreement(mean, ci95, found["value"], found["ci95"], less)
                    arrows.add(arrow)
                    theirs = found["printed"] + arrow
                    theirs += marked(paper.remarks(found, runs[0]), marks)
            row |= {heading: ours, f"{heading}, {PUBLISHED}": theirs}
            if gains is not None:
                runs = line[column].runs if column in line else []
                gain, remarks = _gain(runs, gains, metric)
                row[f"{heading}, {GAIN}"] = gain + marked(remarks, marks)
        row[SHARE] = shares([line[at].runs[0] if at in line else None for at in columns])
        rows.append(row)
    ends = ["", f", {PUBLISHED}", *([f", {GAIN}"] if gains is not None else [])]
    headings = [heading_of(column) + end for column in columns for end in ends]
    frame = pd.DataFrame(rows, columns=[NAME, *headings, SHARE])
    mixed = any(protocol(run).items() - common.items() for run in firsts)
    aside = "; departures are marked" if mixed else ""
    several = any(len(cell.runs) > 1 for line in table.values() for cell in line.values())
    claim = (SEEDS_CLAIM if several else CLAIM) + f" {BOLD}" * bool(standing_out)
    caption = f"{METRICS[plain].name}, {phrases(common)}{aside}. {claim}"
    frame.attrs = {
        "title": title or paper.benchmark_key(benchmark),
        "caption": caption if rows else "no runs.",
        "notes": [(mark, text) for text, mark in marks.items()]
        + [(arrow, text) for arrow, text in paper.AGREEMENT.items() if arrow in arrows],
        "bold": standing_out,
    }
    return frame


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
        (heading_of(column), label, run["seed"], run["run"], metric_in(column, plain))
        for label, line in table.items()
        for column, cell in line.items()
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
        for column, cell in line.items():
            metric = metric_in(column, plain)
            unit = metric_of(metric).unit
            _, _, (mean, ci95) = measured_cell(cell.runs, metric, values)
            theirs = paper.match(cell.runs[0], published, metric)
            bounds = (math.nan,) * 2 if theirs is None else (theirs["value"], theirs["ci95"])
            ours = [number / unit for number in (mean, ci95, *bounds)]
            if not math.isnan(mean):
                found.append((label, heading_of(column), metric, *ours))
    names = ["label", "column", "metric", "mean", "ci95", "published", "published_ci95"]
    return pd.DataFrame(found, columns=names)


def judged_by(runs: list[RecordRow]) -> str:
    """The metric that these are compared by."""
    return next((m for m in METRICS if any(pd.notna(run.get(m)) for run in runs)), "accuracy")


def metric_in(column: Column, plain: str) -> str:
    """The metric that a column shows."""
    return f"accuracy@instance{column.instance}" if column.instance else plain


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
    text = format(mean, form) + ("" if pd.isna(ci95) else f" ± {ci95:{form}}")
    return text, remarks, (mean, ci95)


def _gain(
    runs: list[RecordRow], gains: Mapping[tuple[str, str], tuple[float, float]], metric: str
) -> tuple[str, list[str]]:
    """What training gave the first of the runs, and whether that is less than learning."""
    if not runs or (runs[0]["run"], metric) not in gains:
        return NONE, []
    run = runs[0]
    _, unit, form = metric_of(metric)
    gain, ci95 = (unit * value for value in gains[run["run"], metric])
    learned = gain + ci95 < 0 if metric == "mse" else gain >= LEARNED and gain - ci95 > 0
    least = "no" if metric == "mse" else f"less than {LEARNED} points"
    remarks = [] if learned else [f"not learned: {least} better than its own untrained network"]
    remarks += [f"over untrained: of seed {run['seed']} alone"] * (len(runs) > 1)
    return f"{gain:+{form}} ± {ci95:{form}}", remarks


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


def heading_of(at: Column) -> str:
    """What stands above a column."""
    if at.instance:
        return f"{at.way}-way instance {at.instance}"
    return f"{at.way}-way {at.shot}-shot" if at.way else f"{at.shot}-shot"


def label_of(run: RecordRow) -> str:
    """How a line is called: by the learner and what it changes."""
    own = {name: value for name, value in run["variant"].items() if name != "host"}
    overrides = paper.format_overrides(own)  # a plug-in's title names its host
    return f"{run['title']} [{overrides}]" if overrides else run["title"]
