"""The table of a study: learners beside others, pair by pair."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from zoo.reports.formats.numbers import with_interval
from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.metrics import METRICS
from zoo.reports.published import counted
from zoo.reports.statistics import crossed_interval
from zoo.reports.tables.cells import RecordRow, doubts, failures, runs_of

SIDES = ("first", "second")
HUGE = 1e5  # an error from where it is written with its power of ten
INTERVAL = {
    False: "± is the 95 % interval over test episodes: a claim about these trained weights.",
    True: "± is the 95 % interval for a new seed and new test episodes; of a single seed over test "
    "episodes alone.",
}


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
        One line for each of tasks and pair: `metric`; `first`, `second` and `difference`, raw, with
        half-widths of 95 % intervals (`_ci95`); `seeds`, that both have; `marks`, for footnotes;
        `runs`. nan where there is none.
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
            parts = {"first": a[shared], "second": b[shared], "difference": b[shared] - a[shared]}
            for name, part in parts.items():
                row[name], row[f"{name}_ci95"] = crossed_interval(part.to_numpy())
            row["metric"] = "mse" if pd.isna(runs[0].get("accuracy")) else "accuracy"
            row["runs"] = [names[s][k] for s in SIDES for k in seeds]
            whole = line["seed"].nunique()
            if len(seeds) < whole:
                marks.append(f"of {counted(len(seeds), 'seed', 'seeds')}, not {whole}")
        elif not marks:
            marks.append("not measured")
        lines.append(row)
    ours = [f"{name}{end}" for name in (*SIDES, "difference") for end in ("", "_ci95")]
    return pd.DataFrame(lines, columns=["tasks", "pair", "metric", *ours, "seeds", "marks", "runs"])


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
    metrics = [METRICS[name].name for name in dict.fromkeys(found["metric"].dropna())]
    seeds = max((len(of) for of in found["seeds"]), default=0)
    words = [f"{'; '.join(metrics) or 'no runs'}."]
    if seeds:
        few = min(len(of) for of in found["seeds"] if len(of)) < seeds
        each = (
            f"up to {counted(seeds, 'seed', 'seeds')}"
            if few
            else (f"{counted(seeds, 'seed', 'seeds')} each")
        )
        words.append(f"{each[0].upper()}{each[1:]}; {INTERVAL[seeds > 1]}")
        words.append("Differences are paired over seeds and test episodes.")
    columns = [Column(name) for name in ("tasks", "learner", *heads, "difference")]
    return Table(title, " ".join(words), columns, rows)


def study_csv_frame(found: pd.DataFrame) -> pd.DataFrame:
    """The `study_numbers`, one a line."""
    lines = [
        {
            "tasks": row["tasks"], "pair": row["pair"], "metric": row["metric"], "what": what,
            "value": row[what], "ci95": row[f"{what}_ci95"],
            "seeds": " ".join(map(str, row["seeds"])), "runs": " ".join(row["runs"]),
        }
        for row in runs_of(found[found["metric"].notna()])
        for what in (*SIDES, "difference")
    ]  # fmt: skip
    columns = ["tasks", "pair", "metric", "what", "value", "ci95", "seeds", "runs"]
    return pd.DataFrame(lines, columns=columns)


def _number(line: RecordRow, name: str, sign: str = "-") -> str:
    if pd.isna(line[name]):
        return NONE
    _, unit, form = METRICS[line["metric"]]
    form = form if unit * abs(line[name]) < HUGE else ".1e"
    return with_interval(unit * line[name], unit * line[f"{name}_ci95"], form, sign)
