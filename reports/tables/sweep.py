"""The table of a sweep: accuracy over shots and over ways, from one training."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from zoo.reports.estimates import columns_of, estimate, estimate_in, shared_episodes
from zoo.reports.formats.numbers import with_interval
from zoo.reports.formats.table import Cell, Column, Table
from zoo.reports.metrics import metric_of
from zoo.reports.published import counted
from zoo.reports.tables.cells import (
    CellRuns,
    RecordRow,
    departures,
    failures,
    phrases,
    protocol,
    runs_of,
    usual,
)
from zoo.reports.tables.comparison import INTERVALS

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
        95 % interval, `accuracy_low` and `accuracy_high`, nan where there is none; `runs`, the
        records by seed; `marks`, for footnotes.
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
    columns = ["learner", "way", "shot", *columns_of("accuracy"), "runs", "marks"]
    return pd.DataFrame(lines, columns=columns)


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
    firsts: dict[str, RecordRow] = {}
    for line in runs_of(found):
        if line["runs"]:
            firsts.setdefault(line["learner"], line["runs"][0])
    common = usual(list(firsts.values()))
    name, unit, form, *_ = metric_of("accuracy")
    rows = []
    for key, lines in found.groupby("learner", sort=False):
        learner = str(key)
        about: list[str] = []
        if learner in firsts:
            about = departures(CellRuns([firsts[learner]], ""), common)
            about += _trained(firsts[learner], way, shot)
        row = [Cell(learner, about)]
        cells = {(line["way"], line["shot"]): line for line in runs_of(lines)}
        for line in (cells[shape] for shape in shapes):
            text = with_interval(estimate_in(line, "accuracy").times(unit), form)
            row.append(Cell(text, line["marks"]))
        rows.append(row)
    mixed = any(protocol(run).items() - common.items() for run in firsts.values())
    seeds = max((len(runs) for runs in found["runs"]), default=0)
    words = [
        f"{name}, {phrases(common)}" + ("; departures are marked." if mixed else "."),
        f"Each learner was trained {'once' if seeds == 1 else f'with {seeds} seeds'}, its weights "
        f"chosen by {way}-way {shot}-shot validation, and tested as they are at every way and "
        "shot; chance is 100/N % at N ways.",
        INTERVALS[seeds > 1],
    ]
    return Table(
        title=f"{title} over shots and ways",
        caption=" ".join(words) if firsts else "no runs.",
        columns=[Column("learner"), *(Column(f"{n}-way {k}-shot") for n, k in shapes)],
        rows=rows,
    )


def sweep_csv_frame(found: pd.DataFrame) -> pd.DataFrame:
    """The `sweep_numbers`, one a line; where nothing was measured, the line has a note."""
    lines = []
    for row in runs_of(found):
        first = row["runs"][0] if row["runs"] else {}
        lines.append(
            {
                "learner": row["learner"],
                **{name: first.get(name) for name in ("benchmark", "terms", "budget")},
                "way": row["way"],
                "shot": row["shot"],
                "seeds": " ".join(str(run["seed"]) for run in row["runs"]),
                "episodes": first.get("episodes"),
                "metric": "accuracy" if row["runs"] else "",
                **estimate_in(row, "accuracy").columns("value"),
                "note": "; ".join(row["marks"]),
                "runs": " ".join(run["run"] for run in row["runs"]),
            }
        )
    return pd.DataFrame(lines)


def _trained(run: RecordRow, way: int, shot: int) -> list[str]:
    """What training episodes were, where they were not as those of validation."""
    own = tuple(run["settings"].get(f"train_{part}") for part in ("way", "shot"))
    if None in own or own == (way, shot) or not run["updates"]:
        return []
    return ["trained on {}-way {}-shot episodes".format(*own)]
