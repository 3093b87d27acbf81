"""The table of a study: learners beside others, pair by pair."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from zoo.reports.estimates import columns_of, compare, estimate, estimate_in
from zoo.reports.formats.numbers import ratio_text, with_interval
from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.metrics import is_error, metric_of
from zoo.reports.published import counted
from zoo.reports.tables.cells import RecordRow, doubts, failures, runs_of
from zoo.reports.tables.comparison import INTERVALS

SIDES = ("first", "second")
RATIOS = (
    "Of squared errors the median over the tasks is shown, and as difference the ratio of the "
    "second's error to the first's (of their geometric means): below 1 the second is better."
)


def study_numbers(
    planned: pd.DataFrame, measured: pd.DataFrame, values: Mapping[str, pd.Series]
) -> pd.DataFrame:
    """Each pair on each kind of tasks: both means, and their paired difference.

    Args:
        planned: one line a run. Columns: `tasks`, `pair`, `side` (first or second), `seed`, `run`,
            `note`, why it has none.
        measured: as `records.load` returns it.
        values: by run, of each test episode: accuracy, or in regression the squared error.

    Returns:
        One line for each of tasks and pair: `metric`; `first` and `second`, mean accuracies as
        fractions of 1 or median squared errors; `difference`, second minus first, of squared
        errors their ratio; each with the ends of its 95 % interval (`_low`, `_high`); `seeds`,
        that both have; `marks`, for footnotes; `runs`. nan where there is none.
    """
    records = {run["run"]: run for run in runs_of(measured)}
    lines = []
    for (tasks, pair), line in planned.groupby(["tasks", "pair"], sort=False):
        names = {side: dict(part[["seed", "run"]].values) for side, part in line.groupby("side")}
        runs = [records[name] for name in line["run"] if name in records]
        marks = list(dict.fromkeys(run["remark"] for run in runs if isinstance(run["remark"], str)))
        marks += list(dict.fromkeys(text for run in runs for text in doubts(run)))
        marks += failures(runs) + list(dict.fromkeys(line["note"].dropna()))
        done = {s: {k for k, run in names.get(s, {}).items() if run in values} for s in SIDES}
        seeds = sorted(done["first"] & done["second"])
        tested = [run for run in runs if run["run"] in values]
        proofs = {(run["episodes_fingerprint"], run["data_fingerprint"]) for run in tested}
        if len(proofs) > 1 and seeds:
            marks.append("not compared: other test episodes or data")
            seeds = []
        row: dict[str, Any] = {"tasks": tasks, "pair": pair, "seeds": seeds, "marks": marks}
        if seeds:
            a, b = (pd.DataFrame({k: values[names[s][k]] for k in seeds}).dropna().T for s in SIDES)
            shared = a.columns.intersection(b.columns)
            metric = "mse" if pd.isna(tested[0].get("accuracy")) else "accuracy"
            first, second = a[shared].to_numpy(float), b[shared].to_numpy(float)
            row |= estimate(first, metric).columns("first")
            row |= estimate(second, metric).columns("second")
            row |= compare(second, first, metric).estimate.columns("difference")
            row["metric"] = metric
            marks += _diverged(line, records)
            row["runs"] = [names[s][k] for s in SIDES for k in seeds]
            whole = line["seed"].nunique()
            if len(seeds) < whole:
                marks.append(f"of {counted(len(seeds), 'seed', 'seeds')}, not {whole}")
        elif not marks:
            marks.append("not measured")
        lines.append(row)
    ours = [column for name in (*SIDES, "difference") for column in columns_of(name)]
    columns = ["tasks", "pair", "metric", *ours, "seeds", "marks", "runs"]
    return pd.DataFrame(lines, columns=columns)


def study_table(found: pd.DataFrame, title: str, heads: Sequence[str]) -> Table:
    """The `study_numbers` as a table.

    Args:
        found: as `study_numbers` returns it.
        title: what the caption begins with.
        heads: how the first and the second of a pair are called.
    """
    rows = [
        [
            Cell(line["tasks"]),
            Cell(line["pair"], line["marks"]),
            Cell(_number(line, "first")),
            Cell(_number(line, "second")),
            Cell(_number(line, "difference", "+")),
        ]
        for line in runs_of(found)
    ]
    metrics = list(dict.fromkeys(found["metric"].dropna()))
    names = "; ".join(metric_of(name).name for name in metrics)
    seeds = max((len(of) for of in found["seeds"]), default=0)
    words = [f"{names or 'no runs'}."]
    if seeds:
        few = min(len(of) for of in found["seeds"] if len(of)) < seeds
        each = (
            f"Up to {counted(seeds, 'seed', 'seeds')}"
            if few
            else (f"{counted(seeds, 'seed', 'seeds')} each")
        )
        words.append(f"{each}. {INTERVALS[seeds > 1]}")
        words.append("Differences are paired over seeds and test episodes.")
    if "mse" in metrics:
        words.append(RATIOS)
    difference = "difference" if seeds != 1 else "difference between these two trained models"
    columns = [Column(name) for name in ("tasks", "learner", *heads, difference)]
    return Table(title, " ".join(words), columns, rows)


def study_csv_frame(found: pd.DataFrame) -> pd.DataFrame:
    """The `study_numbers`, one a line."""
    lines = [
        {
            "tasks": row["tasks"], "pair": row["pair"], "metric": row["metric"],
            "what": "ratio" if what == "difference" and is_error(row["metric"]) else what,
            **estimate_in(row, what).columns("value"),
            "seeds": " ".join(map(str, row["seeds"])), "runs": " ".join(row["runs"]),
        }
        for row in runs_of(found[found["metric"].notna()])
        for what in (*SIDES, "difference")
    ]  # fmt: skip
    columns = ["tasks", "pair", "metric", "what", *columns_of("value"), "seeds", "runs"]
    return pd.DataFrame(lines, columns=columns)


def _diverged(line: pd.DataFrame, records: Mapping[str, RecordRow]) -> list[str]:
    """Which sides had tasks that diverged in the test, where their records know it."""
    said = []
    for side, part in line.groupby("side", sort=False):
        shares = [records[name]["diverged_test"] for name in part["run"] if name in records]
        known = [share for share in shares if not pd.isna(share)]
        if known and sum(known) > 0:
            said.append(f"{side}: {100 * sum(known) / len(known):.2g} % of the tasks diverged")
    return said


def _number(line: RecordRow, name: str, sign: str = "-") -> str:
    if pd.isna(line[name]):
        return NONE
    found = estimate_in(line, name)
    if name == "difference" and is_error(line["metric"]):
        return ratio_text(found)
    _, unit, form, *_ = metric_of(line["metric"])
    return with_interval(found.times(unit), form, sign)
