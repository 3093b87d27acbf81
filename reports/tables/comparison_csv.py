"""The raw numbers of a comparison, as frames for CSV and Parquet."""

import math
from collections.abc import Sequence, Set

import numpy as np
import pandas as pd

import zoo.reports.published as paper
from zoo.reports.costs import cpu_cost
from zoo.reports.estimates import columns_of, estimate_in
from zoo.reports.metrics import METRICS, is_error, metric_of
from zoo.reports.tables.cells import RecordRow, listed, runs_of
from zoo.reports.tables.comparison import EpisodeValues, error_numbers, estimated, share

COST_COLUMNS = ["share", "cpu_seconds", "stage_cpu_seconds"]
CELL_COLUMNS = [
    "label",
    "column",
    "block",
    "metric",
    *columns_of("value"),
    "mean",
    "trimmed_mean",
    "diverged",
    "published",
    "published_ci95",
    "bold",
    "seeds",
    "runs",
]
AGREEMENT_WORDS = {paper.REACHED: "reached", paper.BELOW: "worse", "": "agrees"}


def comparison_csv_frame(
    measured: pd.DataFrame, published: pd.DataFrame, values: EpisodeValues | None = None
) -> pd.DataFrame:
    """One row for each metric of each run; a failed run has one row without a number.

    docs/tables.md explains each column and its unit.

    Args:
        measured: the frame from `records.load`.
        published: as `published.published` returns it.
        values: the frames from `records.values`.
    """
    columns = [str(name) for name in measured.columns]
    metrics = [name.removesuffix("_ci95") for name in columns if name.endswith("_ci95")]
    matches: dict[str, pd.Series | None] = {}  # so that seeds look up their published number once
    copied = ["learner", "benchmark", "way", "shot", "terms", "budget", "seed", "status"]
    rows = []
    for run in runs_of(measured):
        run_metrics = [metric for metric in metrics if not pd.isna(run[metric])]
        for metric in run_metrics or [""]:
            row = {name: run[name] for name in copied}
            row |= {"variant": paper.format_overrides(run["variant"]), "metric": metric}
            row["mean"] = run.get(metric)
            if metric.startswith(tuple(METRICS)):
                row |= estimated([run], metric, values).columns("value")
                row |= _of_errors([run], metric, values)
            else:  # a loss
                row["ci95"] = run.get(f"{metric}_ci95")
            row |= {"episodes": run["episodes"], "share": share(run), "run": run["run"]}
            cost = cpu_cost(run)
            row["cpu_seconds"] = cost.updates
            row["stage_cpu_seconds"] = math.nan if cost.unknown else cost.stages
            names = [*copied[:4], "settings", "backbone_family", "trained_on"]
            key = repr([metric, *(run.get(name) for name in names)])
            if key not in matches:
                matches[key] = paper.match(run, published, metric)
            if (theirs := matches[key]) is not None:
                unit = metric_of(metric).unit
                row["published"] = round(theirs["value"] / unit, 9)
                row["published_ci95"] = round(theirs["ci95"] / unit, 9)
                row["published_source"] = theirs["source"]
                if not is_error(metric):
                    arrow = paper.agreement(
                        estimate_in(row, "value"), row["published"], row["published_ci95"]
                    )
                    row["agreement"] = AGREEMENT_WORDS[arrow]
            rows.append(row)
    columns = [
        "learner",
        "variant",
        *copied[1:],
        "metric",
        "mean",
        *columns_of("value"),
        "ci95",
        "trimmed_mean",
        "diverged",
        "episodes",
        "published",
        "published_ci95",
        "published_source",
        "agreement",
        *COST_COLUMNS,
        "run",
    ]
    frame = pd.DataFrame(rows, columns=columns)
    by = ["benchmark", "learner", "variant", "way", "shot", "metric", "terms", "budget", "seed"]
    return frame.sort_values([*by, "run"], ignore_index=True)


def cells_csv_frame(
    shown: pd.DataFrame,
    values: EpisodeValues | None = None,
    bold: Set[tuple[str, str]] = frozenset(),
) -> pd.DataFrame:
    """One row for each cell of a comparison table, over all its seeds.

    Args:
        shown: as `comparison_numbers` returns it.
        values: the frames from `records.values`.
        bold: column and label of the cells that are bold.
    """
    rows = []
    for cell in runs_of(shown):
        runs, metric = cell["runs"], cell["metric"]
        row = {name: cell[name] for name in CELL_COLUMNS if name in cell}
        row["mean"] = np.mean([run[metric] for run in runs])
        row |= _of_errors(runs, metric, values)
        row["bold"] = (cell["column"], cell["label"]) in bold
        row["seeds"] = listed(runs, "seed")
        row["runs"] = listed(runs, "run")
        rows.append(row)
    return pd.DataFrame(rows, columns=CELL_COLUMNS)


def _of_errors(
    runs: Sequence[RecordRow], metric: str, values: EpisodeValues | None
) -> dict[str, float]:
    """The columns that only a squared error has, over all runs."""
    if not is_error(metric):
        return {}
    trimmed, diverged = error_numbers(runs, metric, values)
    return {"trimmed_mean": trimmed, "diverged": diverged}
