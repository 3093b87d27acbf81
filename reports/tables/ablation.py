"""The table of an ablation: rows that differ in one part, each beside the first of them."""

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
    phrases,
    protocol,
    runs_of,
    usual,
    without_heading,
)
from zoo.reports.tables.comparison import INTERVALS, MEASURED, PUBLISHED, ranking_words
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


def ablation_numbers(
    planned: pd.DataFrame,
    measured: pd.DataFrame,
    accuracies: Mapping[str, pd.Series],
    published: pd.DataFrame,
) -> pd.DataFrame:
    """What was measured of each row, and what it differs by from the first of its block.

    Transductive rows, and rows tested on other episodes, stand in blocks of their own: only rows
    of one block are compared. Blocks come in the order of their first rows; a row without a record
    stands in the first. A row of several learners shows the one that is best on validation. Of
    several seeds the intervals are for a new seed and new test episodes. Published are numbers of
    the first row's learner alone: other papers have other encoders.

    Args:
        planned: one line a run. Columns: `row`, its label; `learner`, as the row names it; `own`,
            the overrides of that name; `seed`; `run`, its name; `note`, why it has none.
        measured: as `records.load` returns it.
        accuracies: by run, of each test episode.
        published: as `published.published` returns it.

    Returns:
        One line a row: `row`, `learner`; its `block`, and `bold`, whether it is the best there or
        not told from it; `runs`, the finished ones by seed; accuracies as fractions of 1:
        `accuracy` and `difference` with the ends of their 95 % intervals (`_low`, `_high`),
        `published` with `published_ci95`, and `published_difference`; `printed`, as `published`
        is; `learned_parameters`; of one update `update_cpu_seconds` and, by the clock,
        `update_seconds`; `update_memory` in bytes; `marks`, for footnotes of the number, and
        `remarks`, of the published one. nan where there is none.
    """
    records = {run["run"]: run for run in runs_of(measured)}
    there = [records[name] for name in planned["run"] if name in records]
    common = usual(there)
    firsts: dict[str, dict[str, Any]] = {}  # by block
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
        known = [*runs, *there]
        row["block"] = block_of(known[0], common) if known else ""
        first = firsts.setdefault(row["block"], row)
        if done:
            values = shared_episodes([accuracies[run["run"]] for run in done])
            row |= estimate(values, "accuracy").columns("accuracy")
            row |= _costs(done)
            if done[0]["learner"] == paper.benchmark_key(planned["learner"].iloc[0]):
                row |= _published(done[0], line, published)
            if first is not row:
                row |= _difference(row, first, accuracies)
        lines.append(row)
    ours = [*columns_of("accuracy"), *columns_of("difference")]
    theirs = ["published", "published_ci95", "published_difference", "published_source", "printed"]
    columns = ["row", "learner", "block", "runs", *ours, *theirs, *COSTS, "marks", "remarks"]
    blocks = [*firsts]
    lines.sort(key=lambda row: blocks.index(row["block"]))
    found = pd.DataFrame(lines, columns=columns)
    shown = found.assign(column="", label=found["row"], metric="accuracy", value=found["accuracy"])
    best = bold_cells(shown, {run: own.to_frame("accuracy") for run, own in accuracies.items()})
    return found.assign(bold=[("", row) in best for row in found["row"]])


def ablation_table(found: pd.DataFrame, title: str, source: str) -> Table:
    """The `ablation_numbers` as a table.

    Args:
        found: as `ablation_numbers` returns it.
        title: what the caption begins with.
        source: where the published numbers, or the rows, are from.
    """
    firsts = [runs[0] for runs in found["runs"] if runs]
    common = usual(firsts)
    on = _hardware(firsts)
    several = found["block"].nunique() > 1
    cpu = found["update_cpu_seconds"].notna() | found["update_seconds"].isna()
    seconds = "update_cpu_seconds" if cpu.all() else "update_seconds"
    rows: list[list[Cell]] = []
    for line in runs_of(found):
        marks = list(line["marks"])
        if line["runs"]:
            run = line["runs"][0]
            said = departures(CellRuns(line["runs"], ""), common)
            marks += without_heading(said, line["block"], line["block"]) if several else said
            marks += [f"measured on {own}" for own in [_hardware([run])] if own != on]
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
                Cell(_count(line["learned_parameters"], ",")),
                Cell(_count(line[seconds], ".3g")),
                Cell(_count(line["update_memory"] / 1e6, ",.0f")),
            ]
        )
    mixed = any(protocol(run).items() - common.items() for run in firsts)
    seeds = max((len(runs) for runs in found["runs"]), default=0)
    to = "the first row of the block" if several else found["row"].iloc[0]
    words = [
        f"accuracy in %, {phrases(common)}" + ("; departures are marked." if mixed else "."),
        f"Differences are to {to}, paired over seeds and test episodes"
        + (
            ", each between two trained models: of one seed they say nothing about the parts."
            if seeds < 2
            else "."
        ),
        f"{UPDATE_SECONDS[seconds]} MB are what updates take at most, on {on}.",
        INTERVALS[seeds > 1],
        "Published numbers are as printed.",
        *ranking_words(rows, seeds),
    ]
    return Table(
        f"{title} ({source})",
        " ".join(words) if firsts else "no runs.",
        ABLATION_COLUMNS,
        rows,
        blocks=list(found["block"]) if several else (),
    )


def ablation_csv_frame(found: pd.DataFrame) -> pd.DataFrame:
    """The `ablation_numbers`, one a line; a row without a run has one line without a number."""
    lines = []
    for row in runs_of(found):
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
            if metric in ("accuracy", "difference"):
                name = {"accuracy": "published", "difference": "published_difference"}[metric]
                line |= {"published": row[name], "published_ci95": row.get(f"{name}_ci95")}
                line["published_source"] = row["published_source"]
            lines.append(line)
    theirs = ["published", "published_ci95", "published_source"]
    columns = [
        "row",
        "learner",
        "block",
        *SAME_IN_ALL_ROWS,
        "seeds",
        "metric",
        *columns_of("value"),
        *theirs,
        "runs",
    ]
    return pd.DataFrame(lines, columns=columns)


def _chosen(line: pd.DataFrame, records: Mapping[str, RecordRow]) -> tuple[pd.DataFrame, list[str]]:
    """The lines of the learner that is best on validation, and what is said of the choice."""
    tried = [lines for _, lines in line.groupby("learner", sort=False)]
    if len(tried) == 1:
        return tried[0], []
    scores = [_validated(lines["run"], records) for lines in tried]
    said = [dict(lines["own"].iloc[0]) for lines in tried]
    names = [
        paper.format_overrides({k: v for k, v in own.items() if any(o.get(k) != v for o in said)})
        or "as it is"
        for own in said
    ]
    if all(pd.isna(score) for score in scores):
        return tried[0].assign(run=None, note="none of them was validated"), []
    best = max(range(len(tried)), key=lambda i: -1 if pd.isna(scores[i]) else scores[i])
    texts = [
        f"{name} {'not measured' if pd.isna(score) else format(100 * score, '.2f')}"
        for name, score in zip(names, scores, strict=True)
    ]
    text = f"{names[best]}, the best of {len(tried)} on validation: {', '.join(texts)}"
    return tried[best], [text]


def _validated(names: pd.Series, records: Mapping[str, RecordRow]) -> float:
    """The mean over seeds of the validation by which their tested weights were chosen."""
    found = []
    for name in names:
        run = records.get(name)
        if run is None or run["status"] != "done" or not isinstance(run["validation"], list):
            return float("nan")
        found += [value for update, value in run["validation"] if update == run["tested_update"]]
    return sum(found) / len(found) if len(found) == len(names) else float("nan")


def _difference(
    row: dict[str, Any], first: dict[str, Any], accuracies: Mapping[str, pd.Series]
) -> dict[str, Any]:
    """Ours, over the seeds of both and paired; and that of the published numbers."""
    seeds = {run["seed"] for run in row["runs"]} & {run["seed"] for run in first["runs"]}
    pair = [
        sorted((run for run in each["runs"] if run["seed"] in seeds), key=lambda run: run["seed"])
        for each in (row, first)
    ]
    if not seeds:
        row["marks"].append(f"no difference: {first['row']} was not measured")
        return {}
    if len({run["episodes_fingerprint"] for runs in pair for run in runs}) > 1:
        row["marks"].append(f"no difference: other test episodes than {first['row']}")
        return {}
    if len(seeds) < len(row["runs"]):
        row["marks"].append(f"difference of seeds {', '.join(map(str, sorted(seeds)))} alone")
    every = shared_episodes([accuracies[run["run"]] for runs in pair for run in runs])
    ours, theirs = np.split(every, 2)
    found = compare(ours, theirs, "accuracy").estimate.columns("difference")
    if not any(pd.isna(each.get("published")) for each in (row, first)):
        found["published_difference"] = round(row["published"] - first["published"], 9)
    return found


def _published(run: RecordRow, line: pd.DataFrame, published: pd.DataFrame) -> dict[str, Any]:
    """The published number of a row that names one learner, whatever all rows were given."""
    if line["learner"].nunique() > 1:
        return {}
    found = paper.match({**run, "variant": line["own"].iloc[0]}, published)
    if found is None:
        return {}
    return {
        "published": round(found["value"] / 100, 9),
        "published_ci95": round(found["ci95"] / 100, 9),
        "published_source": found["source"],
        "printed": found["printed"],
        "remarks": paper.remarks(found, run),
    }


def _costs(runs: list[RecordRow]) -> dict[str, float]:
    """Parameters; seconds of an update, the mean over seeds; memory, the largest."""
    frame = pd.DataFrame(runs)
    updates = frame["updates"].astype(float)

    def of_one(name: str) -> float:
        each = frame[name].astype(float) / updates
        return float(each.where(updates > 0).mean(skipna=False))

    return {
        "learned_parameters": frame["learned_parameters"].astype(float).iloc[0],
        "update_cpu_seconds": of_one("update_cpu_seconds"),
        "update_seconds": of_one("update_seconds"),
        "update_memory": frame["update_memory"].astype(float).max(),
    }


def _hardware(runs: list[RecordRow]) -> str:
    """What most of these were made on."""
    names = [run["device_name"] or run["device"] or "a machine not named" for run in runs]
    threads = [
        "" if pd.isna(run["threads"]) or run["device"] != "cpu"
        else paper.counted(run["threads"], "thread", "threads")
        for run in runs
    ]  # fmt: skip
    said = [", ".join(filter(None, pair)) for pair in zip(names, threads, strict=True)]
    return max(said, key=said.count) if said else ""


def _points(found: Estimate, sign: str = "-") -> str:
    return with_interval(found.times(100), sign=sign)


def _count(value: float, form: str) -> str:
    return NONE if pd.isna(value) else format(int(value) if form == "," else value, form)
