"""The table of a search for settings: its trials, the best first."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from zoo.reports.formats.table import NONE, Cell, Column, Table
from zoo.reports.metrics import is_error, metric_of

SHOWN = 20  # trials; the file of numbers has all
OF_A_TRIAL = ["trial", "status", "updates", "validation", "seconds", "why", "opened"]


def tuning_table(
    trials: pd.DataFrame, title: str, judged_by: str, episodes: int, before: Mapping[str, Any]
) -> Table:
    """The best trials, and how many were stopped early or failed.

    Args:
        trials: a row each. Columns: `trial`, its number; `status`, whole, stopped or failed;
            `updates`; `validation`; `why`, the reason if it failed; `opened`, how often the test
            split was opened; and one for each setting.
        title: learner and benchmark.
        judged_by: the metric of the validations.
        episodes: validation episodes.
        before: the settings that the learner has without the search.
    """
    settings = [name for name in map(str, trials) if name not in OF_A_TRIAL]
    shown = ranked(trials, judged_by)
    metric = metric_of(judged_by)
    rows = []
    for trial in shown.head(SHOWN).to_dict("records"):
        marks = []
        if trial["status"] != "whole":
            marks.append(f"stopped after {trial['updates']:.0f} updates: others were better there")
        if all(trial[name] == before[name] for name in settings):
            marks.append("the settings without the search")
        value = format(metric.unit * trial["validation"], metric.form)
        cells = [Cell(str(trial["trial"]), marks), *(Cell(_text(trial[n])) for n in settings)]
        rows.append([*cells, Cell(value)])
    counts = trials["status"].value_counts()
    numbers = [f"{counts[word]} {word}" for word in ("stopped", "failed") if word in counts]
    left_out = f" ({', '.join(numbers)} early)" if numbers else ""
    caption = (
        f"{metric.typical if is_error(judged_by) else metric.name} of {episodes:,} validation "
        f"tasks, the same for all; {len(trials)} trials{left_out}, the best first. The best of "
        "many on the same tasks is partly luck: what it is worth, a test tells, or validation "
        f"with other seeds. The test split was opened {int(trials['opened'].sum())} times."
    )
    columns = [Column("trial"), *(Column(name) for name in settings), Column("validation")]
    return Table(f"Settings for {title}", caption, columns, rows)


def ranked(trials: pd.DataFrame, judged_by: str) -> pd.DataFrame:
    """The trials that did not fail: whole ones first, the best of each kind first."""
    alive = trials[trials["status"] != "failed"]
    return alive.assign(stopped=alive["status"] != "whole").sort_values(
        ["stopped", "validation", "trial"], ascending=[True, is_error(judged_by), True]
    )


def _text(value: Any) -> str:
    """A setting's value as it is written on the command line."""
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return NONE
    return f"{value:g}" if isinstance(value, float) else str(value)
