"""The table of a paper: its published cells, and ours beside them where something was run."""

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
    INTERVALS,
    NAME,
    PUBLISHED,
    SHARE,
    cost_words,
    cpu_hours,
    estimated,
    ranking_words,
    shares,
)
from zoo.reports.tables.differences import bold_cells

AXES = ("benchmark_key", "way", "shot", "metric")  # columns of published.csv that a column names
# Budgets whose runs are shown: the first that there is.
TRAINED_BUDGETS = ("paper", "hour", "quick", "smoke")
SAME_IN_CELL = ("row", "column", "block", "learner", "benchmark", "metric")  # of a cell's numbers
NOT_KNOWN = "not known whether transductive"
OURS, ONLY = "ours", "published only: we have no such learner"
PLAIN_ERRORS = (
    "Squared errors are means, as papers print them, without interval: a few tasks decide a mean."
)


def pick_published(published: pd.DataFrame, selectors: Mapping[str, Any]) -> list[int]:
    """The rows of published.csv, by position, that have all these values; of a list any one.

    Raises:
        ValueError: a selector is no column.
    """
    fits = pd.Series(True, index=published.index)
    for name, wanted in selectors.items():
        if name not in published:
            raise ValueError(f"no column {name!r} in published.csv")
        values = wanted if isinstance(wanted, list) else [wanted]
        fits &= published[name].astype(str).isin([str(value) for value in values])
    return [at for at, fit in enumerate(fits) if fit]


def selectors(column: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of the cell of this row and column; None where the row says that it is not printed there.

    A row that names a benchmark, a way, a shot or a metric is printed in the columns of those.

    Args:
        column: its selectors.
        row: likewise.
    """
    for name in AXES:
        wanted = row.get(name)
        values = wanted if isinstance(wanted, list) else [wanted]
        if wanted is not None and name in column and str(column[name]) not in map(str, values):
            return None
    return {**column, **row, **{name: column[name] for name in AXES if name in column}}


def fitting_runs(planned: pd.DataFrame, measured: pd.DataFrame) -> list[list[RecordRow]]:
    """For each line of `planned` the records that fit it, the best trained first.

    A record fits that has its learner, benchmark, way, shot, paper terms, and, of one of the
    budgets, its settings, but for how long it trains. One without an update does not.

    Args:
        planned: one line a cell. Columns: `row`, `column`, `learner` (None: published only),
            `benchmark`, `way`, `shot`, `metric`, `settings`, by budget, and `published`, the
            position of the cell in published.csv, or None.
        measured: as `records.load` returns it.
    """
    by_key: dict[tuple[Any, ...], list[RecordRow]] = {}
    for run in runs_of(measured):
        if run["terms"] == "paper" and run["variant"].get("updates") != 0:
            by_key.setdefault(_key(run), []).append(run)
    return [
        sorted(
            (
                run
                for run in by_key.get(_key(line), [])
                if run["budget"] in line["settings"]
                and _but_length(run["settings"]) == _but_length(line["settings"][run["budget"]])
            ),
            key=_rank,
        )
        for line in runs_of(planned)
    ]


def best_runs(runs: list[RecordRow]) -> tuple[list[RecordRow], list[str]]:
    """The seeds of those trained best, and what must be said of the better ones that failed.

    Args:
        runs: a cell's, as `fitting_runs` sorts them.
    """

    def like(a: RecordRow, b: RecordRow) -> bool:
        return a["budget"] == b["budget"] and alike(a, b)

    groups: list[list[RecordRow]] = []
    for run in runs:
        group = next((g for g in groups if like(g[0], run)), None)
        if group is None:
            groups.append([run])
        elif run["seed"] not in [other["seed"] for other in group]:
            group.append(run)
    chosen = next((g for g in groups if g[0]["status"] == "done"), groups[0] if groups else [])
    marks = [
        f"{group[0]['budget']} budget, {text}"
        for group in groups[: groups.index(chosen) if chosen else 0]
        for text in failures(group)
    ]
    return chosen, marks


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
        values: by run what each test episode gave.
        published: as `published.published` returns it.

    Returns:
        One line a cell: `row`, `column`, `learner`, `benchmark`, `metric`, `runs`, the finished
        ones; `ours`, raw, with the ends of its 95 % interval (`ours_low`, `ours_high`): a mean
        accuracy, or a mean squared error, as papers print it, without interval; `block` that ours,
        or else the published number, stands in, and `bold`, whether our accuracy is the best of
        column and block or not told from it; `printed`, and `published` with `published_ci95`, an
        accuracy as a fraction of 1; `source`; for footnotes `marks` of ours and `remarks` of the
        published one. nan or "" where there is none.
    """
    lines: list[dict[str, Any]] = []
    for line, fit in zip(runs_of(planned), runs, strict=True):
        chosen, marks = best_runs(fit)
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
        for run in row["runs"][:1]:
            row["block"] = block_of(run, common[row["benchmark"]])
    both = [*columns_of(OURS), "published", "published_ci95"]
    columns = ["row", "column", "learner", "benchmark", "metric", "block", "runs", *both]
    found = pd.DataFrame(lines, columns=[*columns, "printed", "source", "marks", "remarks"])
    ours = found[found[OURS].notna()]
    accuracies = ours[~ours["metric"].map(is_error).astype(bool)]
    shown = accuracies.assign(label=accuracies["row"], value=accuracies[OURS])
    best = bold_cells(shown, values)
    return found.assign(bold=[(cell["column"], cell["row"]) in best for cell in lines])


def _usual_by_benchmark(lines: Sequence[RecordRow]) -> dict[str, dict[str, str]]:
    """What most of our runs on each benchmark share."""
    on: dict[str, list[RecordRow]] = {}
    for line in lines:
        on.setdefault(line["benchmark"], []).extend(line["runs"][:1])
    return {benchmark: usual(runs) for benchmark, runs in on.items() if runs}


def _block_of_lines(lines: Sequence[RecordRow]) -> str:
    """The block of a row: of its numbers of ours, or, without any, of the published ones."""
    ours = [line["block"] for line in lines if line["runs"]]
    known = [block for block in ours or [line["block"] for line in lines] if block in BLOCKS]
    return block_of_row(known) if known else NOT_KNOWN


def paper_table(found: pd.DataFrame, title: str, caption: str, notes: Mapping[str, str]) -> Table:
    """The `paper_numbers` as a table; ours has the whole head where nobody printed a number.

    Args:
        found: as `paper_numbers` returns it.
        title: of the table.
        caption: what is said of it first.
        notes: what is to be said of a row, by its label.
    """
    common = _usual_by_benchmark(runs_of(found))
    lines_of = {str(key): runs_of(cells) for key, cells in found.groupby("row", sort=False)}
    blocks = {label: _block_of_lines(lines) for label, lines in lines_of.items()}
    of_ours = {line["block"] for line in runs_of(found) if line["runs"]}
    in_blocks = len({*blocks.values()} | of_ours) > 1
    rows: list[list[Cell]] = []
    labels = sorted(blocks, key=lambda label: [*BLOCKS, NOT_KNOWN].index(blocks[label]))
    for label in labels:
        lines = lines_of[label]
        printed = [line["remarks"] for line in lines if line["printed"]]
        of_all = [text for text in (printed or [[]])[0] if all(text in said for said in printed)]
        of_all = of_all if len(printed) > 1 else []
        alone = [ONLY] if all(line["learner"] is None for line in lines) else []
        own = [notes[label]] if label in notes else alone
        headed = in_blocks and TRANSDUCTIVE_BLOCK in blocks[label]
        row = [Cell(label, [*own, *_but_heading(of_all, headed)])]
        for line in lines:
            theirs = [text for text in line["remarks"] if text not in of_all]
            ours = list(line["marks"])
            if line["runs"]:
                said = departures(CellRuns(line["runs"], ""), common[line["benchmark"]])
                if in_blocks:
                    said = without_heading(said, line["block"], blocks[label])
                ours = said + ours
            row.append(Cell(line["printed"] or NONE, _but_heading(theirs, headed)))
            row.append(Cell(_text(line), ours, bold=line["bold"]))
        firsts = [run for line in lines for run in line["runs"][:1]]
        row += [Cell(shares(firsts or [None])), cpu_hours(firsts)]
        rows.append(row)
    columns = [Column(NAME)]
    for number, head in enumerate(found["column"].unique()):
        printed_at = 1 + 2 * number  # in a row: after the label, and theirs and ours before
        if all(row[printed_at].empty for row in rows):
            columns += [Column(head), Column(f"{head} {OURS}")]
        else:
            columns += [Column(head, head, PUBLISHED), Column(OURS, head)]
    words = [f"on {name}: {phrases(said)}" for name, said in common.items()]
    parts = [caption]
    if words:
        several = any(len(runs) > 1 for runs in found["runs"])
        parts += [f"Ours {'; '.join(words)}.", INTERVALS[several]]
        parts.append("Published numbers are as printed.")
        if any(is_error(metric) for metric in found["metric"].dropna()):
            parts.append(PLAIN_ERRORS)
        parts += cost_words([run for runs in found["runs"] for run in runs[:1]])
        parts += ranking_words(rows, max((len(runs) for runs in found["runs"]), default=0))
    else:
        parts.append("Nothing of ours was run yet.")
    return Table(
        title,
        " ".join(parts),
        [*columns, Column(SHARE), Column(CPU)],
        rows,
        blocks=[blocks[label] for label in labels] if in_blocks else (),
    )


def _but_heading(remarks: list[str], headed: bool) -> list[str]:
    """The remarks of a published number, but for what a heading says already."""
    return [text for text in remarks if not (headed and text == TRANSDUCTIVE)]


def paper_csv_frame(found: pd.DataFrame) -> pd.DataFrame:
    """The `paper_numbers`, one a row; a published accuracy as a fraction of 1, too."""
    lines: list[dict[str, Any]] = []
    for row in runs_of(found):
        same = {name: row[name] for name in SAME_IN_CELL}
        for what in ("published", OURS):
            if not pd.isna(row[what]):
                own = what == OURS
                line = {**same, "what": what, **_ends(row, own).columns("value")}
                line["source"] = "" if own else row["source"]
                line["seeds"] = listed(row["runs"], "seed") if own else ""
                line["runs"] = listed(row["runs"], "run") if own else ""
                lines.append(line)
    numbers = columns_of("value")
    return pd.DataFrame(lines, columns=[*SAME_IN_CELL, "what", *numbers, "source", "seeds", "runs"])


def _ends(row: RecordRow, own: bool) -> Estimate:
    """Our number, or the published one, with the ends of its interval."""
    if own:
        return estimate_in(row, OURS)
    value, half = row["published"], row["published_ci95"]
    return Estimate(value, value - half, value + half)


def _key(run: RecordRow) -> tuple[Any, ...]:
    numbers = tuple(None if pd.isna(run[name]) else int(run[name]) for name in ("way", "shot"))
    return (run["learner"], run["benchmark"], *numbers)


def _but_length(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in LENGTH}


def _rank(run: RecordRow) -> tuple[Any, ...]:
    """Where a run stands: by budget and length, then the finished ones, by seed."""
    longest = -(run["settings"].get("updates") or 0)
    rest = (run["status"] != "done", run["seed"], run["run"])
    return (TRAINED_BUDGETS.index(run["budget"]), longest, *rest)


def _published(row: pd.Series, runs: list[RecordRow]) -> dict[str, Any]:
    """The published cell, beside these runs if there are any."""
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
    """Our number of these seeds, where one is finished, for this line of `planned`."""
    metric, done = line["metric"], [run for run in runs if run["status"] == "done"]
    if not done:
        return {}
    if pd.isna(done[0].get(metric)):
        return {"marks": [f"measured without {metric}"]}
    run, marks = done[0], []
    length = run["settings"]["updates"]
    if length != (usually := line["settings"][run["budget"]]["updates"]):
        marks.append(f"trained for {length:,} updates, not the {usually:,} of its budget")
    if len(done) > 1:
        seeds = ", ".join(str(each["seed"]) for each in done)
        marks.append(f"seeds {seeds}")
        if any(each["run"] not in values for each in done):
            marks.append("no interval: what each episode gave is missing")
    if is_error(metric):
        found = Estimate(sum(each[metric] for each in done) / len(done))
    else:
        found = estimated(done, metric, values)
    return {**found.columns(OURS), "marks": marks}


def _text(line: RecordRow) -> str:
    """Our cell."""
    if pd.isna(line[OURS]):
        return "failed" if line["marks"] and not line["runs"] else NONE
    _, unit, form, *_ = metric_of(line["metric"])
    return with_interval(estimate_in(line, OURS).times(unit), form)
