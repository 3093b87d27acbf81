"""The comparison table: measured runs beside published numbers, formatted only on the way out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

import reports.published as paper
from reports.cells import Column, Run, departures, lines, phrases, protocol, runs_of, usual
from reports.forms import NONE, marked

GAIN = "over untrained"
LEARNED = 10  # points of accuracy over the untrained network
NAME, PUBLISHED, SHARE = "learner", "published", "share of the paper's tasks"
CLAIM = (
    "± is the 95 % interval over test episodes: a claim about these trained weights. "
    "Published numbers are as printed."
)


class Metric(NamedTuple):
    """What a table shows."""

    name: str
    unit: int  # times the raw number
    form: str


METRICS = {
    "accuracy": Metric("accuracy in %", 100, ".2f"),
    "mse": Metric("mean squared error, less is better", 1, ".3f"),
}


def comparison(
    measured: pd.DataFrame,
    published: pd.DataFrame,
    benchmark: str,
    *,
    title: str | None = None,
    order: Sequence[str] = (),
    gains: Mapping[tuple[str, str], tuple[float, float]] | None = None,
) -> pd.DataFrame:
    """Each learner variant's number on a benchmark, beside the published one.

    Accuracy in per cent; the mean squared error where the benchmark is regression.

    Runs that differ in nothing but the seed share a cell, others get lines of their own. What
    most cells share stands in the caption, what departs from it in footnotes.

    Args:
        measured: as `records.load` returns it.
        published: as `published.published` returns it.
        benchmark: a key, for all its options in one table, or one variant of it.
        title: what the caption calls the benchmark.
        order: learner keys, first to last; all others follow, by title.
        gains: by run and metric what training changed in it, and half the width of the 95 %
            interval; None for a table that does not tell.

    Returns:
        A frame of text; ``attrs`` holds the `caption` and the `notes`, a list of (mark, text).
    """
    key = paper.benchmark_key(benchmark)
    names = measured["benchmark"].map(paper.benchmark_key if key == benchmark else str)
    table = list(lines(runs_of(measured[names == benchmark]), order))
    columns = sorted({column for line in table for column in line})
    firsts = [cell.runs[0] for line in table for cell in line.values()]
    common = usual(firsts)
    plain = next((m for m in METRICS if any(pd.notna(run.get(m)) for run in firsts)), "accuracy")
    marks: dict[str, str] = {}  # text of a footnote -> its letter, in order of appearance
    rows = []
    for line in table:
        said = {column: departures(cell, common) for column, cell in line.items()}
        first, *others = said.values()
        of_all = [text for text in first if all(text in other for other in others)]
        row = {NAME: _label(next(iter(line.values())).runs[0]) + marked(of_all, marks)}
        for column in columns:
            ours, theirs = NONE, NONE
            metric = f"accuracy@instance{column.instance}" if column.instance else plain
            if column in line:
                runs = line[column].runs
                ours, remarks = _measured(runs, metric)
                own = [text for text in said[column] if text not in of_all]
                ours += marked(own + remarks, marks)
                if (found := paper.match(runs[0], published, metric)) is not None:
                    theirs = found["printed"] + marked(paper.remarks(found, runs[0]), marks)
            row |= {_heading(column): ours, f"{_heading(column)}, {PUBLISHED}": theirs}
            if gains is not None:
                gain, remarks = _gain(
                    line[column].runs[0] if column in line else None, gains, metric
                )
                row[f"{_heading(column)}, {GAIN}"] = gain + marked(remarks, marks)
        row[SHARE] = shares([line[at].runs[0] if at in line else None for at in columns])
        rows.append(row)
    ends = ["", f", {PUBLISHED}", *([f", {GAIN}"] if gains is not None else [])]
    headings = [_heading(column) + end for column in columns for end in ends]
    frame = pd.DataFrame(rows, columns=[NAME, *headings, SHARE])
    mixed = any(protocol(run).items() - common.items() for run in firsts)
    aside = "; departures are marked" if mixed else ""
    caption = f"{METRICS[plain].name}, {phrases(common)}{aside}. {CLAIM}"
    frame.attrs = {
        "title": title or key,
        "caption": caption if rows else "no runs.",
        "notes": [(mark, text) for text, mark in marks.items()],
    }
    return frame


def to_csv_frame(measured: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Raw numbers, one a row: each metric of each run; a failed run has one row without a number.

    `published` and `published_ci95` are in the unit of `mean`: an accuracy is a fraction of 1.
    """
    columns = [str(name) for name in measured.columns]
    metrics = [name.removesuffix("_ci95") for name in columns if name.endswith("_ci95")]
    same = ["learner", "benchmark", "way", "shot", "terms", "budget", "seed", "status"]
    rows = []
    for run in runs_of(measured):
        here = [metric for metric in metrics if not pd.isna(run[metric])]
        for metric in here or [""]:
            row = {name: run[name] for name in same}
            row |= {"variant": paper.format_overrides(run["variant"]), "metric": metric}
            row |= {"mean": run.get(metric), "ci95": run.get(f"{metric}_ci95")}
            row |= {"episodes": run["episodes"], "share": _share(run), "run": run["run"]}
            if (found := paper.match(run, published, metric)) is not None:
                unit = 100 if metric.startswith("accuracy") else 1
                row["published"] = round(found["value"] / unit, 9)
                row["published_ci95"] = round(found["ci95"] / unit, 9)
                row["published_source"] = found["source"]
            rows.append(row)
    numbers = ["metric", "mean", "ci95", "episodes"]
    theirs = ["published", "published_ci95", "published_source"]
    columns = [same[0], "variant", *same[1:], *numbers, *theirs, "share", "run"]
    frame = pd.DataFrame(rows, columns=columns)
    by = ["benchmark", "learner", "variant", "way", "shot", "metric", "terms", "budget", "seed"]
    return frame.sort_values([*by, "run"], ignore_index=True)


def metric_of(name: str) -> Metric:
    """What is shown of a metric; an accuracy at some instance is an accuracy."""
    return METRICS[name.partition("@")[0]]


def _measured(runs: list[Run], metric: str) -> tuple[str, list[str]]:
    """A cell's number, and the footnotes it needs: failures and seeds."""
    done, remarks = [run for run in runs if run["status"] == "done"], failures(runs)
    if not done:
        return "failed", remarks
    _, unit, form = metric_of(metric)
    means = [unit * run.get(metric, float("nan")) for run in done]
    if any(pd.isna(mean) for mean in means):
        return NONE, [f"measured without {metric}", *remarks]
    mean, ci95 = format(sum(means) / len(means), form), unit * done[0][f"{metric}_ci95"]
    if len(done) > 1:
        seeds = ", ".join(str(run["seed"]) for run in done)
        return mean, [f"mean of {len(done)} runs (seeds {seeds}), no interval", *remarks]
    return mean + ("" if pd.isna(ci95) else f" ± {ci95:{form}}"), remarks


def failures(runs: list[Run]) -> list[str]:
    """What a reader must know of those of one cell's runs that failed."""
    remarks: list[str] = []
    for run in (run for run in runs if run["status"] != "done"):
        seed = f"seed {run['seed']} " if len(runs) > 1 else ""
        when: str = "" if pd.isna(run["failed_at"]) else f" at update {run['failed_at']}"
        why: str = (
            "no reason recorded" if pd.isna(run["failure"]) else " ".join(run["failure"].split())
        )
        remarks.append(f"{seed}failed{when}: {why}")
    return remarks


def _gain(
    run: Run | None, gains: Mapping[tuple[str, str], tuple[float, float]], metric: str
) -> tuple[str, list[str]]:
    """What training gave a run, and whether that is less than learning."""
    if run is None or (run["run"], metric) not in gains:
        return NONE, []
    _, unit, form = metric_of(metric)
    gain, ci95 = (unit * value for value in gains[run["run"], metric])
    learned = gain + ci95 < 0 if metric == "mse" else gain >= LEARNED and gain - ci95 > 0
    least = "no" if metric == "mse" else f"less than {LEARNED} points"
    remarks = [] if learned else [f"not learned: {least} better than its own untrained network"]
    return f"{gain:+{form}} ± {ci95:{form}}", remarks


def _share(run: Run) -> float:
    """Training tasks seen, of those the paper trained on; nan where either is not known."""
    seen, paper_tasks = run["tasks_seen"], run["tasks_paper"]
    return float("nan") if pd.isna(seen) or pd.isna(paper_tasks) else seen / paper_tasks


def shares(runs: list[Run | None]) -> str:
    """``12 %`` where all columns agree, else one share a column: ``12 / 24 %``."""
    texts = [NONE if run is None else _per_cent(run) for run in runs]
    if len({text for text, run in zip(texts, runs, strict=True) if run is not None}) == 1:
        texts = [text for text, run in zip(texts, runs, strict=True) if run is not None][:1]
    return " / ".join(texts) + ("" if set(texts) == {NONE} else " %")


def _per_cent(run: Run) -> str:
    """The share in whole per cent, rounded down: 99.9 is not yet all."""
    share = _share(run)
    if pd.isna(share):
        return NONE
    return (
        "<1" if 0 < share < 0.01 else str(100 * int(run["tasks_seen"]) // int(run["tasks_paper"]))
    )


def _heading(at: Column) -> str:
    if at.instance:
        return f"{at.way}-way instance {at.instance}"
    return f"{at.way}-way {at.shot}-shot" if at.way else f"{at.shot}-shot"


def _label(run: Run) -> str:
    own = {name: value for name, value in run["variant"].items() if name != "host"}
    overrides = paper.format_overrides(own)  # a plug-in's title names its host
    return f"{run['title']} [{overrides}]" if overrides else run["title"]
