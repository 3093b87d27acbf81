"""The table of a paper: its published numbers, and ours beside them where something was run."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from zoo.reports.estimates import Estimate, columns_of, estimate_in
from zoo.reports.formats.numbers import with_interval
from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.metrics import is_error, metric_of
from zoo.reports.published import LENGTH, TRANSDUCTIVE, remarks
from zoo.reports.tables.cells import (
    BLOCKS,
    INDUCTIVE,
    TRANSDUCTIVE_BLOCK,
    CellRuns,
    RecordRow,
    alike,
    block_of,
    block_of_row,
    departures,
    failures,
    listed,
    phrases,
    runs_of,
    usual,
    without_heading,
)
from zoo.reports.tables.comparison import (
    CPU,
    NAME,
    PUBLISHED,
    SHARE,
    cost_words,
    cpu_hours,
    estimated,
    interval_words,
    ranking_words,
    shares,
)
from zoo.reports.tables.differences import bold_cells

AXES = ("benchmark_key", "way", "shot", "metric")  # selectors that belong to a table's columns
# A cell shows runs of one budget: the first of these of which it has a finished run (`best_runs`).
TRAINED_BUDGETS = ("paper", "hour", "quick", "smoke")
# Columns of the file that our number and the published one of a cell have in common.
ABOUT = ("row", "column", "block", "learner", "benchmark", "metric")
NOT_KNOWN = "not known whether transductive"
OURS = "ours"
PUBLISHED_ONLY = "published only: we have no such learner"
PLAIN_ERRORS = (
    "Squared errors are means, as papers print them, without interval: a few tasks decide a mean."
)


def pick_published(published: pd.DataFrame, selectors: Mapping[str, Any]) -> list[int]:
    """The positions of the rows of published.csv that have all these values.

    Args:
        published: as `published.published` returns it.
        selectors: column -> a value, or a list of which any will do.

    Raises:
        ValueError: a selector is no column.
    """
    fits = pd.Series(True, index=published.index)
    for name, wanted in selectors.items():
        if name not in published:
            raise ValueError(f"no column {name!r} in published.csv")
        values = wanted if isinstance(wanted, list) else [wanted]
        fits &= published[name].astype(str).isin([str(value) for value in values])
    return [position for position, fit in enumerate(fits) if fit]


def selectors(column: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The selectors of the cell at a row and a column; None where the paper has no such cell.

    A row that selects a benchmark, way, shot or metric has cells only in the columns of these.

    Args:
        column: the column's selectors.
        row: the row's.
    """
    for name in AXES:
        wanted = row.get(name)
        values = wanted if isinstance(wanted, list) else [wanted]
        if wanted is not None and name in column and str(column[name]) not in map(str, values):
            return None
    return {**column, **row, **{name: column[name] for name in AXES if name in column}}


def fitting_runs(planned: pd.DataFrame, measured: pd.DataFrame) -> list[list[RecordRow]]:
    """For each line of `planned` the records that fit it, the longest trained first.

    A record fits if it has the learner, benchmark, way and shot of the line, was made under paper
    terms with at least one update, and has the settings that the line has for its budget, not
    counting those of how long it trains.

    Args:
        planned: one line for each cell. Columns: `row`, `column`, `learner` (None: published
            only), `benchmark`, `way`, `shot`, `metric`, `settings` by budget, and `published`, the
            position of the cell in published.csv, or None.
        measured: the frame from `records.load`.
    """
    candidates: dict[tuple[Any, ...], list[RecordRow]] = {}
    for run in runs_of(measured):
        if run["terms"] == "paper" and run["variant"].get("updates") != 0:
            candidates.setdefault(_key(run), []).append(run)
    of_lines = []
    for line in runs_of(planned):
        fitting = [run for run in candidates.get(_key(line), []) if _has_settings(run, line)]
        of_lines.append(sorted(fitting, key=_longest_first))
    return of_lines


def _has_settings(run: RecordRow, line: RecordRow) -> bool:
    """Whether a run has the settings of the line for its budget, whatever its length."""
    settings = line["settings"].get(run["budget"])
    return settings is not None and _without_length(run["settings"]) == _without_length(settings)


def best_runs(runs: list[RecordRow]) -> tuple[list[RecordRow], list[str]]:
    """The runs to show in a cell, one for each seed, and footnotes on longer ones that failed.

    Runs that differ in their seed only form a group. Shown is the first group with a finished run,
    or, without any, the first group.

    Args:
        runs: those that fit the cell, as `fitting_runs` sorts them.
    """
    groups: list[list[RecordRow]] = []
    for run in runs:
        for group in groups:
            if group[0]["budget"] == run["budget"] and alike(group[0], run):
                if run["seed"] not in [other["seed"] for other in group]:
                    group.append(run)
                break
        else:
            groups.append([run])
    if not groups:
        return [], []
    finished = [number for number, group in enumerate(groups) if group[0]["status"] == "done"]
    chosen = finished[0] if finished else 0
    marks = [
        f"{group[0]['budget']} budget, {text}"
        for group in groups[:chosen]
        for text in failures(group)
    ]
    return groups[chosen], marks


def paper_numbers(
    planned: pd.DataFrame,
    runs: list[list[RecordRow]],
    values: Mapping[str, pd.DataFrame],
    published: pd.DataFrame,
) -> pd.DataFrame:
    """Each cell's published number and ours.

    Args:
        planned: as for `fitting_runs`.
        runs: of each of its lines, as `fitting_runs` returns them.
        values: by run, a column per metric and a row per test episode.
        published: as `published.published` returns it.

    Returns:
        One line for each cell: `row`, `column`, `learner`, `benchmark`, `metric`; `runs`, the
        finished ones; `ours`, a mean accuracy as a fraction of 1 with the ends of its 95 % interval
        (`ours_low`, `ours_high`), or a mean squared error, as papers print it, without interval;
        `block` of our number, or else of the published one; `bold`, whether our accuracy is the
        best of its column and block or not significantly worse; `printed`, the published number as
        the file writes it; `published` and `published_ci95`, an accuracy as a fraction of 1;
        `source`; footnotes, `marks` of our number and `remarks` of the published one. nan or ""
        where there is no value.
    """
    lines: list[dict[str, Any]] = []
    for line, fitting in zip(runs_of(planned), runs, strict=True):
        chosen, marks = best_runs(fitting)
        row = {name: line[name] for name in ("row", "column", "learner", "benchmark", "metric")}
        row |= {"printed": "", "source": "", "remarks": [], "block": ""}
        if line["published"] is not None:
            row |= _published(published.iloc[int(line["published"])], chosen)
        if chosen:
            row |= {**_ours(chosen, line, values), "metric": line["metric"]}
        row["runs"] = [run for run in chosen if run["status"] == "done"]
        row["marks"] = row.get("marks", []) + failures(chosen) + marks
        lines.append(row)
    common = _usual_by_benchmark(lines)
    for row in lines:
        if row["runs"]:
            row["block"] = block_of(row["runs"][0], common[row["benchmark"]])
    columns = [
        "row",
        "column",
        "learner",
        "benchmark",
        "metric",
        "block",
        "runs",
        *columns_of(OURS),
        "published",
        "published_ci95",
        "printed",
        "source",
        "marks",
        "remarks",
    ]
    numbers = pd.DataFrame(lines, columns=columns)
    ours = numbers[numbers[OURS].notna()]
    accuracies = ours[~ours["metric"].map(is_error).astype(bool)]
    shown = accuracies.assign(label=accuracies["row"], value=accuracies[OURS])
    best = bold_cells(shown, values)
    return numbers.assign(bold=[(cell["column"], cell["row"]) in best for cell in lines])


def _usual_by_benchmark(lines: Sequence[RecordRow]) -> dict[str, dict[str, str]]:
    """The protocol that most of our runs on each benchmark share."""
    runs: dict[str, list[RecordRow]] = {}
    for line in lines:
        of_benchmark = runs.setdefault(line["benchmark"], [])
        if line["runs"]:
            of_benchmark.append(line["runs"][0])
    return {benchmark: usual(group) for benchmark, group in runs.items() if group}


def _block_of_lines(lines: Sequence[RecordRow]) -> str:
    """The block of a row: that of most of our numbers, or, without any, of the published ones."""
    blocks = [line["block"] for line in lines if line["runs"]]
    if not blocks:
        blocks = [line["block"] for line in lines]
    blocks = [block for block in blocks if block in BLOCKS]
    return block_of_row(blocks) if blocks else NOT_KNOWN


def paper_table(numbers: pd.DataFrame, title: str, caption: str, notes: Mapping[str, str]) -> Table:
    """The `paper_numbers` as a table.

    Args:
        numbers: as `paper_numbers` returns it.
        title: of the table.
        caption: its first words.
        notes: a footnote for each of some rows, by label.
    """
    common = _usual_by_benchmark(runs_of(numbers))
    lines_of = {str(label): runs_of(lines) for label, lines in numbers.groupby("row", sort=False)}
    blocks = {label: _block_of_lines(lines) for label, lines in lines_of.items()}
    our_blocks = {line["block"] for line in runs_of(numbers) if line["runs"]}
    in_blocks = len({*blocks.values()} | our_blocks) > 1
    labels = sorted(blocks, key=lambda label: [*BLOCKS, NOT_KNOWN].index(blocks[label]))
    rows = [
        _row(label, lines_of[label], blocks[label], in_blocks, common, notes.get(label))
        for label in labels
    ]
    columns = [Column(NAME)]
    for number, head in enumerate(numbers["column"].unique()):
        published_at = 1 + 2 * number  # a row has its label, then two cells for each column
        if all(row[published_at].empty for row in rows):  # ours is the only column of this head
            columns += [Column(head), Column(f"{head} {OURS}")]
        else:
            columns += [Column(head, head, PUBLISHED), Column(OURS, head)]
    return Table(
        title,
        f"{caption} {_claims(numbers, rows, common)}",
        [*columns, Column(SHARE), Column(CPU)],
        rows,
        blocks=[blocks[label] for label in labels] if in_blocks else (),
    )


def _row(
    label: str,
    lines: list[RecordRow],
    block: str,
    in_blocks: bool,
    common: Mapping[str, dict[str, str]],
    note: str | None,
) -> list[Cell]:
    """A row of the table: its label, published and our number of each column, and costs.

    Args:
        label: of the row.
        lines: its cells, from `paper_numbers`.
        block: that it is in.
        in_blocks: whether the table has blocks, with headings.
        common: the protocol that most of our runs on each benchmark share.
        note: a footnote on the label, if any.
    """
    remarks_of = [line["remarks"] for line in lines if line["printed"]]
    of_row: list[str] = []  # remarks that all published numbers have: on the label
    if len(remarks_of) > 1:
        of_row = [text for text in remarks_of[0] if all(text in others for others in remarks_of)]
    if note is None and all(line["learner"] is None for line in lines):
        note = PUBLISHED_ONLY
    headed = in_blocks and TRANSDUCTIVE_BLOCK in block
    on_label = [] if note is None else [note]
    row = [Cell(label, on_label + _without_transductive(of_row, headed))]
    for line in lines:
        of_published = [text for text in line["remarks"] if text not in of_row]
        of_ours = list(line["marks"])
        if line["runs"]:
            footnotes = departures(CellRuns(line["runs"], ""), common[line["benchmark"]])
            if in_blocks:
                footnotes = without_heading(footnotes, line["block"], block)
            of_ours = footnotes + of_ours
        row.append(Cell(line["printed"] or NONE, _without_transductive(of_published, headed)))
        row.append(Cell(_text(line), of_ours, bold=line["bold"]))
    firsts = [line["runs"][0] for line in lines if line["runs"]]
    return [*row, Cell(shares(firsts or [None])), cpu_hours(firsts)]


def _claims(
    numbers: pd.DataFrame, rows: Sequence[Sequence[Cell]], common: Mapping[str, dict[str, str]]
) -> str:
    """What a caption says of our numbers: their protocol, intervals, costs, and what is bold."""
    if not common:
        return "Nothing of ours was run yet."
    protocols = [f"on {benchmark}: {phrases(texts)}" for benchmark, texts in common.items()]
    seeds = max((len(runs) for runs in numbers["runs"]), default=0)
    words = [
        f"Ours {'; '.join(protocols)}.",
        interval_words(seeds),
        "Published numbers are as printed.",
    ]
    if any(is_error(metric) for metric in numbers["metric"].dropna()):
        words.append(PLAIN_ERRORS)
    words += cost_words([runs[0] for runs in numbers["runs"] if runs])
    return " ".join([*words, *ranking_words(rows, seeds)])


def _without_transductive(remarks: list[str], headed: bool) -> list[str]:
    """The remarks, without `TRANSDUCTIVE` if the heading of the block says it already."""
    return [text for text in remarks if not (headed and text == TRANSDUCTIVE)]


def paper_csv_frame(numbers: pd.DataFrame) -> pd.DataFrame:
    """One line for each of the `paper_numbers`; published accuracies are fractions of 1, too."""
    lines: list[dict[str, Any]] = []
    for cell in runs_of(numbers):
        about = {name: cell[name] for name in ABOUT}
        if not pd.isna(cell["published"]):
            value, half = cell["published"], cell["published_ci95"]
            estimate = Estimate(value, value - half, value + half)
            line = {**about, "what": "published", **estimate.columns("value")}
            lines.append({**line, "source": cell["source"], "seeds": "", "runs": ""})
        if not pd.isna(cell[OURS]):
            line = {**about, "what": OURS, **estimate_in(cell, OURS).columns("value")}
            seeds, runs = (listed(cell["runs"], name) for name in ("seed", "run"))
            lines.append({**line, "source": "", "seeds": seeds, "runs": runs})
    columns = [*ABOUT, "what", *columns_of("value"), "source", "seeds", "runs"]
    return pd.DataFrame(lines, columns=columns)


def _key(run: RecordRow) -> tuple[Any, ...]:
    numbers = tuple(None if pd.isna(run[name]) else int(run[name]) for name in ("way", "shot"))
    return (run["learner"], run["benchmark"], *numbers)


def _without_length(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those of how long a run trains."""
    return {name: value for name, value in settings.items() if name not in LENGTH}


def _longest_first(run: RecordRow) -> tuple[Any, ...]:
    """Sort key of the runs of a cell: by budget and length, then finished ones first, by seed."""
    longest = -(run["settings"].get("updates") or 0)
    rest = (run["status"] != "done", run["seed"], run["run"])
    return (TRAINED_BUDGETS.index(run["budget"]), longest, *rest)


def _published(row: pd.Series, runs: list[RecordRow]) -> dict[str, Any]:
    """The published part of a cell; its remarks compare it with the first of our runs, if any."""
    unit = 100 if row["metric"].partition("@")[0] == "accuracy" else 1
    return {
        "published": round(row["value"] / unit, 9),
        "published_ci95": round(row["ci95"] / unit, 9),
        "metric": row["metric"],
        "printed": row["printed"],
        "source": row["source"],
        "remarks": remarks(row, runs[0] if runs else None),
        "block": {"yes": TRANSDUCTIVE_BLOCK, "no": INDUCTIVE}.get(row["transductive"], NOT_KNOWN),
    }


def _ours(
    runs: list[RecordRow], line: RecordRow, values: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """Our part of a cell, from these runs of several seeds; empty where none is finished.

    Args:
        runs: of the cell.
        line: of `planned`.
        values: as for `paper_numbers`.
    """
    metric = line["metric"]
    done = [run for run in runs if run["status"] == "done"]
    if not done:
        return {}
    first = done[0]
    if pd.isna(first.get(metric)):
        return {"marks": [f"measured without {metric}"]}
    marks = []
    updates = first["settings"]["updates"]
    of_budget = line["settings"][first["budget"]]["updates"]
    if updates != of_budget:
        marks.append(f"trained for {updates:,} updates, not the {of_budget:,} of its budget")
    if len(done) > 1:
        marks.append(f"seeds {', '.join(str(run['seed']) for run in done)}")
        if any(run["run"] not in values for run in done):
            marks.append("no interval: per-episode results are missing")
    if is_error(metric):
        ours = Estimate(sum(run[metric] for run in done) / len(done))
    else:
        ours = estimated(done, metric, values)
    return {**ours.columns(OURS), "marks": marks}


def _text(line: RecordRow) -> str:
    """The text of our cell."""
    if pd.isna(line[OURS]):
        return "failed" if line["marks"] and not line["runs"] else NONE
    metric = metric_of(line["metric"])
    return with_interval(estimate_in(line, OURS).times(metric.unit), metric.form)
