"""The table of an ablation: rows that differ in one part, each compared with the first row."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

import zoo.reports.published as paper
from zoo.reports.estimates import (
    Estimate,
    columns_of,
    compare,
    estimate,
    estimate_in,
    shared_episodes,
)
from zoo.reports.formats.numbers import with_interval
from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.tables.cells import (
    CellRuns,
    RecordRow,
    block_of,
    departures,
    failures,
    listed,
    runs_of,
    shared_protocol,
    usual,
    without_heading,
)
from zoo.reports.tables.comparison import MEASURED, PUBLISHED, interval_words, ranking_words
from zoo.reports.tables.differences import bold_cells

ABLATION_COLUMNS = [
    Column("row"),
    Column("accuracy"),
    Column("difference", group="ours"),
    Column(PUBLISHED, group=PUBLISHED, head=MEASURED),
    Column("difference", group=PUBLISHED),
    Column("learned parameters"),
    Column("s an update"),
    Column("MB"),
]
COSTS = ("learned_parameters", "update_cpu_seconds", "update_seconds", "update_memory")
UPDATE_SECONDS = {
    "update_cpu_seconds": "Seconds are the CPU's, of all threads together, of an update and its "
    "episodes.",
    "update_seconds": "Seconds are of an update and its episodes by the clock, other work of the "
    "machine included: not all records know the CPU's.",
}
SAME_IN_ALL_ROWS = ["benchmark", "way", "shot", "terms", "budget"]
THEIRS = ["published", "published_ci95", "published_source"]


def ablation_numbers(
    planned: pd.DataFrame,
    measured: pd.DataFrame,
    accuracies: Mapping[str, pd.Series],
    published: pd.DataFrame,
) -> pd.DataFrame:
    """Each row's number, and its difference to the first row of its block.

    Rows that are transductive, or tested on other episodes, are in blocks of their own, and only
    rows of one block are compared. Blocks are in the order of their first rows; a row without a
    record is in the first block. Of a row with several learners, the one that is best on
    validation is taken. With several seeds the intervals are for a new seed and new test episodes.
    Published numbers are those of the first row's learner only: other papers use other encoders.

    Args:
        planned: one line for each run. Columns: `row`, its label; `learner`, as the row names it;
            `overrides` in that name; `seed`; `run`, its name; `note`, the reason if there is no
            run.
        measured: the frame from `records.load`.
        accuracies: by run, the accuracy in each test episode.
        published: as `published.published` returns it.

    Returns:
        One line for each row: `row`, `learner`; `block`; `bold`, whether it is the best of its
        block or not significantly worse; `runs`, the finished ones by seed; accuracies as
        fractions of 1: `accuracy` and `difference` with the ends of their 95 % intervals (`_low`,
        `_high`), `published` with `published_ci95`, and `published_difference`; `printed`, the
        published number as the file writes it; `learned_parameters`; for one update
        `update_cpu_seconds` and, by the clock, `update_seconds`; `update_memory` in bytes;
        footnotes, `marks` of our number and `remarks` of the published one. nan where there is no
        value.
    """
    records = {run["run"]: run for run in runs_of(measured)}
    all_runs = [records[name] for name in planned["run"] if name in records]
    common = usual(all_runs)
    first_rows: dict[str, dict[str, Any]] = {}  # by block
    lines: list[dict[str, Any]] = []
    for label, line in planned.groupby("row", sort=False):
        learner, marks = _chosen(line, records)
        runs = [records[name] for name in learner["run"] if name in records]
        done = [run for run in runs if run["status"] == "done" and run["run"] in accuracies]
        marks += failures(runs)
        marks += [note or "not measured" for note in learner["note"][~learner["run"].isin(records)]]
        if len(done) > 1:
            marks.append(f"seeds {', '.join(str(run['seed']) for run in done)}")
        row = {"row": label, "learner": learner["learner"].iloc[0], "runs": done, "marks": marks}
        of_block = [*runs, *all_runs]
        row["block"] = block_of(of_block[0], common) if of_block else ""
        first = first_rows.setdefault(row["block"], row)
        if done:
            values = shared_episodes([accuracies[run["run"]] for run in done])
            row |= estimate(values, "accuracy").columns("accuracy")
            row |= _costs(done)
            if done[0]["learner"] == paper.benchmark_key(planned["learner"].iloc[0]):
                row |= _published(done[0], line, published)
            if first is not row:
                row |= _difference(row, first, accuracies)
        lines.append(row)
    columns = [
        "row",
        "learner",
        "block",
        "runs",
        *columns_of("accuracy"),
        *columns_of("difference"),
        *THEIRS,
        "published_difference",
        "printed",
        *COSTS,
        "marks",
        "remarks",
    ]
    blocks = [*first_rows]
    lines.sort(key=lambda row: blocks.index(row["block"]))
    numbers = pd.DataFrame(lines, columns=columns)
    return numbers.assign(bold=_are_bold(numbers, accuracies))


def _are_bold(numbers: pd.DataFrame, accuracies: Mapping[str, pd.Series]) -> list[bool]:
    """Whether each row is the best of its block, or not significantly worse."""
    shown = numbers.assign(
        column="", label=numbers["row"], metric="accuracy", value=numbers["accuracy"]
    )
    values = {run: of_run.to_frame("accuracy") for run, of_run in accuracies.items()}
    best = bold_cells(shown, values)
    return [("", row) in best for row in numbers["row"]]


def ablation_table(numbers: pd.DataFrame, title: str, source: str) -> Table:
    """The `ablation_numbers` as a table.

    Args:
        numbers: as `ablation_numbers` returns it.
        title: what the caption begins with.
        source: where the published numbers, or the rows, are from.
    """
    firsts = [runs[0] for runs in numbers["runs"] if runs]
    common = usual(firsts)
    hardware = _hardware(firsts)
    in_blocks = numbers["block"].nunique() > 1
    cpu_known = numbers["update_cpu_seconds"].notna() | numbers["update_seconds"].isna()
    seconds = "update_cpu_seconds" if cpu_known.all() else "update_seconds"
    rows: list[list[Cell]] = []
    for line in runs_of(numbers):
        marks = list(line["marks"])
        if line["runs"]:
            footnotes = departures(CellRuns(line["runs"], ""), common)
            if in_blocks:
                footnotes = without_heading(footnotes, line["block"], line["block"])
            marks += footnotes
            of_run = _hardware(line["runs"][:1])
            if of_run != hardware:
                marks.append(f"measured on {of_run}")
        theirs = Cell()
        if not pd.isna(line["printed"]):
            theirs = Cell(line["printed"], line["remarks"])
        rows.append(
            [
                Cell(line["row"], marks),
                Cell(_points(estimate_in(line, "accuracy")), bold=line["bold"]),
                Cell(_points(estimate_in(line, "difference"), sign="+")),
                theirs,
                Cell(_points(Estimate(line["published_difference"]), sign="+")),
                Cell(_number(line["learned_parameters"], ",.0f")),
                Cell(_number(line[seconds], ".3g")),
                Cell(_number(line["update_memory"] / 1e6, ",.0f")),
            ]
        )
    seeds = max((len(runs) for runs in numbers["runs"]), default=0)
    first_row = "the first row of the block" if in_blocks else numbers["row"].iloc[0]
    claim = ""
    if seeds < 2:
        claim = ", each between two trained models: of one seed they say nothing about the parts"
    words = [
        f"accuracy in %, {shared_protocol(common, firsts)}.",
        f"Differences are to {first_row}, paired over seeds and test episodes{claim}.",
        f"{UPDATE_SECONDS[seconds]} MB are what updates take at most, on {hardware}.",
        interval_words(seeds),
        "Published numbers are as printed.",
        *ranking_words(rows, seeds),
    ]
    return Table(
        f"{title} ({source})",
        " ".join(words) if firsts else "no runs.",
        ABLATION_COLUMNS,
        rows,
        blocks=list(numbers["block"]) if in_blocks else (),
    )


def ablation_csv_frame(numbers: pd.DataFrame) -> pd.DataFrame:
    """One line for each of the `ablation_numbers`; a row without a run has one without a number."""
    lines = []
    for row in runs_of(numbers):
        first = row["runs"][0] if row["runs"] else {}
        about = {name: row[name] for name in ("row", "learner", "block")}
        about |= {name: first.get(name) for name in SAME_IN_ALL_ROWS}
        about["seeds"] = listed(row["runs"], "seed")
        runs = listed(row["runs"], "run")
        metrics = [m for m in ("accuracy", "difference", *COSTS) if not pd.isna(row[m])]
        for metric in metrics or [""]:
            line = {**about, "metric": metric, "value": row.get(metric), "runs": runs}
            if metric in ("accuracy", "difference"):
                line |= estimate_in(row, metric).columns("value")
                line["published_source"] = row["published_source"]
            if metric == "accuracy":
                line |= {"published": row["published"], "published_ci95": row["published_ci95"]}
            if metric == "difference":  # papers print no interval of a difference
                line |= {"published": row["published_difference"], "published_ci95": None}
            lines.append(line)
    columns = [
        "row",
        "learner",
        "block",
        *SAME_IN_ALL_ROWS,
        "seeds",
        "metric",
        *columns_of("value"),
        *THEIRS,
        "runs",
    ]
    return pd.DataFrame(lines, columns=columns)


def _chosen(
    planned_row: pd.DataFrame, records: Mapping[str, RecordRow]
) -> tuple[pd.DataFrame, list[str]]:
    """The part of a planned row with the learner that is best on validation, and a footnote on it.

    A row of a single learner has nothing to choose, and no footnote.
    """
    tried = [lines for _, lines in planned_row.groupby("learner", sort=False)]
    if len(tried) == 1:
        return tried[0], []
    scores = [_validated(lines["run"], records) for lines in tried]
    overrides = [dict(lines["overrides"].iloc[0]) for lines in tried]
    names = [_different_overrides(of_learner, overrides) or "as it is" for of_learner in overrides]
    if all(pd.isna(score) for score in scores):
        return tried[0].assign(run=None, note="none of them was validated"), []
    best = max(range(len(tried)), key=lambda i: -1 if pd.isna(scores[i]) else scores[i])
    texts = [
        f"{name} {'not measured' if pd.isna(score) else format(100 * score, '.2f')}"
        for name, score in zip(names, scores, strict=True)
    ]
    text = f"{names[best]}, the best of {len(tried)} on validation: {', '.join(texts)}"
    return tried[best], [text]


def _different_overrides(overrides: Mapping[str, Any], of_all: list[dict[str, Any]]) -> str:
    """As text, the overrides whose value some other learner of the row does not have."""
    different = {}
    for name, value in overrides.items():
        if any(others.get(name) != value for others in of_all):
            different[name] = value
    return paper.format_overrides(different)


def _validated(names: pd.Series, records: Mapping[str, RecordRow]) -> float:
    """The mean over seeds of the validation accuracy of the weights that were tested.

    nan where it is not known of every seed.
    """
    accuracies = []
    for name in names:
        run = records.get(name)
        if run is None or run["status"] != "done" or not isinstance(run["validation"], list):
            return float("nan")
        for update, accuracy in run["validation"]:
            if update == run["tested_update"]:
                accuracies.append(accuracy)
    return sum(accuracies) / len(accuracies) if len(accuracies) == len(names) else float("nan")


def _difference(
    row: dict[str, Any], first: dict[str, Any], accuracies: Mapping[str, pd.Series]
) -> dict[str, Any]:
    """Our difference, paired over the seeds that both rows have, and that of the published numbers.

    Where they cannot be compared, the row gets a footnote.
    """
    seeds = {run["seed"] for run in row["runs"]} & {run["seed"] for run in first["runs"]}
    if not seeds:
        row["marks"].append(f"no difference: {first['row']} was not measured")
        return {}
    runs = []  # those of the row, then those of the first row, each by seed
    for each in (row, first):
        shared = [run for run in each["runs"] if run["seed"] in seeds]
        runs += sorted(shared, key=lambda run: run["seed"])
    if len({run["episodes_fingerprint"] for run in runs}) > 1:
        row["marks"].append(f"no difference: other test episodes than {first['row']}")
        return {}
    if len(seeds) < len(row["runs"]):
        row["marks"].append(f"difference of seeds {', '.join(map(str, sorted(seeds)))} alone")
    of_row, of_first = np.split(shared_episodes([accuracies[run["run"]] for run in runs]), 2)
    difference = compare(of_row, of_first, "accuracy").estimate.columns("difference")
    if not pd.isna(row.get("published")) and not pd.isna(first.get("published")):
        difference["published_difference"] = round(row["published"] - first["published"], 9)
    return difference


def _published(
    run: RecordRow, planned_row: pd.DataFrame, published: pd.DataFrame
) -> dict[str, Any]:
    """The published number of a row of one learner.

    Only the overrides in the learner's name count, not those that all rows were given.
    """
    if planned_row["learner"].nunique() > 1:
        return {}
    row = paper.match({**run, "variant": planned_row["overrides"].iloc[0]}, published)
    if row is None:
        return {}
    return {
        "published": round(row["value"] / 100, 9),
        "published_ci95": round(row["ci95"] / 100, 9),
        "published_source": row["source"],
        "printed": row["printed"],
        "remarks": paper.remarks(row, run),
    }


def _costs(runs: list[RecordRow]) -> dict[str, float]:
    """Learned parameters; seconds per update, averaged over seeds; the largest memory in bytes."""
    frame = pd.DataFrame(runs)
    updates = frame["updates"].astype(float)

    def per_update(name: str) -> float:
        seconds = frame[name].astype(float) / updates
        return float(seconds.where(updates > 0).mean(skipna=False))

    return {
        "learned_parameters": frame["learned_parameters"].astype(float).iloc[0],
        "update_cpu_seconds": per_update("update_cpu_seconds"),
        "update_seconds": per_update("update_seconds"),
        "update_memory": frame["update_memory"].astype(float).max(),
    }


def _hardware(runs: list[RecordRow]) -> str:
    """The machine and threads that most of these runs were made on."""
    machines = []
    for run in runs:
        machine = run["device_name"] or run["device"] or "a machine not named"
        if run["device"] == "cpu" and not pd.isna(run["threads"]):
            machine += f", {paper.counted(run['threads'], 'thread', 'threads')}"
        machines.append(machine)
    return max(machines, key=machines.count) if machines else ""


def _points(fraction: Estimate, sign: str = "-") -> str:
    return with_interval(fraction.times(100), sign=sign)


def _number(value: float, form: str) -> str:
    return NONE if pd.isna(value) else format(value, form)
