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
    runs_of,
    shared_protocol,
    usual,
    without_heading,
)
from zoo.reports.tables.comparison import heading_of, interval_words, ranking_words
from zoo.reports.tables.differences import bold_cells

# Footnote on a test whose record has other validation results than the run it tests, so that it is
# a test of weights which that run no longer has.
STALE = "of other weights than its run has now: delete the record, and it is tested anew"


def sweep_numbers(
    planned: pd.DataFrame, measured: pd.DataFrame, accuracies: Mapping[str, pd.Series]
) -> pd.DataFrame:
    """The accuracy at each way and shot, over all seeds.

    Args:
        planned: one line for each test. Columns: `learner`, its label; `way`, `shot`, `seed`;
            `run`, the name of the test's record; `trained`, the name of the run whose weights are
            tested; `note`, why there is no record.
        measured: the frame from `records.load`, with the runs whose weights are tested.
        accuracies: by record, the accuracy in each test episode.

    Returns:
        One line for each learner, way and shot: `accuracy` as a fraction of 1 with the ends of its
        95 % interval, `accuracy_low` and `accuracy_high`, nan where there is none; `block`, the
        first one for a learner without any test; `bold`, whether it is the best of its block, way
        and shot or not significantly worse; `runs`, the records by seed; `marks`, the footnotes.
    """
    records = {run["run"]: run for run in runs_of(measured)}
    lines: list[dict[str, Any]] = []
    for (learner, way, shot), line in planned.groupby(["learner", "way", "shot"], sort=False):
        tests = [records[name] for name in line["run"] if name in records]
        done = [run for run in tests if run["run"] in accuracies]
        runs: list[RecordRow] = []  # for each test its record, or else the record of the training
        stale: list[str] = []
        for name, trained in zip(line["run"], line["trained"], strict=True):
            pair = [records[each] for each in (name, trained) if each in records]
            runs += pair[:1]
            if len({str(run["validation"]) for run in pair}) > 1:
                stale.append(STALE)
        marks = [*failures(runs), *dict.fromkeys([*line["note"].dropna(), *stale])]
        row = {"learner": learner, "way": way, "shot": shot, "runs": done, "marks": marks}
        if done:
            values = shared_episodes([accuracies[run["run"]] for run in done])
            row |= estimate(values, "accuracy").columns("accuracy")
            if len(done) < len(line):
                marks.append(f"of {counted(len(done), 'seed', 'seeds')}, not {len(line)}")
        elif not marks:
            marks.append("measured without accuracy" if tests else "not run")
        lines.append(row)
    first_runs = _first_runs(lines)
    common = usual(list(first_runs.values()))
    blocks = {learner: block_of(run, common) for learner, run in first_runs.items()}
    first_block = next(iter(blocks.values()), INDUCTIVE)
    for row in lines:
        row["block"] = blocks.get(str(row["learner"]), first_block)
    lines.sort(key=lambda row: BLOCKS.index(row["block"]))
    columns = ["learner", "way", "shot", "block", *columns_of("accuracy"), "runs", "marks"]
    numbers = pd.DataFrame(lines, columns=columns)
    return numbers.assign(bold=_are_bold(numbers, accuracies))


def _are_bold(numbers: pd.DataFrame, accuracies: Mapping[str, pd.Series]) -> list[bool]:
    """Whether each number is the best of its block, way and shot, or not significantly worse."""
    shapes = zip(numbers["way"], numbers["shot"], strict=True)
    shown = numbers.assign(
        column=[heading_of(Shape(way, 0, shot)) for way, shot in shapes],
        label=numbers["learner"],
        metric="accuracy",
        value=numbers["accuracy"],
    )
    values = {run: of_run.to_frame("accuracy") for run, of_run in accuracies.items()}
    best = bold_cells(shown, values)
    return [(cell["column"], cell["label"]) in best for cell in runs_of(shown)]


def _first_runs(lines: Sequence[RecordRow]) -> dict[str, RecordRow]:
    """The first run of each learner that has one; it tells what all its tests share."""
    runs: dict[str, RecordRow] = {}
    for line in lines:
        if line["runs"]:
            runs.setdefault(line["learner"], line["runs"][0])
    return runs


def sweep_table(numbers: pd.DataFrame, title: str, way: int, shot: int) -> Table:
    """The `sweep_numbers` as a table.

    Args:
        numbers: as `sweep_numbers` returns it.
        title: of the benchmark.
        way: of the learners' validation.
        shot: of the learners' validation.
    """
    shapes = set(zip(numbers["way"], numbers["shot"], strict=True))
    columns = sorted(shapes, key=lambda shape: (shape[0] != way, *shape))  # validation's way first
    first_runs = _first_runs(runs_of(numbers))
    common = usual(list(first_runs.values()))
    metric = metric_of("accuracy")
    in_blocks = numbers["block"].nunique() > 1
    rows, blocks = [], []
    for key, lines in numbers.groupby("learner", sort=False):
        learner = str(key)
        block = lines["block"].iloc[0]
        blocks.append(block)
        footnotes: list[str] = []
        if learner in first_runs:
            footnotes = departures(CellRuns([first_runs[learner]], ""), common)
            if in_blocks:
                footnotes = without_heading(footnotes, block, block)
            footnotes += _other_training_episodes(first_runs[learner], way, shot)
        row = [Cell(learner, footnotes)]
        cells = {(line["way"], line["shot"]): line for line in runs_of(lines)}
        for shape in columns:
            line = cells[shape]
            text = with_interval(estimate_in(line, "accuracy").times(metric.unit), metric.form)
            row.append(Cell(text, line["marks"], bold=line["bold"]))
        rows.append(row)
    seeds = max((len(runs) for runs in numbers["runs"]), default=0)
    words = [
        f"{metric.name}, {shared_protocol(common, list(first_runs.values()))}.",
        f"Each learner was trained {'once' if seeds == 1 else f'with {seeds} seeds'}, its weights "
        f"chosen by {way}-way {shot}-shot validation, and tested as they are at every way and "
        "shot; chance is 100/N % at N ways.",
        interval_words(seeds),
        *ranking_words(rows, seeds),
    ]
    return Table(
        title=f"{title} over shots and ways",
        caption=" ".join(words) if first_runs else "no runs.",
        columns=[Column("learner"), *(Column(heading_of(Shape(n, 0, k))) for n, k in columns)],
        rows=rows,
        blocks=blocks if in_blocks else (),
    )


def sweep_csv_frame(numbers: pd.DataFrame) -> pd.DataFrame:
    """One line for each of the `sweep_numbers`; `note` says why there is no number."""
    lines = []
    for row in runs_of(numbers):
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


def _other_training_episodes(run: RecordRow, way: int, shot: int) -> list[str]:
    """A footnote on the shape of the training episodes, where it was not that of validation."""
    train_way, train_shot = (run["settings"].get(name) for name in ("train_way", "train_shot"))
    if train_way is None or train_shot is None or not run["updates"]:
        return []
    if (train_way, train_shot) == (way, shot):
        return []
    return [f"trained on {train_way}-way {train_shot}-shot episodes"]
