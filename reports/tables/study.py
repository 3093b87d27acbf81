"""The table of a study: pairs of learners, compared on several kinds of tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from zoo.reports.estimates import (
    columns_of,
    compare,
    estimate,
    estimate_in,
    shared_episodes,
    trimmed_mean,
)
from zoo.reports.formats.numbers import ratio_text, with_interval
from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.metrics import is_error, metric_of
from zoo.reports.published import counted
from zoo.reports.tables.cells import RecordRow, doubts, failures, runs_of
from zoo.reports.tables.comparison import error_text, interval_words

SIDES = ("first", "second")
MEANS = ("trimmed_mean", "mean")  # of squared errors, beside the median
RATIOS = (
    "Of squared errors the median over the tasks is shown, and as difference the ratio of the "
    "second's error to the first's (of their geometric means): below 1 the second is better. The "
    "trimmed mean leaves out the lowest and highest tenth of the tasks; the mean, which papers "
    "print, has no interval: a few tasks decide it."
)


def study_numbers(
    planned: pd.DataFrame, measured: pd.DataFrame, values: Mapping[str, pd.Series]
) -> pd.DataFrame:
    """Both learners of each pair on each kind of tasks, and their paired difference.

    Args:
        planned: one line for each run. Columns: `tasks`; `pair`; `side`, first or second; `seed`;
            `run`, its name; `note`, the reason if there is no run.
        measured: the frame from `records.load`.
        values: by run, for each test episode the accuracy, or in regression the squared error.

    Returns:
        One line for each kind of tasks and pair: `metric`; `first` and `second`, mean accuracies
        as fractions of 1 or median squared errors; `difference`, second minus first, or the ratio
        of squared errors; each with the ends of its 95 % interval (`_low`, `_high`); of squared
        errors also the means (`first_trimmed_mean`, `first_mean` and so on); `seeds` that both
        have; `marks`, the footnotes; `runs`. nan where there is no value.
    """
    records = {run["run"]: run for run in runs_of(measured)}
    lines = []
    for (tasks, pair), line in planned.groupby(["tasks", "pair"], sort=False):
        runs = [records[name] for name in line["run"] if name in records]
        marks = list(dict.fromkeys(run["remark"] for run in runs if isinstance(run["remark"], str)))
        marks += list(dict.fromkeys(text for run in runs for text in doubts(run)))
        marks += failures(runs) + list(dict.fromkeys(line["note"].dropna()))
        of_side: dict[str, dict[int, str]] = {side: {} for side in SIDES}  # runs by seed
        for side, seed, name in zip(line["side"], line["seed"], line["run"], strict=True):
            if name in values:
                of_side[side][seed] = name
        seeds = sorted(of_side["first"].keys() & of_side["second"].keys())
        tested = [run for run in runs if run["run"] in values]
        tested_on = {(run["episodes_fingerprint"], run["data_fingerprint"]) for run in tested}
        if len(tested_on) > 1 and seeds:
            marks.append("not compared: other test episodes or data")
            seeds = []
        row: dict[str, Any] = {"tasks": tasks, "pair": pair, "seeds": seeds, "marks": marks}
        if seeds:
            pair_runs = [of_side[side][seed] for side in SIDES for seed in seeds]
            metric = "mse" if pd.isna(tested[0].get("accuracy")) else "accuracy"
            first, second = np.split(shared_episodes([values[name] for name in pair_runs]), 2)
            row |= _side_columns("first", first, metric) | _side_columns("second", second, metric)
            try:
                row |= compare(second, first, metric).estimate.columns("difference")
            except ValueError:
                marks.append("no ratio: a task's error is infinite")
            row["metric"] = metric
            row["runs"] = pair_runs
            marks += _diverged(line, records)
            planned_seeds = line["seed"].nunique()
            if len(seeds) < planned_seeds:
                marks.append(f"of {counted(len(seeds), 'seed', 'seeds')}, not {planned_seeds}")
        elif not marks:
            marks.append("not measured")
        lines.append(row)
    columns = [
        "tasks",
        "pair",
        "metric",
        *columns_of("first"),
        *columns_of("second"),
        *columns_of("difference"),
        *(f"{side}_{name}" for side in SIDES for name in MEANS),
        "seeds",
        "marks",
        "runs",
    ]
    return pd.DataFrame(lines, columns=columns)


def study_table(numbers: pd.DataFrame, title: str, heads: Sequence[str]) -> Table:
    """The `study_numbers` as a table.

    Args:
        numbers: as `study_numbers` returns it.
        title: what the caption begins with.
        heads: headings of the first and the second learner of a pair.
    """
    rows = [
        [
            Cell(line["tasks"]),
            Cell(line["pair"], line["marks"]),
            Cell(_number(line, "first")),
            *_mean_cells(line, "first"),
            Cell(_number(line, "second")),
            *_mean_cells(line, "second"),
            Cell(_number(line, "difference", "+")),
        ]
        for line in runs_of(numbers)
    ]
    metrics = list(dict.fromkeys(numbers["metric"].dropna()))
    names = "; ".join(metric_of(name).name for name in metrics)
    counts = [len(seeds) for seeds in numbers["seeds"] if len(seeds)]
    most = max(counts, default=0)
    words = [f"{names or 'no runs'}."]
    if counts:
        seeds = counted(most, "seed", "seeds")
        words.append(f"Up to {seeds}." if min(counts) < most else f"{seeds} each.")
        words.append(interval_words(most))
        words.append("Differences are paired over seeds and test episodes.")
    if "mse" in metrics:
        words.append(RATIOS)
    difference = "difference" if most != 1 else "difference between these two trained models"
    headings = ["tasks", "learner"]
    for head in heads:
        headings += [head, f"{head}: trimmed mean", f"{head}: mean"]
    columns = [Column(heading) for heading in (*headings, difference)]
    return Table(title, " ".join(words), columns, rows)


def study_csv_frame(numbers: pd.DataFrame) -> pd.DataFrame:
    """One line for each of the `study_numbers`."""
    lines = []
    for row in runs_of(numbers[numbers["metric"].notna()]):
        for name in (*SIDES, "difference"):
            line = {column: row[column] for column in ("tasks", "pair", "metric")}
            line["what"] = name
            if name == "difference" and is_error(row["metric"]):
                line["what"] = "ratio"
            line |= estimate_in(row, name).columns("value")
            line |= {mean: row.get(f"{name}_{mean}") for mean in MEANS}
            line["seeds"] = " ".join(map(str, row["seeds"]))
            line["runs"] = " ".join(row["runs"])
            lines.append(line)
    columns = ["tasks", "pair", "metric", "what", *columns_of("value"), *MEANS, "seeds", "runs"]
    return pd.DataFrame(lines, columns=columns)


def _side_columns(side: str, values: np.ndarray, metric: str) -> dict[str, float]:
    """The columns of one side of a pair: its estimate and, of squared errors, the means."""
    columns = estimate(values, metric).columns(side)
    if is_error(metric):
        columns[f"{side}_trimmed_mean"] = trimmed_mean(values)
        columns[f"{side}_mean"] = float(values.mean())
    return columns


def _diverged(planned_pair: pd.DataFrame, records: Mapping[str, RecordRow]) -> list[str]:
    """A footnote for each side with tasks that diverged in the test, as its records tell."""
    footnotes = []
    for side, part in planned_pair.groupby("side", sort=False):
        shares = [records[name]["diverged_test"] for name in part["run"] if name in records]
        shares = [share for share in shares if not pd.isna(share)]
        if shares and sum(shares) > 0:
            per_cent = 100 * sum(shares) / len(shares)
            footnotes.append(f"{side}: {per_cent:.2g} % of the tasks diverged")
    return footnotes


def _mean_cells(line: RecordRow, side: str) -> list[Cell]:
    """The trimmed mean and the mean of a squared error; empty for an accuracy."""
    values = [line[f"{side}_{name}"] for name in MEANS]
    return [Cell() if pd.isna(value) else Cell(error_text(value)) for value in values]


def _number(line: RecordRow, name: str, sign: str = "-") -> str:
    if pd.isna(line[name]):
        return NONE
    estimate = estimate_in(line, name)
    if name == "difference" and is_error(line["metric"]):
        return ratio_text(estimate)
    metric = metric_of(line["metric"])
    return with_interval(estimate.times(metric.unit), metric.form, sign)
