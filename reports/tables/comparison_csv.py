"""The raw numbers of a comparison."""

import pandas as pd

import zoo.reports.published as paper
from zoo.reports.estimates import columns_of, estimate_in, trimmed_mean
from zoo.reports.metrics import METRICS, is_error, metric_of
from zoo.reports.tables.cells import RecordRow, runs_of
from zoo.reports.tables.comparison import EpisodeValues, estimated, share

AGREEMENT_WORDS = {paper.REACHED: "reached", paper.BELOW: "worse", "": "agrees"}


def comparison_csv_frame(
    measured: pd.DataFrame, published: pd.DataFrame, values: EpisodeValues | None = None
) -> pd.DataFrame:
    """Raw numbers, one a row: each metric of each run; a failed run has one row without a number.

    docs/tables.md says what each column is, and in which unit.

    Args:
        measured: as `records.load` returns it.
        published: as `published.published` returns it.
        values: as `records.values` returns them.
    """
    columns = [str(name) for name in measured.columns]
    metrics = [name.removesuffix("_ci95") for name in columns if name.endswith("_ci95")]
    known: dict[str, pd.Series | None] = {}  # a published number is looked up once
    same = ["learner", "benchmark", "way", "shot", "terms", "budget", "seed", "status"]
    rows = []
    for run in runs_of(measured):
        here = [metric for metric in metrics if not pd.isna(run[metric])]
        for metric in here or [""]:
            row = {name: run[name] for name in same}
            row |= {"variant": paper.format_overrides(run["variant"]), "metric": metric}
            row["mean"] = run.get(metric)
            if metric.startswith(tuple(METRICS)):
                row |= estimated([run], metric, values).columns("value")
                row |= _of_errors(run, metric, values)
            else:  # a loss
                row["ci95"] = run.get(f"{metric}_ci95")
            row |= {"episodes": run["episodes"], "share": share(run), "run": run["run"]}
            asked = repr([metric, *(run[n] for n in [*same[:4], "settings", "backbone_family"])])
            if asked not in known:
                known[asked] = paper.match(run, published, metric)
            if (found := known[asked]) is not None:
                unit = metric_of(metric).unit
                row["published"] = round(found["value"] / unit, 9)
                row["published_ci95"] = round(found["ci95"] / unit, 9)
                row["published_source"] = found["source"]
                if not is_error(metric):
                    arrow = paper.agreement(
                        estimate_in(row, "value"), row["published"], row["published_ci95"]
                    )
                    row["agreement"] = AGREEMENT_WORDS[arrow]
            rows.append(row)
    ours = ["metric", "mean", *columns_of("value"), "ci95", "trimmed_mean", "diverged", "episodes"]
    theirs = ["published", "published_ci95", "published_source", "agreement"]
    columns = [same[0], "variant", *same[1:], *ours, *theirs, "share", "run"]
    frame = pd.DataFrame(rows, columns=columns)
    by = ["benchmark", "learner", "variant", "way", "shot", "metric", "terms", "budget", "seed"]
    return frame.sort_values([*by, "run"], ignore_index=True)


def _of_errors(run: RecordRow, metric: str, values: EpisodeValues | None) -> dict[str, float]:
    """Of a squared error what stands beside its median."""
    if not is_error(metric):
        return {}
    found = {"diverged": run["diverged_test"]}
    if values is not None and run["run"] in values:
        found["trimmed_mean"] = trimmed_mean(values[run["run"]][metric].to_numpy(float))
    return found
