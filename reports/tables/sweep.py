"""The table of a sweep: accuracy over shots and over ways, from one training."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from zoo.reports.estimates import columns_of, estimate, estimate_in, shared_episodes
from zoo.reports.formats.numbers import with_interval
from zoo.reports.formats.table import Cell, Column, Table
from zoo.reports.metrics import metric_of
from zoo.reports.published import counted
from zoo.reports.tables.cells import (
    BLOCKS,
    INDUCTIVE,
    CellRuns,
    RecordRow,
    Shape,
    block_of,
    departures,
    failures,
    listed,
    phrases,
    protocol,
    runs_of,
    usual,
    without_heading,
)
from zoo.reports.tables.comparison import INTERVALS, heading_of, ranking_words
from zoo.reports.tables.differences import bold_cells

STALE = "of other weights than its run has now: delete the record, and it is tested anew"


def sweep_numbers(
    planned: pd.DataFrame, measured: pd.DataFrame, accuracies: Mapping[str, pd.Series]
) -> pd.DataFrame:
    """What was measured at each way and shot; of several seeds the mean.

    Args:
        planned: one line a test. Columns: `learner`, its label; `way`, `shot`, `seed`; `run`, the
            name of the record; `trained`, that of the run whose weights are tested; `note`, why
            there is no record.
        measured: as `records.load` returns it, the runs whose weights are tested included.
        accuracies: by record, of each test episode.

    Returns:
        One line for each learner, way and shot: `accuracy` as a fraction of 1, and the ends of its
        95 % interval, `accuracy_low` and `accuracy_high`, nan where there is none; its `block`
        (for a learner that was tested nowhere the first), and `bold`, whether it is the best there
        at its way and shot or not told from it; `runs`, the records by seed; `marks`, for
        footnotes.
    """
    records = {run["run"]: run for run in runs_of(measured)}
    lines: list[dict[str, Any]] = []
    for (learner, way, shot), line in planned.groupby(["learner", "way", "shot"], sort=False):
        there, own, marks = [], [], []
        for name, trained in zip(line["run"], line["trained"], strict=True):
            both = [records[n] for n in (name, trained) if n in records]
            there += both[:1]
            own += [run for run in both[:1] if run["run"] == name]
            marks += [STALE] * (len({str(run["validation"]) for run in both}) > 1)
        done = [run for run in own if run["run"] in accuracies]
        marks = [*failures(there), *dict.fromkeys([*line["note"].dropna(), *marks])]
        row = {"learner": learner, "way": way, "shot": shot, "runs": done, "marks": marks}
        if done:
            values = shared_episodes([accuracies[run["run"]] for run in done])
            row |= estimate(values, "accuracy").columns("accuracy")
            if len(done) < len(line):
                marks.append(f"of {counted(len(done), 'seed', 'seeds')}, not {len(line)}")
        elif not marks:
            marks.append("measured without accuracy" if own else "not run")
        lines.append(row)
    firsts = _first_runs(lines)
    common = usual(list(firsts.values()))
    blocks = {key: block_of(run, common) for key, run in firsts.items()}
    usual_block = next(iter(blocks.values()), INDUCTIVE)
    for row in lines:
        row["block"] = blocks.get(str(row["learner"]), usual_block)
    lines.sort(key=lambda row: BLOCKS.index(row["block"]))
    columns = ["learner", "way", "shot", "block", *columns_of("accuracy"), "runs", "marks"]
    found = pd.DataFrame(lines, columns=columns)
    shown = found.assign(
        column=[heading_of(Shape(row["way"], 0, row["shot"])) for row in lines],
        label=found["learner"],
        metric="accuracy",
        value=found["accuracy"],
    )
    best = bold_cells(shown, {run: own.to_frame("accuracy") for run, own in accuracies.items()})
    return found.assign(bold=[(cell["column"], cell["label"]) in best for cell in runs_of(shown)])


def _first_runs(lines: Sequence[RecordRow]) -> dict[str, RecordRow]:
    """A run of each learner that was tested anywhere, for what all its tests share."""
    found: dict[str, RecordRow] = {}
    for line in lines:
        for run in line["runs"][:1]:
            found.setdefault(line["learner"], run)
    return found


def sweep_table(found: pd.DataFrame, title: str, way: int, shot: int) -> Table:
    """The `sweep_numbers` as a table.

    Args:
        found: as `sweep_numbers` returns it.
        title: of the benchmark.
        way: that the learners were validated at.
        shot: likewise.
    """
    shapes = sorted(
        set(zip(found["way"], found["shot"], strict=True)), key=lambda at: (at[0] != way, *at)
    )
    firsts = _first_runs(runs_of(found))
    common = usual(list(firsts.values()))
    name, unit, form, *_ = metric_of("accuracy")
    several = found["block"].nunique() > 1
    rows, blocks = [], []
    for key, lines in found.groupby("learner", sort=False):
        learner, block = str(key), lines["block"].iloc[0]
        blocks.append(block)
        about: list[str] = []
        if learner in firsts:
            about = departures(CellRuns([firsts[learner]], ""), common)
            about = without_heading(about, block, block) if several else about
            about += _trained(firsts[learner], way, shot)
        row = [Cell(learner, about)]
        cells = {(line["way"], line["shot"]): line for line in runs_of(lines)}
        for line in (cells[shape] for shape in shapes):
            text = with_interval(estimate_in(line, "accuracy").times(unit), form)
            row.append(Cell(text, line["marks"], bold=line["bold"]))
        rows.append(row)
    mixed = any(protocol(run).items() - common.items() for run in firsts.values())
    seeds = max((len(runs) for runs in found["runs"]), default=0)
    words = [
        f"{name}, {phrases(common)}" + ("; departures are marked." if mixed else "."),
        f"Each learner was trained {'once' if seeds == 1 else f'with {seeds} seeds'}, its weights "
        f"chosen by {way}-way {shot}-shot validation, and tested as they are at every way and "
        "shot; chance is 100/N % at N ways.",
        INTERVALS[seeds > 1],
        *ranking_words(rows, seeds),
    ]
    return Table(
        title=f"{title} over shots and ways",
        caption=" ".join(words) if firsts else "no runs.",
        columns=[Column("learner"), *(Column(heading_of(Shape(n, 0, k))) for n, k in shapes)],
        rows=rows,
        blocks=blocks if several else (),
    )


def sweep_csv_frame(found: pd.DataFrame) -> pd.DataFrame:
    """The `sweep_numbers`, one a line; where nothing was measured, the line has a note."""
    lines = []
    for row in runs_of(found):
        first = row["runs"][0] if row["runs"] else {}
        lines.append(
            {
                "learner": row["learner"],
                "block": row["block"],
                **{name: first.get(name) for name in ("benchmark", "terms", "budget")},
                "way": row["way"],
                "shot": row["shot"],
                "seeds": listed(row["runs"], "seed"),
                "episodes": first.get("episodes"),
                "metric": "accuracy" if row["runs"] else "",
                **estimate_in(row, "accuracy").columns("value"),
                "note": "; ".join(row["marks"]),
                "runs": listed(row["runs"], "run"),
            }
        )
    return pd.DataFrame(lines)


def _trained(run: RecordRow, way: int, shot: int) -> list[str]:
    """What training episodes were, where they were not as those of validation."""
    own = tuple(run["settings"].get(f"train_{part}") for part in ("way", "shot"))
    if None in own or own == (way, shot) or not run["updates"]:
        return []
    return ["trained on {}-way {}-shot episodes".format(*own)]
