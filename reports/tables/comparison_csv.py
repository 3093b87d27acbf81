"""The raw numbers of a comparison."""

import pandas as pd

import zoo.reports.published as paper
from zoo.reports.metrics import metric_of
from zoo.reports.tables.cells import runs_of
from zoo.reports.tables.comparison import share

AGREEMENT_WORDS = {paper.REACHED: "reached", paper.BELOW: "worse", "": "agrees"}


def comparison_csv_frame(measured: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Raw numbers, one a row: each metric of each run; a failed run has one row without a number.

    `published` and `published_ci95` are in the unit of `mean`: an accuracy is a fraction of 1.
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
            row |= {"mean": run.get(metric), "ci95": run.get(f"{metric}_ci95")}
            row |= {"episodes": run["episodes"], "share": share(run), "run": run["run"]}
            asked = repr([metric, *(run[n] for n in [*same[:4], "settings", "backbone_family"])])
            if asked not in known:
                known[asked] = paper.match(run, published, metric)
            if (found := known[asked]) is not None:
                unit = metric_of(metric).unit
                row["published"] = round(found["value"] / unit, 9)
                row["published_ci95"] = round(found["ci95"] / unit, 9)
                row["published_source"] = found["source"]
                bounds = row["mean"], row["ci95"], row["published"], row["published_ci95"]
                row["agreement"] = AGREEMENT_WORDS[
                    paper.agreement(*bounds, metric.startswith("mse"))
                ]
            rows.append(row)
    numbers = ["metric", "mean", "ci95", "episodes"]
    theirs = ["published", "published_ci95", "published_source", "agreement"]
    columns = [same[0], "variant", *same[1:], *numbers, *theirs, "share", "run"]
    frame = pd.DataFrame(rows, columns=columns)
    by = ["benchmark", "learner", "variant", "way", "shot", "metric", "terms", "budget", "seed"]
    return frame.sort_values([*by, "run"], ignore_index=True)
