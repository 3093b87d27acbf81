"""The same comparison under two terms, side by side, and what that does to the ranks."""

from collections.abc import Mapping, Sequence

import pandas as pd

from zoo.reports.formats.table import NONE, marked
from zoo.reports.metrics import METRICS, metric_of
from zoo.reports.tables.comparison import (
    NAME,
    EpisodeValues,
    heading_of,
    judged_by,
    measured_cell,
    metric_in,
    named_lines,
)


def ranks(
    parts: Mapping[str, pd.DataFrame],
    benchmark: str,
    title: str,
    order: Sequence[str] = (),
    values: EpisodeValues | None = None,
) -> pd.DataFrame:
    """Each learner's number under each of the terms, and its rank among those that have both.

    Args:
        parts: by terms, the runs made under them, as `records.load` returns them.
        benchmark: a key or variant.
        title: what the caption calls the benchmark.
        order: learner keys, first to last.
        values: as `records.values` returns them.

    Returns:
        A frame of text for `zoo.reports.formats.table`; a rank is written ``2 → 5``.
    """
    tables = {name: named_lines(part, benchmark, order) for name, part in parts.items()}
    cells = [cell for table in tables.values() for line in table.values() for cell in line.values()]
    plain = judged_by([cell.runs[0] for cell in cells])
    columns = sorted(
        {column for table in tables.values() for line in table.values() for column in line}
    )
    labels = list(dict.fromkeys(label for table in tables.values() for label in table))
    marks: dict[str, str] = {}
    rows: list[dict[str, str]] = [{NAME: label} for label in labels]
    for column in columns:
        metric = metric_in(column, plain)
        texts, means = {}, {}
        for name, table in tables.items():
            found = {
                label: measured_cell(table[label][column].runs, metric, values)
                for label in labels
                if column in table.get(label, {})
            }
            texts[name] = {
                label: text + marked(said, marks) for label, (text, said, _) in found.items()
            }
            means[name] = pd.Series({label: mean for label, (_, _, (mean, _)) in found.items()})
        both = pd.DataFrame(means).dropna()
        rank = both.rank(method="min", ascending=metric_of(metric) is METRICS["mse"]).astype(int)
        for label, row in zip(labels, rows, strict=True):
            for name in tables:
                row[f"{heading_of(column)}, {name}"] = texts[name].get(label, NONE)
            known = label in rank.index
            text = " → ".join(map(str, rank.loc[label])) if known else NONE
            row[f"{heading_of(column)}, rank"] = text
    frame = pd.DataFrame(rows)
    names = " and ".join(tables)
    frame.attrs = {
        "title": f"{title}, terms {names}",
        "caption": f"{metric_of(plain).name}; each learner under {names} terms, and its rank among "
        "those measured under both. Intervals as in the tables of each.",
        "notes": [(mark, text) for text, mark in marks.items()],
    }
    return frame
