"""The same comparison under two terms, side by side, and what that does to the ranks."""

from collections.abc import Mapping, Sequence

import pandas as pd

from zoo.reports.formats.table import Cell, Column, Table
from zoo.reports.metrics import is_error, metric_of
from zoo.reports.tables.comparison import (
    NAME,
    EpisodeValues,
    heading_of,
    judged_by,
    measured_cell,
    metric_in,
    named_lines,
)
from zoo.reports.tables.differences import SEEDS_TO_RANK


def ranks(
    parts: Mapping[str, pd.DataFrame],
    benchmark: str,
    title: str,
    order: Sequence[str] = (),
    values: EpisodeValues | None = None,
) -> Table:
    """Each learner's number under each of the terms, and its rank among those that have both.

    A rank is written ``2 → 5``. With fewer than three seeds of a row there are no ranks.

    Args:
        parts: by terms, the runs made under them, as `records.load` returns them.
        benchmark: a key or variant.
        title: what the caption calls the benchmark.
        order: learner keys, first to last.
        values: as `records.values` returns them.
    """
    tables = {name: named_lines(part, benchmark, order) for name, part in parts.items()}
    cells = [cell for table in tables.values() for line in table.values() for cell in line.values()]
    plain = judged_by([cell.runs[0] for cell in cells])
    shapes = sorted({at for table in tables.values() for line in table.values() for at in line})
    labels = list(dict.fromkeys(label for table in tables.values() for label in table))
    columns, rows = [Column(NAME)], [[Cell(label)] for label in labels]
    for shape in shapes:
        metric = metric_in(shape, plain)
        means, measured_by = {}, {}
        for name, table in tables.items():
            found = {
                label: measured_cell(table[label][shape].runs, metric, values)
                for label in labels
                if shape in table.get(label, {})
            }
            columns.append(Column(name, heading_of(shape)))
            for label, row in zip(labels, rows, strict=True):
                if label in found:
                    row.append(Cell(found[label].text, found[label].remarks))
                else:
                    row.append(Cell())
            measured_by[name] = found
            means[name] = pd.Series({label: one.estimate.value for label, one in found.items()})
        seeds = [len(one.runs) for found in measured_by.values() for one in found.values()]
        if not seeds or min(seeds) < SEEDS_TO_RANK:
            continue
        both = pd.DataFrame(means).dropna()
        rank = both.rank(method="min", ascending=is_error(metric)).astype(int)
        columns.append(Column("rank", heading_of(shape)))
        for label, row in zip(labels, rows, strict=True):
            known = label in rank.index
            row.append(Cell(" → ".join(map(str, rank.loc[label]))) if known else Cell())
    names = " and ".join(tables)
    return Table(
        title=f"{title}, terms {names}",
        caption=f"{metric_of(plain).name}; each learner under {names} terms, and, with three seeds "
        "of every row, its rank among those measured under both. Intervals as in the tables of "
        "each. A rank is one among all rows, transductive or not.",
        columns=columns,
        rows=rows,
    )
