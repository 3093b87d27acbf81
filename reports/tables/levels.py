"""The table that says which learners reach the number of their paper, and what the others lack."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from zoo.reports.costs import cpu_cost
from zoo.reports.estimates import Estimate, columns_of, estimate_in
from zoo.reports.formats.numbers import with_interval
from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.metrics import metric_of
from zoo.reports.published import LENGTH, RunLike, format_overrides, match, minus_published
from zoo.reports.tables.cells import MISSING, doubts, runs_of, shapes_of
from zoo.reports.tables.comparison import (
    EpisodeValues,
    comparison_numbers,
    heading_of,
    label_of,
    share,
)

QUARTER = 2  # validations that a quarter needs to tell whether accuracy still rises
FALL = 0.95  # accuracy still rises if the next quarter leaves at most this share of the error
COLUMNS = [
    *("label", "column", "metric", "run"),
    *columns_of("value"),
    *("published", "published_ci95"),
    *columns_of("difference"),
    *("share", "cpu_seconds", "before_last", "last", "missing"),
]
WHAT_IT_SAYS = (
    "Accuracy in %. Of several runs of a learner that differ in their length, the longest. The "
    "difference is ours minus published; a number printed without interval is taken to have ours. "
    "Validation: means over the third and the last quarter of the validations; it still rises if "
    "the last one has at least a twentieth less error. CPU hours include the stages before."
)


def longest_runs(measured: pd.DataFrame) -> pd.DataFrame:
    """Of runs that differ in their length only, those that saw the most tasks.

    Args:
        measured: the frame from `records.load`.
    """
    options = [format_overrides(options_of(run)) for run in runs_of(measured)]
    frame = measured.assign(options=options, seen=measured["tasks_seen"].astype(float).fillna(0))
    keys = ["learner", "options", "benchmark", "way", "shot", "terms"]
    return measured[frame["seen"] == frame.groupby(keys)["seen"].transform("max")]


def options_of(run: RunLike) -> dict[str, Any]:
    """The options of a run's variant, without those of its length."""
    return {name: value for name, value in run["variant"].items() if name not in LENGTH}


def ends_of_validation(validation: Any) -> tuple[float, float]:
    """The mean accuracy of the third and of the last quarter of a run's validations.

    Args:
        validation: pairs of updates and an accuracy, as a record holds them.

    Returns:
        Two fractions of 1; nan with fewer than two validations in a quarter.
    """
    points = validation if isinstance(validation, list) else []
    values = np.array([value for _, value in points if value is not None], dtype=float)
    quarter = len(values) // 4
    if quarter < QUARTER:
        return math.nan, math.nan
    return float(values[-2 * quarter : -quarter].mean()), float(values[-quarter:].mean())


def still_rises(before_last: float, last: float) -> bool:
    """Whether the error fell by a twentieth from one quarter of the validations to the next."""
    return 1 - last <= FALL * (1 - before_last)


def level_numbers(
    measured: pd.DataFrame, published: pd.DataFrame, benchmark: str, values: EpisodeValues
) -> pd.DataFrame:
    """What each learner reached, its published number, and what is missing.

    Args:
        measured: the frame from `records.load`, of one budget, with a row of status `MISSING` for
            each learner that has no run.
        published: as `published.published` returns it.
        benchmark: a key or a variant.
        values: the frames from `records.values`.

    Returns:
        One line for each learner and shape, with accuracies as fractions of 1: `label`; `column`,
        the shape; `metric`; `run`; `value` and `difference` from the published number, each with
        the ends of its interval; `published`, `published_ci95`; `share` of the paper's tasks;
        `cpu_seconds`; `before_last` and `last`, see `ends_of_validation`; `missing`, in words.
        nan where there is no value.
    """
    lines: list[dict[str, Any]] = []
    done = longest_runs(measured[measured["status"] != MISSING])
    for row in runs_of(comparison_numbers(done, published, benchmark, values=values)):
        run = row["runs"][0]
        ours, cost = estimate_in(row, "value"), cpu_cost(run)
        apart = minus_published(ours, row["published"], row["published_ci95"])
        ends = ends_of_validation(run["validation"])
        lines.append(
            {
                **{name: row[name] for name in ("label", "column", "metric")},
                "run": run["run"],
                **ours.columns("value"),
                **{name: row[name] for name in ("published", "published_ci95")},
                **apart.columns("difference"),
                "share": share(run),
                "cpu_seconds": math.nan if cost.unknown else cost.updates + cost.stages,
                "before_last": ends[0],
                "last": ends[1],
                "missing": what_is_missing(apart, *ends),
            }
        )
    for run in runs_of(measured[measured["status"] == MISSING]):
        if (theirs := match(run, published)) is not None:
            lines.append(
                {
                    "label": label_of(run),
                    "column": heading_of(shapes_of(run)[0]),
                    "metric": "accuracy",
                    "published": theirs["value"] / 100,
                    "published_ci95": theirs["ci95"] / 100,
                    "missing": run["failure"],
                }
            )
    return pd.DataFrame(lines, columns=COLUMNS)


def what_is_missing(apart: Estimate, before_last: float, last: float) -> str:
    """What a run lacks of its published number, in words.

    Args:
        apart: its accuracy minus the published one.
        before_last: see `ends_of_validation`.
        last: the same.
    """
    if math.isnan(apart.value):
        return NONE
    if not apart.high < 0:
        return "nothing"
    points = f"{-100 * apart.value:.1f} points"
    if math.isnan(last):
        return f"{points}; too few validations to tell whether it still rises"
    if still_rises(before_last, last):
        return f"{points}; still rises: longer training"
    return f"{points}; no longer rises: other settings, or a fault"


def levels_table(numbers: pd.DataFrame, measured: pd.DataFrame, title: str) -> Table:
    """The `level_numbers` as a table.

    Args:
        numbers: as `level_numbers` returns it.
        measured: as it was given to `level_numbers`; for the footnotes.
        title: what the caption begins with.
    """
    records = {run["run"]: run for run in runs_of(measured)}
    several = numbers["column"].nunique() > 1
    rows = []
    for line in numbers.to_dict("records"):
        run = records.get(line["run"])
        label = f"{line['label']}, {line['column']}" if several else line["label"]
        rows.append(
            [
                Cell(label, doubts(run) if run else []),
                Cell(_accuracy(line, "published")),
                Cell(_accuracy(line, "value")),
                Cell(_accuracy(line, "difference", "+")),
                Cell(NONE if pd.isna(line["share"]) else f"{100 * line['share']:.0f} %"),
                Cell(NONE if pd.isna(line["cpu_seconds"]) else f"{line['cpu_seconds'] / 3600:.2f}"),
                Cell(_validation(line)),
                Cell(line["missing"]),
            ]
        )
    reached = int((numbers["missing"] == "nothing").sum())
    compared = int(numbers["published"].notna().sum())
    words = f"{reached} of {compared} published numbers are reached. {WHAT_IT_SAYS}"
    heads = ("learner", "published", "measured", "difference", "share of the paper's tasks")
    columns = [Column(name) for name in (*heads, "CPU hours", "validation", "what is missing")]
    return Table(title, words, columns, rows)


def _accuracy(line: Mapping[Any, Any], name: str, sign: str = "-") -> str:
    """A number of a line in per cent, with its interval if it has one."""
    if pd.isna(line[name]):
        return NONE
    metric = metric_of(line["metric"])
    if name == "published":
        half = line["published_ci95"]
        estimate = Estimate(line[name], line[name] - half, line[name] + half)
    else:
        estimate = estimate_in(line, name)
    return with_interval(estimate.times(metric.unit), metric.form, sign)


def _validation(line: Mapping[Any, Any]) -> str:
    """``97.1 → 97.8 %``."""
    if pd.isna(line["last"]):
        return NONE
    return f"{100 * line['before_last']:.1f} → {100 * line['last']:.1f} %"
